// Packed panels of low precision.
#pragma once
#include "gemm.h"

namespace maia {

extern const Widening low_precision;

}  // namespace maia
