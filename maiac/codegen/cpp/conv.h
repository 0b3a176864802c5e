// Convolutions of channels-last images, float32. As in products, an epilogue takes the result tile by tile.
#pragma once
#include "conv_geometry.h"
#include "epilogue.h"

namespace maia {

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
