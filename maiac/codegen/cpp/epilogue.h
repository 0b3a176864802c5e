// What takes the results of products.
#pragma once
#include <cstdint>

namespace maia {

// A tile of finished sums, `rows` times `cols` floats with `ld` floats between rows; it stands for rows row.. and
// columns col.. of the result. Called once for every tile, by the thread that made it, while the tile is in its first
// cache. `tile` is aligned to a vector, `ld` and `col` are multiples of the vector's width; a row may be read up to a
// whole number of vectors.
typedef void (*Epilogue)(const void* context, const float* tile, int64_t ld, int64_t row, int64_t rows, int64_t col,
                         int64_t cols);

}  // namespace maia
