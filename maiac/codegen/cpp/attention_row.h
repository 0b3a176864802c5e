// One row of attention scores: capping, masks and the step of the running softmax.
#pragma once
#include "attention_geometry.h"
#include "functions.h"

namespace maia {

// Behind the last key that causality and the window leave to a query.
static inline int64_t seen_end(const Attention& a, int64_t query) {
    const int64_t own = query + a.first, ahead = a.causal ? 1 : a.window > 0 ? a.window : a.s;
    return own + ahead < a.s ? own + ahead : a.s;
}

enum class Seen { none, some, all };

// How much of n mask values, from `mask` on, lets keys through. A float counts as none where it leaves nothing of a
// key's weight: -inf, or, where the row has seen a better key (`started`), the lowest numbers that exporters use.
static inline Seen look(int kind, const char* mask, int64_t stride, int64_t n, bool started) {
    if (kind == 0 || n <= 0) return Seen::all;
    if (kind == 1) {
        int64_t i = 0, count = 0;
        if (stride == 1) {
            uint64_t word, both = ~0ull, either = 0;
            for (; i + 8 <= n; i += 8) {
                memcpy(&word, mask + i, 8);
                both &= word;
                either |= word;
            }
            bool whole = (both & 0x0101010101010101) == 0x0101010101010101;
            if (!whole && either) return Seen::some;
            count = either ? i : 0;
        }
        for (; i < n; i++) count += mask[i * stride] != 0;
        return count == n ? Seen::all : count ? Seen::some : Seen::none;
    }
    float low = started ? -1e30f : -3.4028235e38f;
    const float* m = (const float*)mask;
    if (started ? m[0] > low : m[0] >= low) return Seen::some;
    for (int64_t i = 0; i < n; i++)
        if (!(started ? m[i * stride] <= low : m[i * stride] < low)) return Seen::some;
    return Seen::none;
}

static inline void apply_mask(int kind, const char* mask, int64_t stride, float* x, int64_t n) {
    int64_t i = 0;
    if (kind == 1) {
        if (stride == 1)
            for (; i + W <= n; i += W) {
                vi on = __builtin_convertvector(load((const uint8_t*)mask + i), vi);
                store(x + i, on != 0 ? load(x + i) : vf{} - INFINITY);
            }
        for (; i < n; i++)
            if (!mask[i * stride]) x[i] = -INFINITY;
        return;
    }
    const float* m = (const float*)mask;
    if (stride == 1)
        for (; i + W <= n; i += W) store(x + i, load(x + i) + load(m + i));
    for (; i < n; i++) x[i] += m[i * stride];
}

// Over the lanes: 16 or 8 of them are halved down to the 4 that are cheap to go through.
struct Most {
    template <class V>
    V operator()(V a, V b) const {
        return a > b ? a : b;
    }
};
struct Plus {
    template <class V>
    V operator()(V a, V b) const {
        return a + b;
    }
};
template <class F>
static inline float fold(vf v, const F& f) {
    typedef float quarter __attribute__((vector_size(16)));
    quarter q[W / 4];
    memcpy(q, &v, sizeof v);
    for (int n = W / 8; n; n /= 2)
        for (int i = 0; i < n; i++) q[i] = f(q[i], q[i + n]);
    return f(f(q[0][0], q[0][2]), f(q[0][1], q[0][3]));
}

// exp of differences to a maximum, which are never positive; what is too small beside 1 becomes 0.
static inline vf exp_of_difference(vf x) {
    x = x * 1.44269502f;
    vf big = x + 12582912.0f;  // its lowest bits are the integer nearest to x
    vf r = x - (big - 12582912.0f);
    vf q = 0.00132645865f * r + 0.00967161916f;
    q = q * r + 0.0555073507f;
    q = q * r + 0.240222409f;
    q = q * r + 0.693147004f;
    vf p = 1.0f + r * q;
    p = (vf)((vu)p + ((vu)big << 23));
    return x < -125.0f ? vf{} : p;
}

// The running softmax of a row: weights are relative to exp(top), `total` is their sum.
struct Running {
    float top = -INFINITY, total = 0;
};

// What is left of a row's sums once they are relative to the larger of row.top and `top`, which becomes row.top. `base`
// is that, or 0 where the row has seen nothing.
static inline float shrink(Running& row, float top, float& base) {
    const float before = row.top;
    if (top > before) row.top = top;
    base = row.top == -INFINITY ? 0.0f : row.top;
    return exp_of_difference(splat(before - base))[0];
}

// Scores x[begin..end), multiples of W, become weights relative to exp(base); gives their sum.
static inline float weigh(float* x, int64_t begin, int64_t end, float base) {
    vf total = {};
    for (int64_t i = begin; i < end; i += W) {
        vf p = exp_of_difference(load(x + i) - base);
        store(x + i, p);
        total += p;
    }
    return fold(total, Plus());
}

// Turns scores x[begin..end) (multiples of W) into weights, of which only those in low..high take part; gives the
// factor by which everything summed before has shrunk.
static inline float soften(const Attention& a, float* x, int64_t begin, int64_t end, int64_t low, int64_t high,
                           Seen seen, const char* mask, Running& row) {
    if (a.softcap > 0) {
        float over = 1.0f / a.softcap;
        for (int64_t i = begin; i < end; i += W) store(x + i, a.softcap * tanh(load(x + i) * over));
    }
    low = low < begin ? begin : low < end ? low : end;
    high = high < low || seen == Seen::none ? low : high < end ? high : end;
    for (int64_t i = begin; i < low; i++) x[i] = -INFINITY;
    for (int64_t i = high; i < end; i++) x[i] = -INFINITY;
    if (seen == Seen::some) {
        int64_t bytes = a.mask_kind == 1 ? 1 : 4;
        apply_mask(a.mask_kind, mask + low * a.ms * bytes, a.ms, x + low, high - low);
    }
    vf top = vf{} - INFINITY;
    for (int64_t i = begin; i < end; i += W) top = larger(load(x + i), top);
    float base, shrunk = shrink(row, fold(top, Most()), base);
    row.total = row.total * shrunk + weigh(x, begin, end, base);
    return shrunk;
}

// The same for R rows, `stride` floats apart, that see all of begin..end as it is: their maxima do not wait for each
// other.
template <int R>
static inline void soften_all(float* x, int64_t stride, int64_t begin, int64_t end, Running* (&rows)[R],
                              float* shrunk) {
    vf top[R];
    for (int r = 0; r < R; r++) top[r] = vf{} - INFINITY;
    for (int64_t i = begin; i < end; i += W)
        for (int r = 0; r < R; r++) top[r] = larger(load(x + r * stride + i), top[r]);
    float base[R];
    for (int r = 0; r < R; r++) shrunk[r] = shrink(*rows[r], fold(top[r], Most()), base[r]);
    for (int r = 0; r < R; r++)
        rows[r]->total = rows[r]->total * shrunk[r] + weigh(x + r * stride, begin, end, base[r]);
}

}  // namespace maia
