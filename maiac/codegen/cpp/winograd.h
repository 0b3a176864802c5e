// Convolution by transformed squares.
#pragma once
#include "conv_geometry.h"
#include "epilogue.h"

namespace maia {

int64_t winograd_packed_bytes(ConvKind kind, const Conv& conv);
void winograd_pack(ConvKind kind, const Conv& conv, const float* w, void* packed);
int64_t winograd_workspace(ConvKind kind, const Conv& conv);
void conv_winograd(ConvKind kind, const Conv& conv, const float* x, const void* packed, void* workspace,
                   Epilogue epilogue, const void* context);

}  // namespace maia
