// How packed panels lie in memory, and what turns other layouts and precisions into panels of floats.
#pragma once
#include "tile.h"
#include "weights.h"

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

// k0 <= k < k1 of a packed panel as floats, scales applied.
void unpack(const Packed& w, int64_t panel, int64_t k0, int64_t k1, float* out);

// For few rows the codes are widened in registers instead: out[row, column] of 1..FEW rows and the panels from `panel`
// on, `panels` * NR floats for each row. `few_panels` is how many go best at once.
constexpr int FEW = 4;
constexpr int few_panels(int64_t rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
void multiply_few(const Packed& w, int64_t rows, const float* const* a, int64_t panel, int64_t panels, float* out);

}  // namespace maia
