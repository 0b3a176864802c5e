#include "index.h"

#include <cstring>

#include "pool.h"
#include "run.h"

namespace maia {

template <class I>
void take(int64_t outer, int64_t count, int64_t bytes, const char* x, int64_t x_outer, int64_t x_row, int64_t size,
          const I* ids, int64_t step, bool wrap, char* y) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t id = ids[i * step];
        if (id >= size || id < (wrap ? -size : 0)) return fault(id, size);
    }
    const int64_t grain = 1 + 16384 / (bytes + 1);
    parallel(outer * count, grain, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            const int64_t o = at / count, i = at % count, id = ids[i * step];
            memcpy(y + at * bytes, x + o * x_outer + (id < 0 ? id + size : id) * x_row, bytes);
        }
    });
}

template <class I>
void put(int64_t outer, int64_t count, int64_t bytes, char* y, int64_t y_outer, int64_t y_row, int64_t size, const I* ids,
         int64_t step, const char* x, int64_t x_outer, int64_t x_row) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t id = ids[i * step];
        if (id >= size || id < -size) return fault(id, size);
    }
    parallel(outer, 1 + 16384 / (bytes * count + 1), [&](int64_t begin, int64_t end) {
        for (int64_t o = begin; o < end; o++) {
            for (int64_t i = 0; i < count; i++) {
                const int64_t id = ids[i * step];
                memcpy(y + o * y_outer + (id < 0 ? id + size : id) * y_row, x + o * x_outer + i * x_row, bytes);
            }
        }
    });
}

template void put<int32_t>(int64_t, int64_t, int64_t, char*, int64_t, int64_t, int64_t, const int32_t*, int64_t,
                           const char*, int64_t, int64_t);
template void put<int64_t>(int64_t, int64_t, int64_t, char*, int64_t, int64_t, int64_t, const int64_t*, int64_t,
                           const char*, int64_t, int64_t);
template void take<int32_t>(int64_t, int64_t, int64_t, const char*, int64_t, int64_t, int64_t, const int32_t*, int64_t,
                            bool, char*);
template void take<int64_t>(int64_t, int64_t, int64_t, const char*, int64_t, int64_t, int64_t, const int64_t*, int64_t,
                            bool, char*);

}  // namespace maia
