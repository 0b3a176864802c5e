#include "window.h"

#include "functions.h"
#include "pool.h"

namespace maia {
namespace {

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

// So many items of `bytes` each that a chunk is worth handing to another thread.
int64_t grain(int64_t bytes) { return most(1, 32768 / most(1, bytes)); }

struct Range {
    int64_t begin, end;  // of taps that meet pixels
};
Range inside(int64_t start, int64_t taps, int64_t dilation, int64_t n) {
    int64_t begin = start < 0 ? (-start + dilation - 1) / dilation : 0;
    int64_t end = start < n ? (n - 1 - start) / dilation + 1 : 0;
    return {begin, most(begin, least(taps, end))};
}
int64_t length(Range r) { return r.end - r.begin; }

// Combines the taps rows x columns from `x` on, for N vectors of channels, of the last of which `tail` lanes are there.
template <int N, class F>
inline void gather(const float* x, int64_t sh, int64_t sw, int64_t rows, int64_t columns, int64_t tail, vf start,
                   float factor, float* y, const F& f) {
    vf c[N];
    for (int i = 0; i < N; i++) c[i] = start;
    for (int64_t row = 0; row < rows; row++)
        for (int64_t column = 0; column < columns; column++) {
            const float* tap = x + row * sh + column * sw;
            for (int i = 0; i < N; i++)
                c[i] = f(c[i], i < N - 1 || tail == W ? load(tap + i * W) : load(tap + i * W, tail));
        }
    for (int i = 0; i < N; i++) {
        vf value = factor == 1.0f ? c[i] : c[i] * factor;
        i < N - 1 || tail == W ? store(y + i * W, value) : store(y + i * W, value, tail);
    }
}

template <class F>
void pool(const Pool2d& p, const Image& x, const Image& y, const float* from, float* to, bool average, const F& f) {
    vf start = average ? vf{} : vf{} - INFINITY;
    int64_t work = y.w * y.c * 4 * (p.kh * p.kw + 1) / 2;
    parallel(y.n * y.h, grain(work), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            int64_t n = at / y.h, i = at % y.h, top = i * p.stride_h - p.top;
            Range rows = inside(top, p.kh, p.dilation_h, x.h);
            int64_t high = least(p.kh, (x.h + p.bottom - top - 1) / p.dilation_h + 1);
            for (int64_t j = 0; j < y.w; j++) {
                int64_t left = j * p.stride_w - p.left;
                Range columns = inside(left, p.kw, p.dilation_w, x.w);
                int64_t wide = least(p.kw, (x.w + p.right - left - 1) / p.dilation_w + 1);
                int64_t pixels = length(rows) * length(columns);
                int64_t count = p.divisor ? p.divisor : p.count_padding ? high * wide : pixels;
                float factor = average && pixels ? 1.0f / float(count) : 1.0f;
                const float* in = from + n * x.sn + (top + rows.begin * p.dilation_h) * x.sh +
                                  (left + columns.begin * p.dilation_w) * x.sw;
                if (!pixels) in = from;
                float* out = to + n * y.sn + i * y.sh + j * y.sw;
                int64_t sh = p.dilation_h * x.sh, sw = p.dilation_w * x.sw, c = 0;
                int64_t nh = pixels ? length(rows) : 0, nw = length(columns);
                for (; c + 4 * W <= y.c; c += 4 * W) gather<4>(in + c, sh, sw, nh, nw, W, start, factor, out + c, f);
                for (; c < y.c; c += W) gather<1>(in + c, sh, sw, nh, nw, least(W, y.c - c), start, factor, out + c, f);
            }
        }
    });
}

float scale_of(int64_t in, int64_t out, double scale) {
    return scale > 0 ? float(1.0 / scale) : float(in) / float(out);
}

// The mean of each channel over the pixels of a chunk, pixel by pixel as they lie in memory.
void chunk_mean(const float* x, int64_t stride, int64_t pixels, int64_t channels, float* mean) {
    float over = 1.0f / float(pixels);
    int64_t whole = channels / W * W, tail = channels - whole;
    for (int64_t i = 0; i < pixels; i++, x += stride) {
        float factor = i < pixels - 1 ? 1.0f : over;
        for (int64_t c = 0; c < whole; c += W) store(mean + c, ((i ? load(mean + c) : vf{}) + load(x + c)) * factor);
        if (tail) store(mean + whole, ((i ? load(mean + whole, tail) : vf{}) + load(x + whole, tail)) * factor, tail);
    }
}

// For N vectors of channels, the sums of what is left of the pixels when the mean is taken off, and of that squared.
// The first would be 0 but for rounding, and corrects both.
template <int N>
void chunk_squares(const float* x, int64_t stride, int64_t pixels, int64_t tail, const float* mean, float* rest,
                   float* squares) {
    vf m[N], sum[N] = {}, square[N] = {};
    for (int k = 0; k < N; k++) m[k] = load(mean + k * W, tail);
    for (int64_t i = 0; i < pixels; i++)
        for (int k = 0; k < N; k++) {
            const float* at = x + i * stride + k * W;
            vf d = (N > 1 || tail == W ? load(at) : load(at, tail)) - m[k];
            sum[k] += d;
            square[k] += d * d;
        }
    for (int k = 0; k < N; k++) {
        store(rest + k * W, sum[k], tail);
        store(squares + k * W, square[k], tail);
    }
}

}  // namespace

void max_pool(const Pool2d& p, const Image& x, const Image& y, const float* from, float* to) {
    pool(p, x, y, from, to, false, [](vf a, vf b) { return maximum(a, b); });
}

void avg_pool(const Pool2d& p, const Image& x, const Image& y, const float* from, float* to) {
    pool(p, x, y, from, to, true, [](vf a, vf b) { return a + b; });
}

void global_average(const Image& x, const float* from, float* to, int64_t sn) {
    constexpr int64_t SPAN = 64;  // channels of a task
    int64_t spans = (x.c + SPAN - 1) / SPAN;
    float factor = 1.0f / float(x.h * x.w);
    parallel(x.n * spans, grain(x.h * x.w * SPAN * 4), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            int64_t n = at / spans, first = at % spans * SPAN;
            for (int64_t c = first; c < least(first + SPAN, x.c); c += W) {
                int64_t lanes = least(W, x.c - c);
                vf total = {};
                for (int64_t i = 0; i < x.h; i++) {  // rows apart: a sum of sums loses less
                    vf row = {};
                    const float* in = from + n * x.sn + i * x.sh + c;
                    for (int64_t j = 0; j < x.w; j++)
                        row += lanes == W ? load(in + j * x.sw) : load(in + j * x.sw, lanes);
                    total += row;
                }
                store(to + n * sn + c, total * factor, lanes);
            }
        }
    });
}

void nearest_table(int64_t in, int64_t out, double scale, int32_t* first) {
    float step = scale_of(in, out, scale);
    for (int64_t i = 0; i < out; i++) {
        int64_t at = int64_t(std::floor(float(i) * step));
        if (out == in) at = i;
        if (out == 2 * in) at = i / 2;
        first[i] = int32_t(most(0, least(at, in - 1)));
    }
}

void linear_table(int64_t in, int64_t out, double scale, int align_corners, int32_t* first, int32_t* second,
                  float* second_weight) {
    float step = align_corners ? (out > 1 ? float(in - 1) / float(out - 1) : 0.0f) : scale_of(in, out, scale);
    for (int64_t i = 0; i < out; i++) {
        float at = align_corners ? float(i) * step : (float(i) + 0.5f) * step - 0.5f;
        if (at < 0) at = 0;
        if (out == in) at = float(i);
        int64_t a = least(int64_t(at), in - 1);
        float weight = at - float(a);
        first[i] = int32_t(a);
        second[i] = int32_t(least(a + 1, in - 1));
        second_weight[i] = weight < 0 ? 0 : weight > 1 ? 1 : weight;
    }
}

void resize_nearest(const Image& x, const Image& y, const int32_t* rows, const int32_t* columns, const float* from,
                    float* to) {
    parallel(y.n * y.h, grain(y.w * y.c * 4), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            const float* in = from + at / y.h * x.sn + rows[at % y.h] * x.sh;
            float* out = to + at / y.h * y.sn + at % y.h * y.sh;
            for (int64_t j = 0; j < y.w; j++, out += y.sw) {
                const float* pixel = in + columns[j] * x.sw;
                int64_t c = 0;
                for (; c + W <= y.c; c += W) store(out + c, load(pixel + c));
                for (; c < y.c; c++) out[c] = pixel[c];
            }
        }
    });
}

void resize_linear(const Image& x, const Image& y, const Taps& rows, const Taps& columns, const float* from,
                   float* to) {
    parallel(y.n * y.h, grain(y.w * y.c * 8), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            int64_t i = at % y.h;
            const float* top = from + at / y.h * x.sn + rows.first[i] * x.sh;
            const float* bottom = from + at / y.h * x.sn + rows.second[i] * x.sh;
            float* out = to + at / y.h * y.sn + i * y.sh;
            float down = rows.weight[i], up = 1.0f - down;
            for (int64_t j = 0; j < y.w; j++, out += y.sw) {
                int64_t a = columns.first[j] * x.sw, b = columns.second[j] * x.sw;
                float right = columns.weight[j], left = 1.0f - right;
                auto mix = [&](auto ta, auto tb, auto ba, auto bb) {
                    return up * (left * ta + right * tb) + down * (left * ba + right * bb);
                };
                int64_t c = 0;
                for (; c + W <= y.c; c += W)
                    store(out + c,
                          mix(load(top + a + c), load(top + b + c), load(bottom + a + c), load(bottom + b + c)));
                for (; c < y.c; c++) out[c] = mix(top[a + c], top[b + c], bottom[a + c], bottom[b + c]);
            }
        }
    });
}

void group_stats(const Image& x, int64_t groups, const float* from, const float* gain, const float* bias, float eps,
                 float* scale, float* shift) {
    // Chunks stay in the first-level cache between their two passes, and have few enough pixels for plain sums.
    int64_t pixels = x.h * x.w, share = most(16, least(256, 6144 / most(1, x.c))),
            chunks = (pixels + share - 1) / share;
    int64_t width = x.c / groups, size = 3 * x.c;
    float* stats = (float*)scratch(x.n * chunks * size * 4, 1);
    parallel(x.n * chunks, grain(share * x.c * 4), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            int64_t first = at % chunks * share, n = least(share, pixels - first), c = 0;
            const float* in = from + at / chunks * x.sn + first * x.sw;
            float* to = stats + at * size;
            chunk_mean(in, x.sw, n, x.c, to);
            for (; c + 4 * W <= x.c; c += 4 * W)
                chunk_squares<4>(in + c, x.sw, n, W, to + c, to + x.c + c, to + 2 * x.c + c);
            for (; c < x.c; c += W)
                chunk_squares<1>(in + c, x.sw, n, least(W, x.c - c), to + c, to + x.c + c, to + 2 * x.c + c);
        }
    });
    parallel(x.n * groups, grain(chunks * width * 32), [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            const float* base = stats + at / groups * chunks * size + at % groups * width;
            double mean = 0, squares = 0, count = double(pixels * width);
            for (int64_t i = 0; i < chunks; i++) {
                double n = double(least(share, pixels - i * share));
                for (int64_t c = 0; c < width; c++) mean += n * base[i * size + c] + base[i * size + x.c + c];
            }
            mean /= count;
            // The sum of (m + d - mean)^2 over the d left by m, of which the sums are known.
            for (int64_t i = 0; i < chunks; i++) {
                double n = double(least(share, pixels - i * share));
                for (int64_t c = 0; c < width; c++) {
                    double off = base[i * size + c] - mean;
                    squares += base[i * size + 2 * x.c + c] + off * (2 * base[i * size + x.c + c] + n * off);
                }
            }
            double over = 1.0 / std::sqrt(squares / count + double(eps));
            for (int64_t i = 0, c = at % groups * width; i < width; i++, c++) {
                double s = over * (gain ? gain[c] : 1.0f);
                scale[at / groups * x.c + c] = float(s);
                shift[at / groups * x.c + c] = float((bias ? bias[c] : 0.0f) - mean * s);
            }
        }
    });
}

}  // namespace maia
