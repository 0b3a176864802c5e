// One filter for each channel: vectors run over channels.
#include "depthwise.h"

#include "pool.h"
#include "tile.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int SUMS = W == 4 ? 4 : 8;  // vectors at once, to hide the latency of their sums: of pixels or of channels
constexpr int64_t CHANNELS = 64;      // of a tile

int64_t padded(int64_t channels) { return (channels + W - 1) / W * W; }

// Taps that fall inside of the image, for a row or column that starts at `first`.
struct Taps {
    int64_t begin, end;
    Taps(int64_t first, int64_t dilation, int64_t taps, int64_t size) {
        begin = first >= 0 ? 0 : least(taps, divide_up(-first, dilation));
        end = first >= size ? 0 : least(taps, (size - 1 - first) / dilation + 1);
        if (end < begin) end = begin;
    }
};

// Some outputs of a line: the input of the first one's first tap, which may lie outside, and the taps that do not.
struct Span {
    const Conv& c;
    const float* x;
    Taps rows, columns;
};

// P outputs of V vectors of channels, or where Part is set of `left` channels of one.
template <int P, int V, bool Part>
inline void run(const Span& s, const float* w, int64_t ch, int64_t left, float* out, int64_t ld) {
    const Conv& c = s.c;
    vf sums[P][V];
#pragma GCC unroll 8
    for (int i = 0; i < P * V; i++) sums[i / V][i % V] = vf{};
    const int64_t step = c.sw * c.xw, next = c.dw * c.xw, across = padded(c.c);
    for (int64_t i = s.rows.begin; i < s.rows.end; i++) {
        const float* from = s.x + i * c.dh * c.xh + s.columns.begin * next + ch;
        const float* taps = w + (i * c.kw + s.columns.begin) * across + ch;
        for (int64_t j = s.columns.begin; j < s.columns.end; j++, from += next, taps += across) {
            vf tap[V];
#pragma GCC unroll 8
            for (int v = 0; v < V; v++) tap[v] = load(taps + v * W);
#pragma GCC unroll 8
            for (int k = 0; k < P * V; k++) {
                const float* at = from + k / V * step + k % V * W;
                sums[k / V][k % V] += (Part ? load(at, left) : load(at)) * tap[k % V];
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < P * V; i++) store(out + i / V * ld + i % V * W, sums[i / V][i % V]);
}

template <int P>
void run_channels(const Span& s, const float* w, int64_t first, int64_t count, float* out, int64_t ld) {
    constexpr int V = SUMS / P;
    int64_t i = 0;
    for (; i + V * W <= count; i += V * W) run<P, V, false>(s, w, first + i, W, out + i, ld);
    for (; V > 1 && i + W <= count; i += W) run<P, 1, false>(s, w, first + i, W, out + i, ld);
    if (i < count) run<P, 1, true>(s, w, first + i, count - i, out + i, ld);
}

// The outputs from `row` on, P of them where at least `whole` have all columns inside, else half as many and so on, but
// at least one; gives how many.
template <int P>
int64_t run_pixels(const Span& s, const float* packed, int64_t row, int64_t whole, Epilogue epilogue,
                   const void* context) {
    if constexpr (P > 1)
        if (P > whole) return run_pixels<P / 2>(s, packed, row, whole, epilogue, context);
    alignas(64) float tile[P * CHANNELS];
    for (int64_t from = 0; from < s.c.c; from += CHANNELS) {
        int64_t count = least(CHANNELS, s.c.c - from), ld = padded(count);
        run_channels<P>(s, packed, from, count, tile, ld);
        epilogue(context, tile, ld, row, P, from, count);
    }
    return P;
}

void run_line(const Conv& c, const float* x, const float* packed, int64_t line, Epilogue epilogue,
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

}  // namespace

int64_t depthwise_packed_bytes(const Conv& c) { return c.kh * c.kw * padded(c.c) * int64_t(sizeof(float)); }

void depthwise_pack(const Conv& c, const float* w, void* packed) {
    int64_t taps = c.kh * c.kw, across = padded(c.c);
    for (int64_t t = 0; t < taps; t++)
        for (int64_t i = 0; i < across; i++) ((float*)packed)[t * across + i] = i < c.c ? w[i * taps + t] : 0;
}

void conv_depthwise(const Conv& c, const float* x, const void* packed, Epilogue epilogue, const void* context) {
    int64_t lines = c.n * c.oh, work = c.ow * c.c * c.kh * c.kw;
    int64_t grain = most(1, least((lines + threads() * 8 - 1) / (threads() * 8), (1 << 17) / most(work, 1) + 1));
    parallel(lines, grain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) run_line(c, x, (const float*)packed, i, epilogue, context);
    });
}

}  // namespace maia
