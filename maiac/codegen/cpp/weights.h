// The right factors of matrix products, packed once into panels of NR columns, in full or in low precision.
#pragma once
#include <cstdint>

namespace maia {

// Element types in memory. Codes of 4 bits lie one to a byte, as the runtime's tensors do: i4 -8..7, u4 and f4e2m1
// 0..15.
enum class Type : int { f32, bf16, f16, i8, u8, f8e4m3, f8e5m2, i4, u4, f4e2m1 };

// What a packed weight's elements are. Those from i8 on are codes with a float32 scale for each column and group of k;
// u8 and i4 have zero points too.
enum class Weight : int { f32, bf16, f16, i8, u8, f8e4m3, f8e5m2, i4, f4e2m1 };

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

// A packed factor. group: how many k share a scale, even or at least k; 0 for all of them.
struct Packed {
    Weight kind;
    int64_t n, k, group;
    const void* data;
};

int64_t packed_bytes(Weight kind, int64_t n, int64_t k, int64_t group = 0);

// Fills packed_bytes at `out`, which is best aligned to 64.
void pack(Weight kind, int64_t n, int64_t k, int64_t group, const Source& source, void* out);

}  // namespace maia
