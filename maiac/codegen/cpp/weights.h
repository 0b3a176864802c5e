// Packing the right factors of matrix products into panels of NR columns, once.
#pragma once
#include "packed.h"

namespace maia {

// The factor [n, k] before packing: element (n, k) at values[n * stride_n + k * stride_k]. f32, bf16 and f16 may become
// each other; i8 becomes i8 (without zero points) or u8; u8 becomes u8; i4 and u4 become i4; the others stay. The real
// value of a code is (code - zero) * scale, with both at [n * by_n + k / group * by_group]; null scales are 1, null
// zeros 0.
struct Source {
    Type type;
    const void* values;
    int64_t stride_n, stride_k;
    const float* scales;
    int64_t scale_by_n, scale_by_group;
    const void* zeros;  // of the codes' type
    int64_t zero_by_n, zero_by_group;
};

int64_t packed_bytes(Weight kind, int64_t n, int64_t k, int64_t group = 0);

// Fills packed_bytes at `out`, which is best aligned to 64.
void pack(Weight kind, int64_t n, int64_t k, int64_t group, const Source& source, void* out);

}  // namespace maia
