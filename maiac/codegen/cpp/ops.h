// What generated loops are written in: typed loads and stores, casts, comparisons and integer arithmetic on vectors.
// Truth values are vi with -1 or 0 in each lane; in memory they are bytes of 1 or 0.
#pragma once
#include <cstddef>
#include <limits>
#include <type_traits>
#include <utility>

#include "functions.h"
#include "pool.h"
#include "simd.h"

namespace maia {

struct Full {};  // in place of a lane count: all W lanes

// **** loads and stores: of W or n elements, in a row or at a stride ****

template <class T>
static inline vec<T> ld(const T* p, Full) {
    return load(p);
}
template <class T>
static inline vec<T> ld(const T* p, int64_t n) {
    return load(p, n);
}
static inline vi mask_of(vb v) { return __builtin_convertvector(v, vi) != 0; }
static inline vi ld(const bool* p, Full) { return mask_of(load((const uint8_t*)p)); }
static inline vi ld(const bool* p, int64_t n) { return mask_of(load((const uint8_t*)p, n)); }

static inline int64_t lanes(Full) { return W; }
static inline int64_t lanes(int64_t n) { return n; }

template <class T, size_t... I>
static inline vec<T> ldg(const T* p, int64_t stride, std::index_sequence<I...>) {
    return vec<T>{p[int64_t(I) * stride]...};
}
template <class T, class N>
static inline auto ldg(const T* p, int64_t stride, N n) {
    // In registers: a vector would wait until all of its elements have left for the cache.
    if constexpr (std::is_same_v<N, Full> && std::is_arithmetic_v<T> && !std::is_same_v<T, bool>)
        return ldg(p, stride, std::make_index_sequence<W>());
    T t[W] = {};
    for (int64_t i = 0; i < lanes(n); i++) t[i] = p[i * stride];
    return ld(t, Full());
}
template <class T>
static inline auto lds(const T* p) {
    T t[W];
    for (int i = 0; i < W; i++) t[i] = *p;
    return ld(t, Full());
}
template <class T>
static inline void st(T* p, vec<T> v, Full) {
    store(p, v);
}
template <class T>
static inline void st(T* p, vec<T> v, int64_t n) {
    store(p, v, n);
}
static inline void st(bool* p, vi v, Full) { store((uint8_t*)p, __builtin_convertvector(v & 1, vb)); }
static inline void st(bool* p, vi v, int64_t n) { store((uint8_t*)p, __builtin_convertvector(v & 1, vb), n); }
template <class T, class N>
static inline void stg(T* p, int64_t stride, vec<T> v, N n) {
    T t[W];
    st(t, v, Full());
    for (int64_t i = 0; i < lanes(n); i++) p[i * stride] = t[i];
}

// **** casts ****

template <class V>
using element = std::decay_t<decltype(V{}[0])>;
template <size_t N>
struct signed_of;
template <>
struct signed_of<1> {
    typedef int8_t type;
};
template <>
struct signed_of<2> {
    typedef int16_t type;
};
template <>
struct signed_of<4> {
    typedef int32_t type;
};
template <>
struct signed_of<8> {
    typedef int64_t type;
};
template <class V>
using mask_for = vec<typename signed_of<sizeof(element<V>)>::type>;

template <class T, class V>
static inline vec<T> convert(V v) {
    if constexpr (std::is_same_v<vec<T>, V>)
        return v;
    else if constexpr (sizeof(T) < 4 && std::is_floating_point_v<element<V>>)  // compilers differ where it does not fit
        return __builtin_convertvector(__builtin_convertvector(v, vi), vec<T>);
    else
        return __builtin_convertvector(v, vec<T>);
}
// Rounded to bf16 or f16 and widened again.
template <class T>
static inline vf round_to(vf v) {
    T t[W];
    store(t, v);
    return load(t);
}
template <class V>
static inline vi to_mask(V v) {
    return __builtin_convertvector(v != V{}, vi);
}
template <class T>
static inline vec<T> from_mask(vi m) {
    return __builtin_convertvector(m & 1, vec<T>);
}
template <class V>
static inline V select(vi m, V a, V b) {
    return __builtin_convertvector(m, mask_for<V>) ? a : b;
}
static inline vi select_mask(vi m, vi a, vi b) { return (m & a) | (~m & b); }

// **** rare functions, lane by lane ****

#define MAIA_LANEWISE(name)                                                      \
    template <class V>                                                           \
    static inline V name(V x) {                                                  \
        return map(x, [](auto v) { return std::name(v); });                      \
    }
MAIA_LANEWISE(asin)
MAIA_LANEWISE(acos)
MAIA_LANEWISE(atan)
MAIA_LANEWISE(sinh)
MAIA_LANEWISE(cosh)
MAIA_LANEWISE(asinh)
MAIA_LANEWISE(acosh)
MAIA_LANEWISE(atanh)
#undef MAIA_LANEWISE
template <class V>
static inline V atan2(V y, V x) {
    return map(y, x, [](auto a, auto b) { return std::atan2(a, b); });
}

// **** comparisons ****

#define MAIA_COMPARE(name, op)                          \
    template <class V>                                  \
    static inline vi name(V a, V b) {                   \
        return __builtin_convertvector(a op b, vi);     \
    }
MAIA_COMPARE(eq, ==)
MAIA_COMPARE(ne, !=)
MAIA_COMPARE(lt, <)
MAIA_COMPARE(le, <=)
MAIA_COMPARE(gt, >)
MAIA_COMPARE(ge, >=)
#undef MAIA_COMPARE

// **** integers ****

template <class V>
static inline V int_max(V a, V b) {
    return a > b ? a : b;
}
template <class V>
static inline V int_min(V a, V b) {
    return a < b ? a : b;
}
template <class V>
static inline V int_abs(V a) {
    return a < 0 ? -a : a;
}
// Lane by lane: a vector division by 0 would trap, where eager gives an error or garbage.
template <class V, class F>
static inline V each(V a, V b, const F& f) {
    V out;
    for (int i = 0; i < W; i++) out[i] = f(a[i], b[i]);
    return out;
}
// The lowest number by -1 would trap too; its quotient wraps around.
template <class T>
static inline T quotient(T x, T y) {
    if (std::is_signed_v<T> && y == T(-1)) return T(0 - std::make_unsigned_t<T>(x));
    return y ? T(x / y) : T(0);
}
template <class T>
static inline T rest_of(T x, T y) {
    return y == 0 || (std::is_signed_v<T> && y == T(-1)) ? T(0) : T(x % y);
}
template <class V>
static inline V int_floor_div(V a, V b) {
    return each(a, b, [](auto x, auto y) -> decltype(x) {
        auto r = rest_of(x, y);
        return r != 0 && (r < 0) != (y < 0) ? quotient(x, y) - 1 : quotient(x, y);
    });
}
template <class V>
static inline V int_trunc_div(V a, V b) {
    return each(a, b, [](auto x, auto y) { return quotient(x, y); });
}
template <class V>
static inline V int_remainder(V a, V b) {
    return each(a, b, [](auto x, auto y) -> decltype(x) {
        auto r = rest_of(x, y);
        return r != 0 && (r < 0) != (y < 0) ? r + y : r;
    });
}
template <class V>
static inline V int_fmod(V a, V b) {
    return each(a, b, [](auto x, auto y) { return rest_of(x, y); });
}

// **** rows: combining lanes ****

template <class V>
static inline element<V> lanes_sum(V v) {
    element<V> t[W];
    memcpy(t, &v, sizeof v);
    for (int n = W / 2; n; n /= 2)
        for (int i = 0; i < n; i++) t[i] += t[i + n];
    return t[0];
}
template <class V, class F>
static inline element<V> lanes_fold(V v, const F& f) {
    V x = v;
    for (int n = W / 2; n; n /= 2) {
        V y = x;
        for (int i = 0; i < n; i++) y[i] = x[i + n];
        x = f(x, y);
    }
    return x[0];
}
// The first n lanes of v, the others of w.
template <class V>
static inline V first_lanes(V v, V, Full) {
    return v;
}
template <class V>
static inline V first_lanes(V v, V w, int64_t n) {
    for (int64_t i = n; i < W; i++) v[i] = w[i];
    return v;
}

// A callable as the epilogue of a product.
template <class F>
static void epilogue(const void* f, const float* tile, int64_t ld, int64_t row, int64_t rows, int64_t col,
                     int64_t cols) {
    (*(const F*)f)(tile, ld, row, rows, col, cols);
}

}  // namespace maia
