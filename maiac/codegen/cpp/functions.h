// Elementary functions of vectors. The frequent ones of vf are polynomials, right to 1-3 units in the last place (erf:
// 6) from denormals to overflow, with the usual results for NaN, infinities and zeros; the rare ones go lane by lane.
#pragma once
#include "simd.h"

namespace maia {

// Lane by lane through a function of scalars.
template <class V, class F>
static inline V map(V v, const F& f) {
    for (int i = 0; i < W; i++) v[i] = f(v[i]);
    return v;
}
template <class V, class F>
static inline V map(V a, V b, const F& f) {
    for (int i = 0; i < W; i++) a[i] = f(a[i], b[i]);
    return a;
}

// a * b + c, rounded once: where a result hangs on that, not only its speed.
static inline vf fmadd(vf a, vf b, vf c) {
#if defined(MAIA_FMA)
    return MAIA_FMA(a, b, c);
#elif defined(__aarch64__)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

// Bits are handled as unsigned numbers, which may wrap around: lanes of NaN give any exponent.
typedef vec<uint32_t> vu;

static inline vf bits_or(vf a, vi b) { return (vf)((vi)a | b); }
static inline vi sign_bit(vf x) { return (vi)x & int(0x80000000u); }
static inline bool any(vi mask) {
#if defined(MAIA_SIGNS)
    return MAIA_SIGNS(mask);
#else
    int32_t all = 0;
    for (int i = 0; i < W; i++) all |= mask[i];
    return all;
#endif
}

static inline vf abs(vf x) { return (vf)((vi)x & 0x7fffffff); }
static inline vd abs(vd x) { return (vd)((vl)x & int64_t(0x7fffffffffffffff)); }
static inline vf copysign(vf x, vf s) { return bits_or(abs(x), sign_bit(s)); }
static inline vd copysign(vd x, vd s) { return (vd)((vl)abs(x) | ((vl)s & INT64_MIN)); }
// As torch: 0 for NaN.
template <class V>
static inline V sign(V x) {
    V one = V{} + 1;
    return (x > 0 ? one : V{}) - (x < 0 ? one : V{});
}
// NaN wins in maximum and minimum, the number in fmax and fmin.
template <class V>
static inline V maximum(V a, V b) {
    return ((a >= b) | (a != a)) ? a : b;
}
template <class V>
static inline V minimum(V a, V b) {
    return ((a <= b) | (a != a)) ? a : b;
}
template <class V>
static inline V fmax(V a, V b) {
    return ((a >= b) | (b != b)) ? a : b;
}
template <class V>
static inline V fmin(V a, V b) {
    return ((a <= b) | (b != b)) ? a : b;
}

#if defined(MAIA_SQRT)
static inline vf sqrt(vf x) { return MAIA_SQRT(x); }
static inline vf floor(vf x) { return MAIA_ROUND(x, 9); }
static inline vf ceil(vf x) { return MAIA_ROUND(x, 10); }
static inline vf trunc(vf x) { return MAIA_ROUND(x, 11); }
static inline vf round(vf x) { return MAIA_ROUND(x, 8); }
#elif defined(__aarch64__)
static inline vf sqrt(vf x) { return (vf)vsqrtq_f32((float32x4_t)x); }
static inline vf floor(vf x) { return (vf)vrndmq_f32((float32x4_t)x); }
static inline vf ceil(vf x) { return (vf)vrndpq_f32((float32x4_t)x); }
static inline vf trunc(vf x) { return (vf)vrndq_f32((float32x4_t)x); }
static inline vf round(vf x) { return (vf)vrndnq_f32((float32x4_t)x); }
#else
static inline vf sqrt(vf x) {
    return map(x, [](float v) { return std::sqrt(v); });
}
static inline vf floor(vf x) {
    return map(x, [](float v) { return std::floor(v); });
}
static inline vf ceil(vf x) {
    return map(x, [](float v) { return std::ceil(v); });
}
static inline vf trunc(vf x) {
    return map(x, [](float v) { return std::trunc(v); });
}
static inline vf round(vf x) {
    return map(x, [](float v) { return std::nearbyint(v); });
}
#endif
static inline vf rsqrt(vf x) { return 1.0f / sqrt(x); }

// To the nearest integer for |x| < 2^22, also in `integer`: the sum has no bits left for the fraction.
static inline vf nearest(vf x, vu& integer) {
    vf big = x + 12582912.0f;
    integer = (vu)big - 0x4b400000u;
    return big - 12582912.0f;
}
// 2^e for e in -126..127
static inline vf power_of_two(vu e) { return (vf)((e + 127u) << 23); }
// p * 2^e for |e| < 254 in two steps, so that only the last one rounds a denormal or overflows.
static inline vf scale_by_two(vf p, vu e) {
    vu half = (vu)((vi)e >> 1);
    return p * power_of_two(half) * power_of_two(e - half);
}
// The larger and the smaller of two; b where one of them is NaN. GCC finds the instruction only where neither factor is
// a constant.
static inline vf larger(vf a, vf b) {
#if defined(MAIA_MAX)
    return MAIA_MAX(a, b);
#else
    return a > b ? a : b;
#endif
}
static inline vf smaller(vf a, vf b) {
#if defined(MAIA_MIN)
    return MAIA_MIN(a, b);
#else
    return a < b ? a : b;
#endif
}
static inline vf clamp_keeping_nan(vf x, float low, float high) {
    return smaller(vf{} + high, larger(vf{} + low, x));
}

// x - e * log(2), of which the first constant's product is exact.
static inline vf reduce_exp(vf x, vu& e) {
    vf n = nearest(x * 1.44269502f, e);
    return x - n * 0.693359375f + n * 2.12194440e-4f;
}
// exp(x) = result * 2^e for |x| < 100
static inline vf exp_parts(vf x, vu& e) {
    vf r = reduce_exp(x, e);
    vf q = 0.00138144649f * r + 0.00836878084f;
    q = q * r + 0.0416683927f;
    q = q * r + 0.166665196f;
    q = q * r + 0.49999994f;
    return 1.0f + (r + r * r * q);
}
static inline vf exp(vf x) {
    vu e;
    vf p = exp_parts(clamp_keeping_nan(x, -105.0f, 90.0f), e);
    return scale_by_two(p, e);
}

static inline vf exp2(vf x) {
    x = clamp_keeping_nan(x, -151.0f, 129.0f);
    vu e;
    vf r = x - nearest(x, e);
    vf q = 0.000153532572f * r + 0.00133990042f;
    q = q * r + 0.00961843878f;
    q = q * r + 0.0555033199f;
    q = q * r + 0.240226477f;
    q = q * r + 0.693147182f;
    return scale_by_two(1.0f + r * q, e);
}

static inline vf expm1(vf x) {
    vf y = clamp_keeping_nan(x, -20.0f, 89.0f);
    vu e;
    vf r = reduce_exp(y, e);
    vf q = 0.000199137052f * r + 0.00139411166f;
    q = q * r + 0.00833327416f;
    q = q * r + 0.041666355f;
    q = q * r + 0.166666672f;
    q = q * r + 0.5f;
    q = r + r * r * q;
    // Half of 2^e: e may be 128. Twice the result is exact.
    vf half = power_of_two(e - 1u);
    vf value = 2.0f * (half * q + (half - 0.5f));
    return abs(x) < 1e-30f ? x : value;  // -0 and denormals, which the halves would round
}

// x = m * 2^e with m in sqrt(1/2)..sqrt(2), for positive finite x.
static inline vf split(vf x, vf& e) {
    vi tiny = x < 1.17549435e-38f;
    x = tiny ? x * 8388608.0f : x;
    vu bits = (vu)x - 0x3f3504f3u;
    e = __builtin_convertvector(((vi)bits >> 23) - (tiny & 23), vf);
    return (vf)((bits & 0x7fffffu) + 0x3f3504f3u);
}
// log(1 + f) - f for f in sqrt(1/2)-1..sqrt(2)-1
static inline vf log_rest(vf f) {
    vf p = 0.0674659163f * f - 0.116756387f;
    p = p * f + 0.118881777f;
    p = p * f - 0.124055922f;
    p = p * f + 0.142195508f;
    p = p * f - 0.166679963f;
    p = p * f + 0.200021192f;
    p = p * f - 0.250000089f;
    p = p * f + 0.333333135f;
    return f * f * (f * p - 0.5f);
}
static inline vf log_special(vf x, vf value) {
    value = x > 0 ? value : vf{} + NAN;
    value = x == 0 ? vf{} - INFINITY : value;
    return x == INFINITY ? x : value;
}

static inline vf log(vf x) {
    vf e, f = split(x, e) - 1.0f;
    return log_special(x, fmadd(e, vf{} + 0.693147182f, f + (log_rest(f) - 1.9046543e-9f * e)));
}
static inline vf log2(vf x) {
    vf e, f = split(x, e) - 1.0f, rest = log_rest(f);
    vf low = rest * 1.44269502f + (f + rest) * 1.92596299e-8f;
    return log_special(x, e + fmadd(f, vf{} + 1.44269502f, low));
}
static inline vf log10(vf x) {
    vf e, f = split(x, e) - 1.0f, rest = log_rest(f);
    vf low = rest * 0.434294492f - (f + rest) * 1.00990024e-8f - 1.43209889e-8f * e;
    return log_special(x, fmadd(e, vf{} + 0.30103001f, fmadd(f, vf{} + 0.434294492f, low)));
}
static inline vf log1p(vf x) {
    vf u = 1.0f + x;
    vf lost = x - (u - 1.0f);  // what the sum rounded away; for large x it is 1 of many
    vf value = log(u) + lost / u;
    value = u == INFINITY ? u : value;
    value = u == 0 ? vf{} - INFINITY : value;
    return u == 1.0f ? x : value;
}

// 1 + exp(-x), the sigmoid's reciprocal. Below -88.3 it is infinite, and what would be denormal becomes 0.
static inline vf sigmoid_divisor(vf x) {
    vu e;
    vf p = exp_parts(clamp_keeping_nan(-x, -87.0f, 89.0f), e);
    return 1.0f + p * power_of_two(e);
}
static inline vf sigmoid(vf x) { return 1.0f / sigmoid_divisor(x); }
static inline vf silu(vf x) { return x / sigmoid_divisor(x); }

static inline vf tanh(vf x) {
    vf a = abs(x);
    vf t = expm1(2.0f * (a > 20.0f ? vf{} + 20.0f : a));
    return copysign(t / (t + 2.0f), x);
}

// A quotient of polynomials, which passes 1 where erf comes near to it: what is beyond is cut off.
static inline vf erf(vf x) {
    x = clamp_keeping_nan(x, -4.2f, 4.2f);
    vf s = x * x;
    vf p = 1.98678731e-06f * s + 0.000284565933f;
    p = p * s + 0.00388333458f;
    p = p * s + 0.0531017147f;
    p = p * s + 0.193544805f;
    p = p * s + 1.12837911f;
    vf q = 3.74202282e-05f * s + 0.00118556933f;
    q = q * s + 0.015207231f;
    q = q * s + 0.115349896f;
    q = q * s + 0.504857183f;
    q = q * s + 1.0f;
    return clamp_keeping_nan(x * p / q, -1.0f, 1.0f);
}
static inline vf erfc(vf x) {
    return map(x, [](float v) { return std::erfc(v); });
}

// The sine of x + quarter * pi/2. Beyond a few thousand turns three constants no longer suffice to take the turns off.
static inline vf sine(vf x, int quarter) {
#if defined(__FMA__) || defined(__aarch64__)
    vi far = ~(abs(x) <= 40000.0f);
#else
    vi far = vi{} - 1;
#endif
    vu turn;
    vf n = nearest(x * 0.636619747f, turn);
    vf r = fmadd(n, vf{} - 1.57079637f, x);
    r = fmadd(n, vf{} + 4.37113883e-8f, r);
    r = fmadd(n, vf{} + 1.71512451e-15f, r);
    turn += uint32_t(quarter);
    vf s = r * r;
    vf p = 2.71823728e-6f * s - 0.000198393274f;
    p = p * s + 0.00833332911f;
    p = p * s - 0.166666672f;
    vf odd = r + r * s * p;
    vf q = 2.44377279e-5f * s - 0.00138873619f;
    q = q * s + 0.0416666456f;
    vf even = 1.0f + (s * s * q - 0.5f * s);
    vf value = (vf)((vu)((turn & 1u) != 0u ? even : odd) ^ ((turn & 2u) << 30));
    if (any(far))
        for (int i = 0; i < W; i++)
            if (far[i]) value[i] = quarter ? std::cos(x[i]) : std::sin(x[i]);
    return value;
}
static inline vf sin(vf x) {
    vf value = sine(x, 0);
    return x == 0 ? x : value;
}
static inline vf cos(vf x) { return sine(x, 1); }
static inline vf tan(vf x) {
    return map(x, [](float v) { return std::tan(v); });
}

// Half as many lanes: doubles that fill one register.
typedef float hf __attribute__((vector_size(W / 2 * 4)));
typedef double hd __attribute__((vector_size(W / 2 * 8)));
typedef uint64_t hu __attribute__((vector_size(W / 2 * 8)));

// log2(x) to 1e-15 for a finite normal x > 0.
static inline hd log2_wide(hd x) {
    hu bits = (hu)x - 0x3fe6a09e667f3bcdu;
    hu biased = (bits + 0x4000000000000000u) >> 52;  // e + 1024: AVX2 has no arithmetic shift of 64 bits
    hd e = (hd)(biased | 0x4330000000000000u) - (4503599627370496.0 + 1024.0);
    hd m = (hd)((bits & 0xfffffffffffffu) + 0x3fe6a09e667f3bcdu);
    hd s = (m - 1.0) / (m + 1.0), q = s * s;
    hd p = 0.24315859459734981 * q + 0.2614243679378573;
    p = p * q + 0.3206169951849141;
    p = p * q + 0.4121983935743889;
    p = p * q + 0.5770780172992719;
    p = p * q + 0.9617966939242151;
    p = p * q + 2.885390081777927;
    return e + s * p;
}
// 2^t to 1e-12 for t in -1000..1000.
static inline hd exp2_wide(hd t) {
    hd big = t + 6755399441055744.0;
    hd r = t - (big - 6755399441055744.0);
    hd p = 1.3175722339141024e-06 * r + 1.5309850523262715e-05;
    p = p * r + 0.00015403853315515677;
    p = p * r + 0.0013333451641843858;
    p = p * r + 0.009618128539035903;
    p = p * r + 0.055504109397740385;
    p = p * r + 0.24022650698906306;
    p = p * r + 0.6931471805464082;
    p = p * r + 0.9999999999997597;
    return (hd)((hu)p + ((hu)big << 52));
}
// a^y for a >= 0, but for NaN: in doubles, because an error of the logarithm counts y times.
static inline hf power_of_half(hf a, hf y) {
    hd wide = __builtin_convertvector(a, hd);
    hd t = log2_wide(wide);
    t = wide == 0 ? hd{} - INFINITY : t;
    t = wide == INFINITY ? hd{} + INFINITY : t;
    t = wide == 1.0 ? hd{} : t * __builtin_convertvector(y, hd);
    t = t < -300.0 ? hd{} - 300.0 : t;
    t = t > 300.0 ? hd{} + 300.0 : t;
    return __builtin_convertvector(exp2_wide(t), hf);
}

static inline vf pow(vf x, vf y) {
    vf a = abs(x), value;
    hf as[2], ys[2];
    memcpy(as, &a, sizeof a);
    memcpy(ys, &y, sizeof y);
    for (int i = 0; i < 2; i++) as[i] = power_of_half(as[i], ys[i]);
    memcpy(&value, as, sizeof a);
    vf half = y * 0.5f;
    vi whole = trunc(y) == y, odd = whole & (trunc(half) != half);
    value = (vf)((vi)value | (sign_bit(x) & odd));
    value = ((x < 0) & (x > -INFINITY) & ~whole) ? vf{} + NAN : value;
    value = ((x != x) | (y != y)) ? x + y : value;
    return ((x == 1.0f) | (y == 0)) ? vf{} + 1.0f : value;
}

template <class V>
static inline V fmod(V a, V b) {
    return map(a, b, [](auto x, auto y) { return std::fmod(x, y); });
}
// The sign of the divisor, as in Python.
template <class V>
static inline V remainder(V a, V b) {
    V r = fmod(a, b);
    return ((r != 0) & ((r < 0) != (b < 0))) ? r + b : r;
}

// As torch, from what remains: a quotient that is rounded first may have come to the next whole number.
template <class V>
static inline V floor_div(V a, V b) {
    return map(a, b, [](auto x, auto y) -> decltype(x) {
        if (y == 0) return x / y;
        auto rest = std::fmod(x, y), q = (x - rest) / y;
        if (rest != 0 && (rest < 0) != (y < 0)) q -= 1;
        if (q == 0) return std::copysign(q, x / y);
        auto whole = std::floor(q);
        return q - whole > 0.5f ? whole + 1 : whole;
    });
}

#define MAIA_DOUBLE(name)                                     \
    static inline vd name(vd x) {                             \
        return map(x, [](double v) { return std::name(v); }); \
    }
MAIA_DOUBLE(exp)
MAIA_DOUBLE(exp2)
MAIA_DOUBLE(expm1)
MAIA_DOUBLE(log)
MAIA_DOUBLE(log2)
MAIA_DOUBLE(log10)
MAIA_DOUBLE(log1p)
MAIA_DOUBLE(tanh)
MAIA_DOUBLE(erf)
MAIA_DOUBLE(erfc)
MAIA_DOUBLE(sin)
MAIA_DOUBLE(cos)
MAIA_DOUBLE(tan)
MAIA_DOUBLE(sqrt)
MAIA_DOUBLE(floor)
MAIA_DOUBLE(ceil)
MAIA_DOUBLE(trunc)
#undef MAIA_DOUBLE
static inline vd round(vd x) {
    return map(x, [](double v) { return std::nearbyint(v); });
}
static inline vd rsqrt(vd x) { return 1.0 / sqrt(x); }
static inline vd sigmoid(vd x) { return 1.0 / (1.0 + exp(-x)); }
static inline vd silu(vd x) { return x * sigmoid(x); }
static inline vd pow(vd x, vd y) {
    return map(x, y, [](double a, double b) { return std::pow(a, b); });
}

}  // namespace maia
