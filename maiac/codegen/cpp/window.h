// Windows over images: pooling, resizing, and the statistics that normalise groups of channels. Images are float NHWC:
// the strides of n, h and w are given in elements, channels have stride 1.
#pragma once
#include <cstdint>

namespace maia {

struct Image {
    int64_t n, h, w, c;
    int64_t sn, sh, sw;  // strides
};

// x -> y (y.h, y.w rows and columns of windows, however their number was rounded). The window of y's pixel (i, j)
// begins at x's (i * stride_h - top, j * stride_w - left), and its taps lie dilation apart.
struct Pool2d {
    int64_t kh, kw, stride_h, stride_w, top, left, bottom, right;
    int64_t dilation_h = 1, dilation_w = 1;
    int count_padding = 0;  // average: padding (of all four sides) counts as zeros
    int64_t divisor = 0;    // average: divide by this instead of the number of pixels; 0: by the number
};

// Padding never wins, NaN does. A window without any pixel gives -inf; an average, 0.
void max_pool(const Pool2d& p, const Image& x, const Image& y, const float* from, float* to);
void avg_pool(const Pool2d& p, const Image& x, const Image& y, const float* from, float* to);
// The mean of each channel, y[n, c] with stride 1 in c and `sn` between images.
void global_average(const Image& x, const float* from, float* to, int64_t sn);

// Where output row (or column) i reads: rows first[i] and second[i], the latter with weight second_weight[i].
// Tables for torch's rules; `scale` is torch's scale_factor where the user gave one, else 0.
void nearest_table(int64_t in, int64_t out, double scale, int32_t* first);
void linear_table(int64_t in, int64_t out, double scale, int align_corners, int32_t* first, int32_t* second,
                  float* second_weight);

struct Taps {
    const int32_t *first, *second;
    const float* weight;
};
void resize_nearest(const Image& x, const Image& y, const int32_t* rows, const int32_t* columns, const float* from,
                    float* to);
void resize_linear(const Image& x, const Image& y, const Taps& rows, const Taps& columns, const float* from, float* to);

// Group normalisation as a multiply-add for each channel: with the mean and the (biased) variance of every group of
// c / groups channels over all pixels of an image, scale[n, c] = gain / sqrt(variance + eps) and shift[n, c] = bias -
// mean * scale. gain and bias may be null. Pixels lie sw apart, rows sh = w * sw. Good to 1e-6 of the spread.
void group_stats(const Image& x, int64_t groups, const float* from, const float* gain, const float* bias, float eps,
                 float* scale, float* shift);

}  // namespace maia
