// Copies between layouts: any permutation, slice, flip or broadcast of one array into another.
#pragma once
#include <cstdint>

namespace maia {

// dst[i · dst_strides] = src[i · src_strides] for every index i of dims. Elements have 1, 2, 4, 8 or 16 bytes; strides
// count elements and may be negative, src's also 0 (broadcast); rank is at most 8. dst must not overlap itself or src.
void copy_strided(int element_bytes, int rank, const int64_t* dims, const int64_t* dst_strides,
                  const int64_t* src_strides, void* dst, const void* src);

}  // namespace maia
