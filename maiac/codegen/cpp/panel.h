// How packed panels lie in memory, and what turns other layouts and precisions into panels of floats.
#pragma once
#include "packed.h"
#include "tile.h"

namespace maia {

// A panel of codes: for each group of k its header, NR scales and then NR zero points (u8: int32, i4: bytes), and its
// codes, NR bytes for each k or for each pair of k (the even one in the low bits). Panels without codes are one group
// without a header.
struct PanelLayout {
    int64_t group, groups;   // k of every group but the last
    int64_t header, stride;  // bytes of a header; from group to group
    int64_t bytes;           // of the panel

    PanelLayout(Weight kind, int64_t k, int64_t group);
};

constexpr bool has_codes(Weight kind) { return int(kind) >= int(Weight::i8); }
constexpr bool is_nibble(Weight kind) { return kind == Weight::i4 || kind == Weight::f4e2m1; }

// The panel of columns 0..count of a factor, element (column, k) at data[column * step + k * k_step], as floats;
// columns from count on are 0. type: f32, bf16 or f16.
void gather(Type type, const void* data, int64_t step, int64_t k_step, int64_t count, int64_t k, float* out);

}  // namespace maia
