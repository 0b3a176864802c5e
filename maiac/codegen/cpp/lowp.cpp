// Packed panels of low precision: widened in registers where few rows use them, else into a panel of floats first.
#include "lowp.h"

#include <type_traits>

#include "panel.h"
#include "widen.h"

namespace maia {
namespace {

// Bytes from the codes that are read to those that are asked for, and into which cache: with 512-bit vectors more is on
// its way than the first one should hold.
constexpr int64_t AHEAD = 64 * NR;
constexpr int NEAR = W < 16 ? 3 : 2;

// k that lie together in a row of codes, and the row's bytes.
template <Weight K>
constexpr int TOGETHER = is_nibble(K) ? 2 : 1;
template <Weight K>
constexpr int ROW = NR * (K == Weight::bf16 || K == Weight::f16 ? 2 : 1);

template <Weight K>
constexpr bool HAS_ZEROS = K == Weight::u8 || K == Weight::i4;

// The zero points in a header.
template <Weight K>
inline void load_zeros(const char* header, vi (&zeros)[VECTORS]) {
    for (int v = 0; v < VECTORS; v++) {
        zeros[v] = vi{};
        if constexpr (K == Weight::u8) zeros[v] = load((const int32_t*)(header + NR * 4) + v * W);
        if constexpr (K == Weight::i4) zeros[v] = widen_unsigned(load_bytes(header + NR * 4 + v * W));
    }
}

// A row of codes as floats without their scales, k by k.
template <Weight K>
inline void widen_row(const char* p, const vi (&zeros)[VECTORS], vf (&out)[TOGETHER<K>][VECTORS]) {
#pragma GCC unroll 4
    for (int v = 0; v < VECTORS; v++) {
        if constexpr (K == Weight::bf16) {
            vh high_half;
            memcpy(&high_half, p + v * W * 2, sizeof high_half);
            out[0][v] = (vf)(widen_unsigned(high_half) << 16);
        }
        if constexpr (K == Weight::f16) out[0][v] = load((const f16*)p + v * W);
        if constexpr (!has_codes(K)) continue;
        bytes codes = load_bytes(p + v * W);
        if constexpr (K == Weight::i8) out[0][v] = __builtin_convertvector(widen_signed(codes), vf);
        if constexpr (K == Weight::u8) out[0][v] = __builtin_convertvector(widen_unsigned(codes) - zeros[v], vf);
        if constexpr (K == Weight::f8e5m2) out[0][v] = half_to_float(halves_unsigned(codes) << 8);
        // The exponent is the low 4 bits of a float16's, which makes the value 256 times smaller.
        if constexpr (K == Weight::f8e4m3) out[0][v] = half_to_float((halves_signed(codes) << 7) & int16_t(0xbf80));
        if constexpr (is_nibble(K)) {
            vi both = widen_unsigned(codes), low = both & 15, high = both >> 4;
            if constexpr (K == Weight::i4) {
                out[0][v] = __builtin_convertvector(low - zeros[v], vf);
                out[1][v] = __builtin_convertvector(high - zeros[v], vf);
            } else {
                out[0][v] = widen_f4(low);
                out[1][v] = widen_f4(high);
            }
        }
    }
}

template <Weight K, int R, int P>
struct Few {
    vf sums[R][P * VECTORS];
    const float* a[R];
    vi zeros[P][VECTORS];

    // k, and the next one where two lie together and Both is set.
    template <bool Both>
    inline void step(const char* codes, int64_t panel_bytes, int64_t k) {
        constexpr int MANY = Both ? TOGETHER<K> : 1;
        vf left[MANY][R];
#pragma GCC unroll 8
        for (int i = 0; i < MANY * R; i++) left[i / R][i % R] = splat(a[i % R][k + i / R]);
#pragma GCC unroll 4
        for (int p = 0; p < P; p++) {
            vf right[TOGETHER<K>][VECTORS];
            widen_row<K>(codes + p * panel_bytes, zeros[p], right);
#pragma GCC unroll 32
            for (int i = 0; i < MANY * R * VECTORS; i++) {
                int t = i / (R * VECTORS), r = i / VECTORS % R, v = i % VECTORS;
                sums[r][p * VECTORS + v] += left[t][r] * right[t][v];
            }
        }
    }
};

template <Weight K, int R, int P>
void run_few(const PanelLayout& l, int64_t k, const char* panels, const float* const* a, float* out) {
    constexpr int V = P * VECTORS;
    for (int64_t g = 0; g < l.groups; g++) {
        const char* header = panels + g * l.stride;
        const char* codes = header + l.header;
        Few<K, R, P> few;
#pragma GCC unroll 64
        for (int i = 0; i < R * V; i++) few.sums[i / V][i % V] = vf{};
#pragma GCC unroll 4
        for (int p = 0; p < P && HAS_ZEROS<K>; p++) load_zeros<K>(header + p * l.bytes, few.zeros[p]);
        int64_t from = g * l.group, count = k - from < l.group ? k - from : l.group;
#pragma GCC unroll 4
        for (int r = 0; r < R; r++) few.a[r] = a[r] + from;
        int64_t i = 0;
        // A cache line of every panel at a time, asked for early: panels stream from memory, across pages.
        constexpr int LINE = 64 / ROW<K> > 0 ? 64 / ROW<K> : 1;
        for (; i + LINE * TOGETHER<K> <= count; i += LINE * TOGETHER<K>, codes += LINE * ROW<K>) {
#pragma GCC unroll 4
            for (int p = 0; p < P; p++) __builtin_prefetch(codes + p * l.bytes + AHEAD, 0, NEAR);
#pragma GCC unroll 4
            for (int j = 0; j < LINE; j++) few.template step<true>(codes + j * ROW<K>, l.bytes, i + j * TOGETHER<K>);
        }
        for (; i + TOGETHER<K> <= count; i += TOGETHER<K>, codes += ROW<K>) few.template step<true>(codes, l.bytes, i);
        if (i < count) few.template step<false>(codes, l.bytes, i);
#pragma GCC unroll 64
        for (int j = 0; j < R * V; j++) {
            int r = j / V, v = j % V;
            vf sum = few.sums[r][v];
            if constexpr (has_codes(K)) sum *= load((const float*)(header + v / VECTORS * l.bytes) + v % VECTORS * W);
            if (g) sum += load(out + j * W);
            store(out + j * W, sum);
        }
    }
}

template <Weight K>
void few_of(const Packed& w, int64_t rows, const float* const* a, int64_t panel, int64_t panels, float* out) {
    PanelLayout l(K, w.k, w.group);
    const char* at = (const char*)w.data + panel * l.bytes;
    if (rows == 1 && panels == 4) return run_few<K, 1, 4>(l, w.k, at, a, out);
    if (rows == 2 && panels == 2) return run_few<K, 2, 2>(l, w.k, at, a, out);
    const float* four[FEW];
    for (int64_t r = 0; r < FEW; r++) four[r] = a[r < rows ? r : rows - 1];
    alignas(64) float tile[FEW * NR];
    for (int64_t p = 0; p < panels; p++, at += l.bytes) {
        if (rows == 1)
            run_few<K, 1, 1>(l, w.k, at, a, tile);
        else
            run_few<K, 4, 1>(l, w.k, at, four, tile);
        for (int64_t r = 0; r < rows; r++) memcpy(out + (r * panels + p) * NR, tile + r * NR, NR * sizeof(float));
    }
}

template <Weight K>
void unpack_of(const Packed& w, int64_t panel, int64_t k0, int64_t k1, float* out) {
    PanelLayout l(K, w.k, w.group);
    for (int64_t i = k0; i < k1;) {
        int64_t g = i / l.group, first = g * l.group, end = first + l.group < k1 ? first + l.group : k1;
        const char* header = (const char*)w.data + panel * l.bytes + g * l.stride;
        const char* codes = header + l.header;
        vf scales[VECTORS], values[TOGETHER<K>][VECTORS];
        vi zeros[VECTORS];
        for (int v = 0; v < VECTORS; v++) scales[v] = has_codes(K) ? load((const float*)header + v * W) : splat(1.0f);
        load_zeros<K>(header, zeros);
        while (i < end) {
            int64_t row = (i - first) / TOGETHER<K>;
            widen_row<K>(codes + row * ROW<K>, zeros, values);
            for (int64_t t = i - first - row * TOGETHER<K>; t < TOGETHER<K> && i < end; t++, i++, out += NR)
                for (int v = 0; v < VECTORS; v++) store(out + v * W, values[t][v] * scales[v]);
        }
    }
}

template <class F>
void with_kind(Weight kind, const F& f) {
    switch (kind) {
    case Weight::f32: return;
    case Weight::bf16: return f(std::integral_constant<Weight, Weight::bf16>());
    case Weight::f16: return f(std::integral_constant<Weight, Weight::f16>());
    case Weight::i8: return f(std::integral_constant<Weight, Weight::i8>());
    case Weight::u8: return f(std::integral_constant<Weight, Weight::u8>());
    case Weight::f8e4m3: return f(std::integral_constant<Weight, Weight::f8e4m3>());
    case Weight::f8e5m2: return f(std::integral_constant<Weight, Weight::f8e5m2>());
    case Weight::i4: return f(std::integral_constant<Weight, Weight::i4>());
    case Weight::f4e2m1: return f(std::integral_constant<Weight, Weight::f4e2m1>());
    }
}

void multiply_few(const Packed& w, int64_t rows, const float* const* a, int64_t panel, int64_t panels, float* out) {
    with_kind(w.kind, [&](auto kind) { few_of<decltype(kind)::value>(w, rows, a, panel, panels, out); });
}

void unpack(const Packed& w, int64_t panel, int64_t k0, int64_t k1, float* out) {
    with_kind(w.kind, [&](auto kind) { unpack_of<decltype(kind)::value>(w, panel, k0, k1, out); });
}

}  // namespace

const Widening low_precision = {unpack, multiply_few};

}  // namespace maia
