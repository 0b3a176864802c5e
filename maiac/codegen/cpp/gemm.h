// Matrix products with float32 sums. They do not know what becomes of the result: an epilogue takes it tile by tile.
#pragma once
#include "weights.h"

namespace maia {

// A tile of finished sums, `rows` times `cols` floats with `ld` floats between rows; it stands for rows row.. and
// columns col.. of the result. Called once for every tile, by the thread that made it, while the tile is in its first
// cache. `tile` is aligned to a vector, `ld` and `col` are multiples of the vector's width; a row may be read up to a
// whole number of vectors.
typedef void (*Epilogue)(const void* context, const float* tile, int64_t ld, int64_t row, int64_t rows, int64_t col,
                         int64_t cols);

// result[m, n] = sum over k of a[m, k] w[n, k]. `type` of a: f32, bf16 or f16; element (m, k) at a[m * lda + k].
void gemm(int64_t m, Type type, const void* a, int64_t lda, const Packed& w, Epilogue epilogue, const void* context);

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
