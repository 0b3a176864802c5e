// The ways to convolve, one file each.
#pragma once
#include "conv.h"

namespace maia {

void conv_direct(const Conv& conv, const float* x, const void* packed, Epilogue epilogue, const void* context);

int64_t depthwise_packed_bytes(const Conv& conv);
void depthwise_pack(const Conv& conv, const float* w, void* packed);
void conv_depthwise(const Conv& conv, const float* x, const void* packed, Epilogue epilogue, const void* context);

int64_t winograd_packed_bytes(ConvKind kind, const Conv& conv);
void winograd_pack(ConvKind kind, const Conv& conv, const float* w, void* packed);
int64_t winograd_workspace(ConvKind kind, const Conv& conv);
void conv_winograd(ConvKind kind, const Conv& conv, const float* x, const void* packed, void* workspace,
                   Epilogue epilogue, const void* context);

}  // namespace maia
