// Convolution as a matrix product: the left factor's rows are pieces of the image, found through pointers.
#include "direct.h"

#include "pool.h"
#include "product.h"
#include "whole.h"

namespace maia {
namespace {

struct Image {
    const Conv& c;
    const float* x;
    const float* zeros;  // as many as a run
    bool whole_rows;     // whether a position is a row of taps, not a tap
};

// The taps of a row of the filter lie one after the other where pixels do. Few channels make short runs, which cost
// more than the copies at the image's edges.
bool takes_whole_rows(const Conv& c) {
    return c.groups == 1 && c.dw == 1 && c.xw == c.c && c.kw > 1 && c.c <= 128;
}

int64_t floor_divide(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// Outputs from..to of a row: each one's tap at input column first + x * sw, or zeros outside of the image.
void point_taps(const Image& m, const float* row, int64_t first, int64_t from, int64_t to, const float** out) {
    const Conv& c = m.c;
    int64_t begin = most(from, floor_divide(-first + c.sw - 1, c.sw));
    int64_t end = least(to, floor_divide(c.w - 1 - first, c.sw) + 1);
    if (!row || begin >= end) begin = end = to;
    for (int64_t x = from; x < begin; x++) out[x - from] = m.zeros;
    for (int64_t x = begin; x < end; x++) out[x - from] = row + (first + x * c.sw) * c.xw;
    for (int64_t x = end; x < to; x++) out[x - from] = m.zeros;
}

// One output's row of taps, part of which lies outside of the image: it is put together in `space`.
void copy_taps(const Conv& c, const float* row, int64_t first, float* space) {
    int64_t begin = most(first, 0), end = least(first + c.kw, c.w);
    float* to = space;
    for (int64_t i = 0; i < (begin - first) * c.c; i++) *to++ = 0;
    for (const float *from = row + begin * c.c, *stop = row + end * c.c; from < stop; from++) *to++ = *from;
    while (to < space + c.kw * c.c) *to++ = 0;
}

// The same as point_taps for whole rows of taps.
void point_rows(const Image& m, const float* row, int64_t from, int64_t to, const float** out, float*& space) {
    const Conv& c = m.c;
    int64_t run = c.kw * c.c;
    int64_t begin = row ? least(to, most(from, (c.pl + c.sw - 1) / c.sw)) : to;
    int64_t end = row ? most(begin, least(to, floor_divide(c.w - c.kw + c.pl, c.sw) + 1)) : to;
    for (int64_t x = begin; x < end; x++) out[x - from] = row + (x * c.sw - c.pl) * c.c;
    for (int64_t x = from; x < to; x++) {
        if (x == begin) x = end;
        if (x == to) break;
        int64_t first = x * c.sw - c.pl;
        out[x - from] = m.zeros;
        if (!row || first >= c.w || first + c.kw <= 0) continue;
        copy_taps(c, row, first, space);
        out[x - from] = space;
        space += run;
    }
}

void point(const void* source, int64_t group, int64_t row, int64_t count, const float** out, int64_t step,
           float* space) {
    const Image& m = *(const Image*)source;
    const Conv& c = m.c;
    for (int64_t done = 0; done < count;) {
        int64_t pixel = row + done, from = pixel % c.ow, line = pixel / c.ow;
        int64_t y = line % c.oh, image = line / c.oh;
        int64_t to = least(c.ow, from + count - done);
        const float* start = m.x + image * c.xn + group * (c.c / c.groups);
        for (int64_t i = 0; i < c.kh; i++) {
            int64_t input = y * c.sh - c.pt + i * c.dh;
            const float* in = input >= 0 && input < c.h ? start + input * c.xh : nullptr;
            if (m.whole_rows) {
                point_rows(m, in, from, to, out + i * step + done, space);
                continue;
            }
            for (int64_t j = 0; j < c.kw; j++)
                point_taps(m, in, j * c.dw - c.pl, from, to, out + (i * c.kw + j) * step + done);
        }
        done += to - from;
    }
}

}  // namespace

void conv_direct(const Conv& c, const float* x, const void* packed, Epilogue epilogue, const void* context) {
    Image image = {c, x, nullptr, takes_whole_rows(c)};
    Product p = {};
    p.batch = c.groups;
    p.m = c.n * c.oh * c.ow;
    p.n = c.o / c.groups;
    p.positions = image.whole_rows ? c.kh : c.kh * c.kw;
    p.run = image.whole_rows ? c.kw * c.c : c.c / c.groups;
    p.rows = point;
    p.rows_copied = image.whole_rows;
    p.packed = (const float*)packed;
    p.column_step = p.n;
    p.source = &image;
    p.epilogue = epilogue;
    p.context = context;
    float* zeros = (float*)scratch(most(p.run, 1) * int64_t(sizeof(float)), CALLER_SLOT);
    memset(zeros, 0, size_t(p.run) * sizeof(float));
    image.zeros = zeros;
    multiply(p);
}

}  // namespace maia
