// Convolution by one filter for each channel, or for each group of a few channels.
#pragma once
#include "conv_geometry.h"
#include "epilogue.h"

namespace maia {

bool depthwise_fits(const Conv& conv);
int64_t depthwise_packed_bytes(const Conv& conv);
void depthwise_pack(const Conv& conv, const float* w, void* packed);
void conv_depthwise(const Conv& conv, const float* x, const void* packed, Epilogue epilogue, const void* context);

}  // namespace maia
