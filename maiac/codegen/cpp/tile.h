// The register-blocked inner loop of matrix products and convolutions: a few rows times a few packed panels.
#pragma once
#include "simd.h"
#include "whole.h"

namespace maia {

// A packed panel holds NR columns of the right factor, k by k: element (k, column) at panel[k * NR + column].
constexpr int VECTORS = W == 4 ? 3 : 2;  // in a panel's row
constexpr int NR = VECTORS * W;

// The most rows of a tile: as many as leave registers for a panel's row and a broadcast, at least 8 sums to hide the
// latency of a multiply-add, and no more than there are general registers for the rows' pointers (x86 has 16, and the
// loop has counters) or ways in a set of the first cache, where rows that lie a multiple of 4 KiB apart meet.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int MR = 8;
#else
constexpr int MR = W == 4 ? 3 : 6;
#endif

// out[row, column] = sum over positions p and 0 <= k < run of rows[p * row_step + row][k] * panel[p * run + k, column].
// One position makes a matrix product, the taps of a filter make a convolution. The sum runs in ascending order for
// every shape of tile, so that the result does not depend on how the work is cut.
struct Tile {
    const float* const* rows;
    int64_t row_step;
    int64_t positions, run;  // both at least 1
    const float* panels;     // of the first panel; the next one is panel_step floats on
    int64_t panel_step;
    float* out;        // panels * NR floats for each row
    int64_t out_step;  // from row to row
    // Whether the sums are added to what `out` holds; pieces of a long sum lose less than one sum would.
    bool add;
    // Memory that will be read soon: a tile of one panel asks for a line of it every ahead_step k; null for none. The
    // processor's own prefetching begins too late for every panel, and in one burst the requests would wait for each
    // other.
    const char* ahead;
    int64_t ahead_step;
};

// Whether products ask for panels before they are read. With 512-bit vectors a panel's row is two lines, and processors
// look far enough ahead by themselves: asking, too, costs up to a fifth.
constexpr bool LOOKS_AHEAD = W < 16;

// The most panels of a tile of so many rows: where rows do not fill the registers, more panels do, as far as memory gives
// as many streams at its full rate.
constexpr int MOST_PANELS = W < 16 ? 6 : 3;
constexpr int tile_panels(int rows) {
    return rows > MR / 2 ? 1 : MR / rows < MOST_PANELS ? MR / rows : MOST_PANELS;
}

// m rows in tiles of nearly equal height: the first `tall` have base + 1 rows, the others base.
struct Rows {
    int64_t tiles, base, tall;
    explicit Rows(int64_t m) : tiles(divide_up(m, MR)), base(m / tiles), tall(m % tiles) {}
    int64_t start(int64_t tile) const { return tile * base + least(tile, tall); }
    int64_t height(int64_t tile) const { return base + (tile < tall); }
};

// 1 <= rows <= MR. Either whole panels, of VECTORS vectors each, 1 <= panels <= tile_panels(rows); or fewer vectors than
// that, the first ones of a panel: the others are neither summed nor written.
void tile(int rows, int vectors, const Tile& t);

}  // namespace maia
