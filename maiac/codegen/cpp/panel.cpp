#include "panel.h"

#include "transpose.h"
#include "whole.h"

namespace maia {
namespace {

template <class T>
float to_float(const T& x) {
    if constexpr (sizeof(T) == 4)
        return x;
    else
        return widen(x);
}

// Columns that lie one after the other for each k.
template <class T>
void gather_rows(const T* data, int64_t k_step, int64_t count, int64_t k, float* out) {
    for (int64_t i = 0; i < k; i++, data += k_step, out += NR)
        for (int v = 0; v < VECTORS; v++) {
            int64_t left = count - v * W;
            store(out + v * W, left >= W ? load(data + v * W) : left > 0 ? load(data + v * W, left) : vf{});
        }
}

// Columns whose k lie one after the other: W of each at a time change places in registers.
template <class T>
void gather_columns(const T* data, int64_t step, int64_t count, int64_t k, float* out) {
    for (int64_t i = 0; i < k; i += W)
        for (int v = 0; v < VECTORS; v++) {
            vf square[W];
            int64_t left = k - i < W ? k - i : W;
            for (int c = 0; c < W; c++) {
                const T* from = data + (v * W + c) * step + i;
                square[c] = v * W + c >= count ? vf{} : left == W ? load(from) : load(from, left);
            }
            transpose(square);
            for (int64_t j = 0; j < left; j++) store(out + (i + j) * NR + v * W, square[j]);
        }
}

template <class T>
void gather_of(const T* data, int64_t step, int64_t k_step, int64_t count, int64_t k, float* out) {
    if (step == 1) return gather_rows(data, k_step, count, k, out);
    if (k_step == 1) return gather_columns(data, step, count, k, out);
    for (int64_t i = 0; i < k; i++)
        for (int64_t c = 0; c < NR; c++) out[i * NR + c] = c < count ? to_float(data[c * step + i * k_step]) : 0.0f;
}

}  // namespace

PanelLayout::PanelLayout(Weight kind, int64_t k, int64_t by) : group(by > 0 && by < k ? by : k), groups(1), header(0) {
    if (!has_codes(kind)) {
        group = k;
        stride = bytes = k * NR * (kind == Weight::f32 ? 4 : 2);
        return;
    }
    groups = group ? divide_up(k, group) : 0;
    header = NR * (kind == Weight::u8 ? 8 : kind == Weight::i4 ? 5 : 4);
    int64_t per_row = is_nibble(kind) ? 2 : 1, last = k - (groups - 1) * group;
    stride = header + divide_up(group, per_row) * NR;
    bytes = groups ? (groups - 1) * stride + header + divide_up(last, per_row) * NR : 0;
}

void gather(Type type, const void* data, int64_t step, int64_t k_step, int64_t count, int64_t k, float* out) {
    if (type == Type::f32) return gather_of((const float*)data, step, k_step, count, k, out);
    if (type == Type::bf16) return gather_of((const bf16*)data, step, k_step, count, k, out);
    return gather_of((const f16*)data, step, k_step, count, k, out);
}

}  // namespace maia
