// Reading by indices.
#pragma once
#include <cstdint>

namespace maia {

// y[o][i] = x[o][ids[i]] for blocks of `bytes` bytes; `ids` are int32_t or int64_t, `step` elements apart. An index below 0
// counts from the end where `wrap` says so; one outside is a fault, and nothing is read.
template <class I>
void take(int64_t outer, int64_t count, int64_t bytes, const char* x, int64_t x_outer, int64_t x_row, int64_t size,
          const I* ids, int64_t step, bool wrap, char* y);

// y[o][ids[i]] = x[o][i] for blocks of `bytes` bytes; steps in bytes, 0 where x is the same for all. In the order of i.
template <class I>
void put(int64_t outer, int64_t count, int64_t bytes, char* y, int64_t y_outer, int64_t y_row, int64_t size, const I* ids,
         int64_t step, const char* x, int64_t x_outer, int64_t x_row);

}  // namespace maia
