// Attention by whichever way suits the number of queries: what attention_<types>.cpp instantiate.
#pragma once
#include "attention.h"
#include "attention_decode.h"
#include "attention_prefill.h"

namespace maia {

template <class Q, class K>
void attention(const Attention& a, const Q* q, const K* k, const K* v, Q* o) {
    const int64_t rows = a.heads / a.kv_heads * a.t;
    if (a.batch * a.kv_heads * rows == 0) return;
    // With many rows to a key, packed keys are better.
    if (a.t <= 8 && rows <= 16) return decode::attention(a, q, k, v, o);
    prefill::attention(a, q, k, v, o);
}

}  // namespace maia
