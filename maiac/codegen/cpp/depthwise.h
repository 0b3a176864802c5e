// Convolution by one filter for each channel.
#pragma once
#include "conv_geometry.h"
#include "epilogue.h"

namespace maia {

int64_t depthwise_packed_bytes(const Conv& conv);
void depthwise_pack(const Conv& conv, const float* w, void* packed);
void conv_depthwise(const Conv& conv, const float* x, const void* packed, Epilogue epilogue, const void* context);

}  // namespace maia
