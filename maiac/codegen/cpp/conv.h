// Convolutions of channels-last images, float32. As in products, an epilogue takes the result tile by tile.
#pragma once
#include "gemm.h"

namespace maia {

// `n` images of h x w pixels of c channels become images of oh x ow pixels of o channels, by filters of kh x kw taps.
// sh, sw: strides. pt, pl: rows and columns of zeros before the image; what lies beyond its other ends is 0 too, as far
// as oh and ow reach. dh, dw: dilation. The input's channels lie one after the other; xn, xh, xw are the steps, in
// elements, to the next image, row and pixel, so that it may be a part of a wider tensor.
struct Conv {
    int64_t n, h, w, c, oh, ow, o, kh, kw, sh, sw, pt, pl, dh, dw, groups;
    int64_t xn, xh, xw;
};

// direct: a matrix product whose left rows are found in the image. depthwise: one filter for each channel. winograd2
// and winograd4: outputs in squares of 2x2 and 4x4, for 3x3 filters of stride 1. Measured against float64 with normally
// distributed images and filters of 16 to 1024 channels, the largest error stays under 5e-6 (direct), 3e-6 (winograd2)
// and 1e-5 (winograd4) of the outputs' root mean square.
enum class ConvKind : int { direct, depthwise, winograd2, winograd4 };

bool conv_fits(ConvKind kind, const Conv& conv);

// The kind that should be fastest, whatever the number of threads. Weights are packed for one kind, so where sizes vary
// give usual ones; n, oh and ow of 0 are unknown.
ConvKind conv_choose(const Conv& conv);

// Weights are given as w[o][c / groups][kh][kw] without gaps. Only o, c, kh, kw and groups matter for packing.
int64_t conv_packed_bytes(ConvKind kind, const Conv& conv);
void conv_pack(ConvKind kind, const Conv& conv, const float* w, void* packed);

// Bytes that the caller lends for the time of the call, aligned to 64.
int64_t conv_workspace(ConvKind kind, const Conv& conv);

// The epilogue's rows are pixels, (image * oh + y) * ow + x; its columns are output channels, and with groups `col` need
// not be a multiple of the vector's width.
void conv(ConvKind kind, const Conv& conv, const float* x, const void* packed, void* workspace, Epilogue epilogue,
          const void* context);

}  // namespace maia
