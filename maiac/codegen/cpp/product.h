// Products of rows given by pointers with packed panels: what matrix products and convolutions have in common. Cuts the
// work for caches and threads, calls the epilogue for every finished tile.
#pragma once
#include "epilogue.h"
#include "tile.h"

namespace maia {

struct Product {
    int64_t batch, m, n;     // `batch` independent products of m rows and n columns
    int64_t positions, run;  // k = positions * run
    int64_t piece;           // sums are made in pieces of about so many k, for accuracy; 0 for what is fastest
    bool alone;              // whether the caller is one of many threads that have work of this kind
    // Sets out[p * step + i], for 0 <= p < positions and 0 <= i < count, to the place of row `row + i` at position p.
    // Where rows_copied is set, `space` has room for copies of all of them.
    void (*rows)(const void* source, int64_t entry, int64_t row, int64_t count, const float** out, int64_t step,
                 float* space);
    bool rows_copied;
    // Writes the part k0 <= k < k1 of a panel to `out`. Null: all panels lie at `packed`, k by k, panel by panel, entry
    // by entry.
    void (*panel)(const void* source, int64_t entry, int64_t panel, int64_t k0, int64_t k1, float* out);
    const void* source;
    const float* packed;
    int64_t row0;                   // of the epilogue, for row 0 of entry 0
    int64_t row_step, column_step;  // what an entry adds to the epilogue's row and column
    // Where set, sums are written there and no epilogue is called: element (entry, row, column) to out[entry *
    // out_entry_step + row * out_step + column], rows up to a whole number of vectors.
    float* out;
    int64_t out_entry_step, out_step;
    Epilogue epilogue;
    const void* context;
};

void multiply(const Product& p);

// Which of the scratch slots of pool.h the bodies of our loops use, which one their callers use, and which one holds
// panels that are made for one product.
constexpr int WORKER_SLOT = 2, CALLER_SLOT = 3, PANELS_SLOT = 4;

}  // namespace maia
