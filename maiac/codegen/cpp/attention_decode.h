// Attention of a few queries over a long cache, which is bound by memory: keys and values are read once, in order.
#pragma once
#include "attention.h"

namespace maia {

// Whether attention_decode is the better way: with many rows to a key, packed keys are.
static inline bool decodes(const Attention& a) { return a.t <= 8 && a.heads / a.kv_heads * a.t <= 16; }

template <class Q, class K>
void attention_decode(const Attention& a, const Q* q, const K* k, const K* v, Q* o);

}  // namespace maia
