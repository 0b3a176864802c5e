// One filter for each channel, or for each of a few: vectors run over channels.
#include "depthwise.h"

#include <utility>

#include "pool.h"
#include "tile.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int SUMS = W == 4 ? 4 : 8;  // vectors at once, to hide the latency of their sums: of pixels or of channels
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

// Some outputs of a line: the input of the first one's first tap, which may lie outside, and the taps that do not.
struct Span {
    const Conv& c;
    const float* x;
    Taps rows, columns;
};

// P outputs of V vectors of channels, or where Few is set of a vector that has fewer channels.
template <int P, int V, bool Few>
inline void run(const Span& s, const float* filters, int64_t channel, float* out, int64_t ld) {
    const Conv& c = s.c;
    vf sums[P][V];
#pragma GCC unroll 8
    for (int i = 0; i < P * V; i++) sums[i / V][i % V] = vf{};
    const int64_t step = c.sw * c.xw, next = c.dw * c.xw, filter = c.kh * c.kw * W;
    for (int64_t i = s.rows.begin; i < s.rows.end; i++) {
        const float* from = s.x + i * c.dh * c.xh + s.columns.begin * next + channel;
        const float* taps = filters + (i * c.kw + s.columns.begin) * W;
        for (int64_t j = s.columns.begin; j < s.columns.end; j++, from += next, taps += W) {
            vf tap[V];
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) tap[v] = load(taps + v * filter);
#pragma GCC unroll 8
            for (int k = 0; k < P * V; k++) {
                const float* at = from + k / V * step + k % V * W;
                sums[k / V][k % V] += (Few ? load(at, c.c) : load(at)) * tap[k % V];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < P * V; i++) store(out + i / V * ld + i % V * W, sums[i / V][i % V]);
}

template <int P>
void run_channels(const Span& s, const float* filters, int64_t first, int64_t count, float* out, int64_t ld) {
    constexpr int V = SUMS / P;
    const int64_t filter = s.c.kh * s.c.kw * W;
    int64_t i = 0;
    for (; i + V * W <= count; i += V * W, filters += V * filter) run<P, V, false>(s, filters, first + i, out + i, ld);
    for (; V > 1 && i + W <= count; i += W, filters += filter) run<P, 1, false>(s, filters, first + i, out + i, ld);
    if (i == count) return;
    if (count < W) return run<P, 1, true>(s, filters, first, out, ld);
    run<P, 1, false>(s, filters, first + count - W, out + count - W, ld);
}

// The outputs from `row` on, P of them where at least `whole` have all columns inside, else half as many and so on, but
// at least one; gives how many.
template <int P>
int64_t run_pixels(const Span& s, const float* packed, int64_t row, int64_t whole, Epilogue epilogue,
                   const void* context) {
    if constexpr (P > 1)
        if (P > whole) return run_pixels<P / 2>(s, packed, row, whole, epilogue, context);
    alignas(64) float tile[P * CHANNELS];
    const Parts parts(s.c.c);
    for (int64_t i = 0; i < parts.count; i++) {
        const int64_t from = parts.start(i), count = parts.start(i + 1) - from, ld = round_up(count, W);
        run_channels<P>(s, packed + from * s.c.kh * s.c.kw, from, count, tile, ld);
        epilogue(context, tile, ld, row, P, from, count);
    }
    return P;
}

void run_any_line(const Conv& c, const float* x, const float* packed, int64_t line, Epilogue epilogue,
                  const void* context) {
    const int64_t y = line % c.oh * c.sh - c.pt, wide = (c.kw - 1) * c.dw + 1;
    const float* from = x + line / c.oh * c.xn + y * c.xh;
    const Taps rows(y, c.dh, c.kh, c.h);
    for (int64_t at = 0; at < c.ow;) {
        const int64_t first = at * c.sw - c.pl;
        const Span s = {c, from + first * c.xw, rows, Taps(first, c.dw, c.kw, c.w)};
        // Outputs that have all their columns inside go together, the others one by one.
        const int64_t whole = first < 0 ? 0 : least(c.ow - at, (c.w - wide - first) / c.sw + 1);
        at += run_pixels<SUMS>(s, packed, line * c.ow + at, whole, epilogue, context);
    }
}

// What G channels in a group have in common: the first number of every G.
template <int G, int... I>
inline vf spread(const float* from, std::integer_sequence<int, I...>) {
    return vf{from[G ? I / G * G : 0]...};
}

// P outputs of a line, of filters K taps wide that move by S columns over groups of G channels, or where G is 0 of whole
// vectors of channels: what the filters' places share is loaded once.
template <int P, int G, int K, int S>
struct Patch {
    static constexpr int WIDE = (P - 1) * S + K;
    const float* x;  // the first input, which may lie outside of the image
    int64_t line_step, column_step, group;  // group: G, or what it stands for
    Taps lines, columns;                    // of the filter's lines and of all columns, those inside

    // A vector of channels. The sums run over lines, channels of the group and columns in ascending order.
    template <bool Edge>
    inline void run(const float* filter, int64_t channel, float* out, int64_t ld) const {
        vf sums[P];
#pragma GCC unroll 32
        for (int p = 0; p < P; p++) sums[p] = vf{};
        const int64_t own = G ? G : group;
        const float* line = x + lines.begin * line_step + (G ? channel : channel / own * own);
        const float* taps = filter + lines.begin * (own * K * W);
        for (int64_t i = lines.begin; i < lines.end; i++, line += line_step)
            for (int64_t g = 0; g < own; g++, taps += K * W) add_line<Edge>(sums, line + g, taps);
#pragma GCC unroll 32
        for (int p = 0; p < P; p++) store(out + p * ld, sums[p]);
    }

    template <bool Edge>
    inline void add_line(vf* sums, const float* from, const float* taps) const {
        vf tap[K];
#pragma GCC unroll 32
        for (int k = 0; k < K; k++) {
            tap[k] = load(taps + k * W);
            MAIA_HOLD(tap[k]);
        }
#pragma GCC unroll 32
        for (int j = 0; j < WIDE; j++, from += column_step) {
            if (Edge && (j < columns.begin || j >= columns.end)) continue;
            vf in = G == 1 ? load(from) : G ? spread<G>(from, std::make_integer_sequence<int, W>()) : splat(*from);
            MAIA_HOLD(in);
#pragma GCC unroll 32
            for (int k = 0; k < K; k++)
                if (j >= k && (j - k) % S == 0 && (j - k) / S < P) sums[(j - k) / S] += in * tap[k];
        }
    }

    template <bool Edge>
    void run_channels(const float* filters, int64_t filter, int64_t first, int64_t count, float* out,
                      int64_t ld) const {
        for (int64_t i = 0; i < count; i += W, filters += filter) {
            const int64_t at = least(i, count - W);
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
    const int64_t y = line % c.oh * c.sh - c.pt, own = c.c / c.groups, taps = c.kh * K * own;
    const float* start = x + line / c.oh * c.xn + y * c.xh;
    const Taps lines(y, c.dh, c.kh, c.h);
    for (int64_t at = 0; at < c.ow; at += P) {
        const int64_t first = at * S - c.pl, count = least(P, c.ow - at);
        const Patch patch = {start + first * c.xw, c.dh * c.xh, c.xw, own, lines,
                             Taps(first, 1, Patch::WIDE, c.w)};
        const bool edge = patch.columns.begin > 0 || patch.columns.end < Patch::WIDE;
        for (int64_t i = 0; i < parts.count; i++) {
            const int64_t from = parts.start(i), width = parts.start(i + 1) - from, ld = round_up(width, W);
            const float* filters = packed + from * taps;
            if (edge)
                patch.template run_channels<true>(filters, taps * W, from, width, tile, ld);
            else
                patch.template run_channels<false>(filters, taps * W, from, width, tile, ld);
            epilogue(context, tile, ld, line * c.ow + at, count, from, width);
        }
    }
}

typedef void (*Line)(const Conv&, const float*, const float*, int64_t, Epilogue, const void*);

// What has code of its own: the usual filters, and those of the usual groups. Null for other groups.
Line find(const Conv& c) {
    static constexpr Line lines[3][2] = {{run_line<1, 3, 1>, run_line<1, 3, 2>},
                                         {run_line<1, 5, 1>, run_line<1, 5, 2>},
                                         {run_line<1, 7, 1>, run_any_line}};
    const bool plain = c.c >= W && c.dw == 1 && c.sw <= 2;
    if (c.groups == c.c) {
        const bool usual = plain && (c.kw == 3 || c.kw == 5 || c.kw == 7);
        return usual ? lines[(c.kw - 3) / 2][c.sw - 1] : run_any_line;
    }
    if (!plain || c.kw != 3 || c.groups == 1) return nullptr;
    const int64_t own = c.c / c.groups;
    // Groups that fill whole panels are as fast as products.
    if (own % W == 0 && own % NR != 0) return c.sw == 1 ? run_line<0, 3, 1> : run_line<0, 3, 2>;
    if (own == 4) return c.sw == 1 ? run_line<4, 3, 1> : run_line<4, 3, 2>;
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
