// One filter for each channel, or for each of a few: vectors run over channels.
#include "depthwise.h"

#include <utility>

#include "pool.h"
#include "tile.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int SUMS = W == 4 ? 4 : 8;  // outputs at once, to hide the latency of their sums
constexpr int VECTORS_OF_TILE = 8;    // of channels, at most
constexpr int64_t CHANNELS = VECTORS_OF_TILE * W;

// Taps that fall inside of the image, for a row or column that starts at `first`.
struct Taps {
    int64_t begin, end;
    Taps(int64_t first, int64_t dilation, int64_t taps, int64_t size) {
        begin = first >= 0 ? 0 : least(taps, divide_up(-first, dilation));
        end = first >= size ? 0 : least(taps, (size - 1 - first) / dilation + 1);
        if (end < begin) end = begin;
    }
};

// Channels in nearly equal parts of whole vectors, at most CHANNELS each.
struct Parts {
    int64_t channels, count, base, tall;
    explicit Parts(int64_t c) : channels(c) {
        int64_t vectors = divide_up(c, W);
        count = divide_up(vectors, VECTORS_OF_TILE);
        base = vectors / count;
        tall = vectors % count;
    }
    int64_t start(int64_t part) const { return least(channels, (part * base + least(part, tall)) * W); }
};

// What G channels in a group have in common: the first number of every G.
template <int G, int... I>
inline vf spread(const float* from, std::integer_sequence<int, I...>) {
    return vf{from[G ? I / G * G : 0]...};
}

// P outputs of a line, over groups of G channels, or where G is 0 of whole vectors of channels. Filters K columns wide
// that move by S load what their places share once; where both are 0, a filter of single channels is any filter.
template <int P, int G, int K, int S>
struct Patch {
    const Conv& c;
    const float* x;  // the first input, which may lie outside of the image
    Taps lines;      // of the filter's lines, those inside of the image
    Taps columns;    // of all columns that the outputs read

    static int64_t wide(const Conv& c) { return K ? (P - 1) * S + K : (P - 1) * c.sw + (c.kw - 1) * c.dw + 1; }
    int64_t taps() const { return K ? K : c.kw; }
    int64_t own() const { return G ? G : c.c / c.groups; }

    // A vector of channels. The sums run over lines, channels of the group and columns in ascending order.
    template <bool Edge>
    inline void run(const float* filter, int64_t channel, float* out, int64_t ld) const {
        vf sums[P];
#pragma GCC unroll 32
        for (int p = 0; p < P; p++) sums[p] = vf{};
        const int64_t step = c.dh * c.xh, own = this->own(), taps = this->taps() * W;
        const float* line = x + lines.begin * step + (G ? channel : channel / own * own);
        filter += lines.begin * own * taps;
        for (int64_t i = lines.begin; i < lines.end; i++, line += step)
            for (int64_t g = 0; g < own; g++, filter += taps) {
                if constexpr (K)
                    add_line<Edge>(sums, line + g, filter);
                else
                    add_any_line<Edge>(sums, line, filter);
            }
#pragma GCC unroll 32
        for (int p = 0; p < P; p++) store(out + p * ld, sums[p]);
    }

    template <bool Edge>
    inline void add_line(vf* sums, const float* from, const float* filter) const {
        const int64_t step = c.xw;
        vf tap[K];
#pragma GCC unroll 32
        for (int k = 0; k < K; k++) {
            tap[k] = load(filter + k * W);
            MAIA_HOLD(tap[k]);
        }
#pragma GCC unroll 32
        for (int j = 0; j < (P - 1) * S + K; j++, from += step) {
            if (Edge && (j < columns.begin || j >= columns.end)) continue;
            vf in = G == 1 ? load(from) : G ? spread<G>(from, std::make_integer_sequence<int, W>()) : splat(*from);
            MAIA_HOLD(in);
#pragma GCC unroll 32
            for (int k = 0; k < K; k++)
                if (j >= k && (j - k) % S == 0 && (j - k) / S < P) sums[(j - k) / S] += in * tap[k];
        }
    }

    template <bool Edge>
    inline void add_any_line(vf* sums, const float* from, const float* filter) const {
        if (c.c < W) return add_taps<Edge>(sums, from, filter, [&](const float* at) { return load(at, c.c); });
        add_taps<Edge>(sums, from, filter, [](const float* at) { return load(at); });
    }

    template <bool Edge, class F>
    inline void add_taps(vf* sums, const float* from, const float* filter, const F& get) const {
        const int64_t step = c.sw * c.xw;
        for (int64_t k = 0; k < c.kw; k++, from += c.dw * c.xw, filter += W) {
            vf tap = load(filter);
            MAIA_HOLD(tap);
#pragma GCC unroll 32
            for (int p = 0; p < P; p++) {
                const int64_t j = p * c.sw + k * c.dw;
                if (Edge && (j < columns.begin || j >= columns.end)) continue;
                sums[p] += get(from + p * step) * tap;
            }
        }
    }

    template <bool Edge>
    void run_channels(const float* filters, int64_t first, int64_t count, float* out, int64_t ld) const {
        const int64_t filter = c.kh * own() * taps() * W;
        for (int64_t i = 0; i < count; i += W, filters += filter) {
            const int64_t at = most(0, least(i, count - W));
            run<Edge>(filters, first + at, out + at, ld);
        }
    }
};

template <int G, int K, int S>
void run_line(const Conv& c, const float* x, const float* packed, int64_t line, Epilogue epilogue,
              const void* context) {
    constexpr int P = SUMS;
    typedef Patch<P, G, K, S> Patch;
    alignas(64) float tile[P * CHANNELS];
    const Parts parts(c.c);
    const int64_t y = line % c.oh * c.sh - c.pt, wide = Patch::wide(c);
    const float* start = x + line / c.oh * c.xn + y * c.xh;
    const Taps lines(y, c.dh, c.kh, c.h);
    for (int64_t at = 0; at < c.ow; at += P) {
        const int64_t first = at * c.sw - c.pl, count = least(P, c.ow - at);
        const Patch patch = {c, start + first * c.xw, lines, Taps(first, 1, wide, c.w)};
        const bool edge = patch.columns.begin > 0 || patch.columns.end < wide;
        for (int64_t i = 0; i < parts.count; i++) {
            const int64_t from = parts.start(i), width = parts.start(i + 1) - from, ld = round_up(width, W);
            const float* filters = packed + from * c.kh * patch.own() * patch.taps();
            if (edge)
                patch.template run_channels<true>(filters, from, width, tile, ld);
            else
                patch.template run_channels<false>(filters, from, width, tile, ld);
            epilogue(context, tile, ld, line * c.ow + at, count, from, width);
        }
    }
}

typedef void (*Line)(const Conv&, const float*, const float*, int64_t, Epilogue, const void*);

// The usual filters, and those of the usual groups, have code of their own. Null for other groups.
Line find(const Conv& c) {
    static constexpr Line lines[3][2] = {{run_line<1, 3, 1>, run_line<1, 3, 2>},
                                         {run_line<1, 5, 1>, run_line<1, 5, 2>},
                                         {run_line<1, 7, 1>, run_line<1, 0, 0>}};
    const bool plain = c.c >= W && c.dw == 1 && c.sw <= 2;
    if (c.groups == c.c) {
        const bool usual = plain && (c.kw == 3 || c.kw == 5 || c.kw == 7);
        return usual ? lines[(c.kw - 3) / 2][c.sw - 1] : run_line<1, 0, 0>;
    }
    if (!plain || c.kw != 3 || c.groups == 1) return nullptr;
    const int64_t own = c.c / c.groups;
    // Groups that fill whole panels are as fast as products.
    if (own % W == 0 && own % NR != 0) return c.sw == 1 ? run_line<0, 3, 1> : run_line<0, 3, 2>;
    if (own == 4) return c.sw == 1 ? run_line<4, 3, 1> : run_line<4, 3, 2>;
    if constexpr (W > 8)  // for narrower vectors these are whole ones
        if (own == 8) return c.sw == 1 ? run_line<8, 3, 1> : run_line<8, 3, 2>;
    return nullptr;
}

}  // namespace

bool depthwise_fits(const Conv& c) { return c.o == c.c && find(c); }

int64_t depthwise_packed_bytes(const Conv& c) {
    return c.kh * c.kw * (c.c / c.groups) * round_up(c.c, W) * int64_t(sizeof(float));
}

// Vector by vector of channels, line by line of the filter, channel by channel of the group, column by column. The last
// vector ends with the last channel.
void depthwise_pack(const Conv& c, const float* w, void* packed) {
    const int64_t own = c.c / c.groups;
    float* to = (float*)packed;
    for (int64_t from = 0; from < c.c; from += W) {
        const int64_t first = least(from, most(0, c.c - W));
        for (int64_t line = 0; line < c.kh; line++)
            for (int64_t t = 0; t < own * c.kw; t++)
                for (int64_t i = first; i < first + W; i++)
                    *to++ = i < c.c ? w[((i * own + t / c.kw) * c.kh + line) * c.kw + t % c.kw] : 0;
    }
}

void conv_depthwise(const Conv& c, const float* x, const void* packed, Epilogue epilogue, const void* context) {
    const Line run = find(c);
    int64_t lines = c.n * c.oh, work = c.ow * c.c * c.kh * c.kw * (c.c / c.groups);
    int64_t grain = most(1, least(divide_up(lines, threads() * 8), (1 << 17) / most(work, 1) + 1));
    parallel(lines, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) run(c, x, (const float*)packed, i, epilogue, context);
    });
}

}  // namespace maia
