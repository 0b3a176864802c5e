// One filter for each channel: vectors run over channels.
#include "depthwise.h"

#include "pool.h"
#include "tile.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int PIXELS = W == 4 ? 4 : 8;    // outputs at once, to hide the latency of their sums
constexpr int64_t CHANNELS = 64;          // of a tile

int64_t padded(int64_t channels) { return (channels + W - 1) / W * W; }

// Taps that fall inside of the image, for a row or column that starts at `first`.
struct Taps {
    int64_t begin, end;
    Taps(int64_t first, int64_t dilation, int64_t taps, int64_t size) {
        begin = first >= 0 ? 0 : least(taps, (-first + dilation - 1) / dilation);
        end = first >= size ? 0 : least(taps, (size - 1 - first) / dilation + 1);
        if (end < begin) end = begin;
    }
};

// P outputs of W channels, or where Part is set of `left` fewer ones; `x` is the input of the first tap.
template <int P, bool Part>
void run(const Conv& c, const float* x, const float* w, Taps rows, Taps columns, int64_t left, float* out, int64_t ld) {
    vf sums[P];
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) sums[p] = vf{};
    int64_t step = c.sw * c.xw, across = padded(c.c);
    for (int64_t i = rows.begin; i < rows.end; i++)
        for (int64_t j = columns.begin; j < columns.end; j++) {
            const float* from = x + i * c.dh * c.xh + j * c.dw * c.xw;
            vf tap = load(w + (i * c.kw + j) * across);
#pragma GCC unroll 8
            for (int p = 0; p < P; p++) sums[p] += (Part ? load(from + p * step, left) : load(from + p * step)) * tap;
        }
#pragma GCC unroll 8
    for (int p = 0; p < P; p++) store(out + p * ld, sums[p]);
}

template <int P>
void run_channels(const Conv& c, const float* x, const float* w, Taps rows, Taps columns, int64_t count, float* out,
                  int64_t ld) {
    int64_t ch = 0;
    for (; ch + W <= count; ch += W) run<P, false>(c, x + ch, w + ch, rows, columns, W, out + ch, ld);
    if (ch < count) run<P, true>(c, x + ch, w + ch, rows, columns, count - ch, out + ch, ld);
}

void run_row(const Conv& c, const float* x, const float* packed, int64_t line, Epilogue epilogue, const void* context) {
    alignas(64) float tile[PIXELS * CHANNELS];
    int64_t y = line % c.oh, first_row = y * c.sh - c.pt;
    Taps rows(first_row, c.dh, c.kh, c.h);
    const float* image = x + line / c.oh * c.xn;
    for (int64_t at = 0; at < c.ow;) {
        // As many as have all their columns inside go together, the others one by one.
        int64_t first = at * c.sw - c.pl, last = (at + PIXELS - 1) * c.sw - c.pl + (c.kw - 1) * c.dw;
        bool inside = at + PIXELS <= c.ow && first >= 0 && last < c.w;
        int64_t pixels = inside ? PIXELS : 1;
        Taps columns(first, c.dw, c.kw, c.w);
        for (int64_t from = 0; from < c.c; from += CHANNELS) {
            int64_t count = least(CHANNELS, c.c - from), ld = padded(count);
            const float* start = image + first_row * c.xh + first * c.xw + from;
            (inside ? run_channels<PIXELS> : run_channels<1>)(c, start, packed + from, rows, columns, count, tile, ld);
            epilogue(context, tile, ld, line * c.ow + at, pixels, from, count);
        }
        at += pixels;
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
        for (int64_t i = begin; i < end; i++) run_row(c, x, (const float*)packed, i, epilogue, context);
    });
}

}  // namespace maia
