#include "weights.h"

#include "panel.h"
#include "pool.h"
#include "whole.h"

namespace maia {
namespace {

template <class T>
void narrow_panel(const float* panel, int64_t count, T* out) {
    for (int64_t i = 0; i < count; i += W) store(out + i, load(panel + i));
}

// Floats pass through a piece of a panel, so that the source is read once.
void pack_floats(Weight kind, const Source& s, int64_t n, int64_t k, int64_t panel, char* out) {
    constexpr int64_t PIECE = 256;
    alignas(64) float piece[PIECE * NR];
    int64_t size = s.type == Type::f32 ? 4 : 2, count = n - panel * NR < NR ? n - panel * NR : NR;
    for (int64_t i = 0; i < k; i += PIECE) {
        int64_t many = k - i < PIECE ? k - i : PIECE;
        const char* from = (const char*)s.values + (panel * NR * s.stride_n + i * s.stride_k) * size;
        float* to = kind == Weight::f32 ? (float*)out + i * NR : piece;
        gather(s.type, from, s.stride_n, s.stride_k, count, many, to);
        if (kind == Weight::bf16) narrow_panel(piece, many * NR, (bf16*)out + i * NR);
        if (kind == Weight::f16) narrow_panel(piece, many * NR, (f16*)out + i * NR);
    }
}

// What is added to a code of the source to make it the kind's own: i8 among u8 moves up by half the range.
int shift_of(Weight kind, Type type) {
    if (kind == Weight::u8 && type == Type::i8) return 128;
    if (kind == Weight::i4 && type == Type::i4) return 8;
    return 0;
}

// A power of two that the kind's conversion leaves out.
float factor_of(Weight kind) { return kind == Weight::f8e4m3 ? 256.0f : kind == Weight::f4e2m1 ? 0.5f : 1.0f; }

void pack_header(Weight kind, const Source& s, int64_t columns, int64_t panel, int64_t group, char* out) {
    int shift = shift_of(kind, s.type);
    for (int64_t c = 0; c < NR; c++) {
        int64_t column = panel * NR + c;
        bool inside = c < columns;
        float scale = inside && s.scales ? s.scales[column * s.scale_by_n + group * s.scale_by_group] : 1.0f;
        scale *= factor_of(kind);
        memcpy(out + c * 4, &scale, 4);
        uint8_t code = 0;
        if (inside && s.zeros)
            code = ((const uint8_t*)s.zeros)[column * s.zero_by_n + group * s.zero_by_group];
        bool is_signed = s.type == Type::i8 || s.type == Type::i4;
        int32_t zero = (is_signed ? int8_t(code) : code) + shift;
        if (kind == Weight::u8) memcpy(out + NR * 4 + c * 4, &zero, 4);
        if (kind == Weight::i4) out[NR * 4 + c] = char(zero);
    }
}

void pack_codes(Weight kind, const Source& s, int64_t n, int64_t k, const PanelLayout& l, int64_t panel, char* out) {
    int shift = shift_of(kind, s.type);
    int64_t columns = n - panel * NR < NR ? n - panel * NR : NR;
    for (int64_t g = 0; g < l.groups; g++) {
        char* header = out + g * l.stride;
        char* codes = header + l.header;
        pack_header(kind, s, columns, panel, g, header);
        int64_t from = g * l.group, to = from + l.group < k ? from + l.group : k;
        memset(codes, 0, size_t((is_nibble(kind) ? (to - from + 1) / 2 : to - from) * NR));
        for (int64_t c = 0; c < columns; c++) {
            const uint8_t* values = (const uint8_t*)s.values + (panel * NR + c) * s.stride_n;
            for (int64_t i = from; i < to; i++) {
                uint8_t code = uint8_t(values[i * s.stride_k] + shift);
                // NaN has no place among the floats that these codes become; a column that holds one becomes NaN.
                if (kind == Weight::f8e4m3 && (code & 0x7f) == 0x7f) memcpy(header + c * 4, "\xff\xff\xff\x7f", 4);
                if (is_nibble(kind))
                    codes[(i - from) / 2 * NR + c] |= char((code & 15) << (i - from) % 2 * 4);
                else
                    codes[(i - from) * NR + c] = char(code);
            }
        }
    }
}

}  // namespace

int64_t packed_bytes(Weight kind, int64_t n, int64_t k, int64_t group) {
    return divide_up(n, NR) * PanelLayout(kind, k, group).bytes;
}

void pack(Weight kind, int64_t n, int64_t k, int64_t group, const Source& source, void* out) {
    PanelLayout layout(kind, k, group);
    parallel(divide_up(n, NR), 4, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++) {
            char* to = (char*)out + p * layout.bytes;
            if (has_codes(kind))
                pack_codes(kind, source, n, k, layout, p, to);
            else
                pack_floats(kind, source, n, k, p, to);
        }
    });
}

}  // namespace maia
