// The right factors of matrix products as they lie in memory, in full or in low precision.
#pragma once
#include <cstdint>

namespace maia {

// Element types in memory. Codes of 4 bits lie one to a byte, as the runtime's tensors do: i4 -8..7, u4 and f4e2m1
// 0..15.
enum class Type : int { f32, bf16, f16, i8, u8, f8e4m3, f8e5m2, i4, u4, f4e2m1 };

// What a packed weight's elements are. Those from i8 on are codes with a float32 scale for each column and group of k;
// u8 and i4 have zero points too.
enum class Weight : int { f32, bf16, f16, i8, u8, f8e4m3, f8e5m2, i4, f4e2m1 };

// A packed factor. group: how many k share a scale, even or at least k; 0 for all of them.
struct Packed {
    Weight kind;
    int64_t n, k, group;
    const void* data;
};

}  // namespace maia
