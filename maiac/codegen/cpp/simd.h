// Vectors of one lane count for every element type, so that one generated loop serves AVX2, AVX-512 and NEON alike.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

#include "x86.h"
#if defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace maia {

#if defined(__AVX512F__)
constexpr int W = 16;  // lanes of every vector
#elif defined(__AVX__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif

// Storage types without arithmetic of their own: they are widened to float on load, rounded on store.
struct bf16 {
    uint16_t bits;
};
struct f16 {
    uint16_t bits;
};
#if defined(__aarch64__)
typedef __fp16 half;  // which GCC 12 knows here, and not _Float16
#elif !defined(MAIA_WIDEN_HALF)
typedef _Float16 half;
#endif

template <class T>
struct vec_of {
    typedef T type __attribute__((vector_size(W * sizeof(T))));
};
template <>
struct vec_of<bf16> : vec_of<float> {};
template <>
struct vec_of<f16> : vec_of<float> {};
template <>
struct vec_of<bool> : vec_of<int32_t> {};  // -1 or 0, as comparisons give
template <class T>
using vec = typename vec_of<T>::type;

typedef vec<float> vf;
typedef vec<double> vd;
typedef vec<int32_t> vi;  // also what comparisons of vf give: -1 or 0 in each lane
typedef vec<int64_t> vl;
typedef vec<uint8_t> vb;

template <class T>
static inline vec<T> load(const T* p) {
    vec<T> v;
    memcpy(&v, p, sizeof v);
    return v;
}
template <class T>
static inline void store(T* p, vec<T> v) {
    memcpy(p, &v, sizeof v);
}
// The first n lanes, n in 0..W; the others are 0.
template <class T>
static inline vec<T> load(const T* p, int64_t n) {
    vec<T> v = {};
    memcpy(&v, p, n * sizeof(T));
    return v;
}
template <class T>
static inline void store(T* p, vec<T> v, int64_t n) {
    memcpy(p, &v, n * sizeof(T));
}
template <class T>
static inline vec<T> splat(T x) {
    return x - vec<T>{};
}

static inline float widen(bf16 x) {
    uint32_t u = uint32_t(x.bits) << 16;
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline vf widen(vec<uint16_t> bits) {  // of bf16
    vec<uint32_t> u = __builtin_convertvector(bits, vec<uint32_t>) << 16;
    return (vf)u;
}
// To nearest even; NaN stays NaN.
static inline vec<uint16_t> narrow_bf16(vf x) {
    vec<uint32_t> u = (vec<uint32_t>)x;
    vec<uint32_t> r = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
    vec<uint32_t> n = (u >> 16) | 0x40;
    vi nan = x != x;
    return __builtin_convertvector(nan ? n : r, vec<uint16_t>);
}
static inline vf load(const bf16* p) { return widen(load((const uint16_t*)p)); }
static inline vf load(const bf16* p, int64_t n) { return widen(load((const uint16_t*)p, n)); }
static inline void store(bf16* p, vf v) { store((uint16_t*)p, narrow_bf16(v)); }
static inline void store(bf16* p, vf v, int64_t n) { store((uint16_t*)p, narrow_bf16(v), n); }

static inline float widen(f16 x) {
#if defined(MAIA_WIDEN_HALF)
    const x86_floats wide = MAIA_WIDEN_HALF(x86_halves{short(x.bits)});
    return wide[0];
#else
    half h;
    memcpy(&h, &x, 2);
    return float(h);
#endif
}
static inline vf load(const f16* p) {
#if defined(MAIA_WIDEN_HALF)
    x86_halves h;
    memcpy(&h, p, sizeof h);
    return MAIA_WIDEN_HALF(h);
#elif defined(__aarch64__)
    float16x4_t h;
    memcpy(&h, p, sizeof h);
    return (vf)vcvt_f32_f16(h);
#else
    vf v = {};
    for (int i = 0; i < W; i++) v[i] = widen(p[i]);
    return v;
#endif
}
static inline void store(f16* p, vf v) {
#if defined(MAIA_NARROW_HALF)
    const x86_halves h = MAIA_NARROW_HALF(v);
    memcpy(p, &h, sizeof h);
#elif defined(__aarch64__)
    const float16x4_t h = vcvt_f16_f32((float32x4_t)v);
    memcpy(p, &h, sizeof h);
#else
    for (int i = 0; i < W; i++) {
        half h = (half)v[i];
        memcpy(p + i, &h, 2);
    }
#endif
}
static inline vf load(const f16* p, int64_t n) {
    f16 t[W] = {};
    memcpy(t, p, n * 2);
    return load(t);
}
static inline void store(f16* p, vf v, int64_t n) {
    f16 t[W];
    store(t, v);
    memcpy(p, t, n * 2);
}

// Lanes of a and b, by their numbers; GCC 11 does not know clang's name.
#if defined(__clang__) || __GNUC__ >= 12
#define MAIA_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define MAIA_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, decltype(a == b){__VA_ARGS__})
#endif

// Keeps a vector in its register, where compilers would read it again for every use.
#if defined(__aarch64__)
#define MAIA_HOLD(v) __asm__("" : "+w"(v))
#elif defined(__x86_64__)
#define MAIA_HOLD(v) __asm__("" : "+v"(v))
#else
#define MAIA_HOLD(v)
#endif

static inline float sum(vf v) {
    float t[W];
    store(t, v);
    for (int n = W / 2; n; n /= 2)
        for (int i = 0; i < n; i++) t[i] += t[i + n];
    return t[0];
}

}  // namespace maia
