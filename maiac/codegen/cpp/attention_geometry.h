// What attention works on.
#pragma once
#include <cstdint>

namespace maia {

// q[batch, heads, t, d], k[batch, kv_heads, s, d], v[batch, kv_heads, s, e] -> o[batch, heads, t, e]; heads is a
// multiple of kv_heads, and query head h reads key head h / (heads / kv_heads). Strides count elements; the last dims
// have stride 1.
struct Attention {
    int64_t batch, heads, kv_heads, t, s, d, e;
    int64_t qb, qh, qt, kb, kh, ks, vb, vh, vs, ob, oh, ot;
    float scale;
    int causal;        // query i sees keys 0..i+first
    int mask_kind;     // 0: none; 1: bool, a byte, true takes part; 2: float, added after the scale
    const void* mask;  // [batch, heads, t, s] by these strides, 0 where it is broadcast
    int64_t mb, mh, mt, ms;
    float softcap = 0;   // c: scores become c * tanh(score / c) before the mask; 0: none
    // w: query i sees only less than w keys back (j > i + first - w) and, where not causal, ahead (j < i + first + w);
    // 0: all
    int64_t window = 0;
    int64_t first = 0;   // the position of query 0 among the keys
};

}  // namespace maia
