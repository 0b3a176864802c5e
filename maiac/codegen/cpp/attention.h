// Scaled dot-product attention without the matrix of scores: keys come in blocks, and a running maximum and sum keep
// the softmax of what was seen so far.
#pragma once
#include "attention_geometry.h"
#include "simd.h"

namespace maia {

// A query that sees no key at all gives zeros, as torch's does. Sums are in float; the result of a row depends neither
// on the number of threads nor on the other rows. For <Q, K>: <float, float>, <bf16, bf16>, <f16, f16>, <float, bf16>.
template <class Q, class K>
void attention(const Attention& a, const Q* q, const K* k, const K* v, Q* o);

}  // namespace maia
