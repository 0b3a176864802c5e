// Convolution as a matrix product whose left rows are found in the image.
#pragma once
#include "conv_geometry.h"
#include "epilogue.h"

namespace maia {

void conv_direct(const Conv& conv, const float* x, const void* packed, Epilogue epilogue, const void* context);

}  // namespace maia
