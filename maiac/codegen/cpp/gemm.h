// Matrix products with float32 sums. They do not know what becomes of the result: an epilogue takes it tile by tile.
#pragma once
#include "epilogue.h"
#include "packed.h"

namespace maia {

// How panels that are not floats are read; lowp.h has it for all kinds. Programs of floats do without.
struct Widening {
    // k0 <= k < k1 of a packed panel as floats, scales applied.
    void (*unpack)(const Packed& w, int64_t panel, int64_t k0, int64_t k1, float* out);
    // For few rows the codes are widened in registers instead: out[row, column] of 1..FEW rows and the panels from
    // `panel` on, `panels` * NR floats for each row.
    void (*multiply_few)(const Packed& w, int64_t rows, const float* const* a, int64_t panel, int64_t panels, float* out);
};
constexpr int FEW = 4;
constexpr int few_panels(int64_t rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }  // how many go best at once

// result[m, n] = sum over k of a[m, k] w[n, k]. `type` of a: f32, bf16 or f16; element (m, k) at a[m * lda + k].
// `widening` is null where w's kind is f32.
void gemm(int64_t m, Type type, const void* a, int64_t lda, const Packed& w, const Widening* widening, Epilogue epilogue,
          const void* context);

// One factor of a product of activations: element (batch entry i * inner + j, row or column r, k) at
// data[i * outer_step + j * inner_step + r * step + k * k_step]. type: f32, bf16 or f16.
struct Factor {
    Type type;
    const void* data;
    int64_t outer_step, inner_step, step, k_step;
};

// result[i, j, m, n] = sum over k of a[i, j, m, k] b[i, j, n, k] for 0 <= i < outer, 0 <= j < inner; the epilogue's row
// is (i * inner + j) * m + row.
void matmul(int64_t outer, int64_t inner, int64_t m, int64_t n, int64_t k, const Factor& a, const Factor& b,
            Epilogue epilogue, const void* context);

}  // namespace maia
