// The transforms of Winograd's convolution (Lavin and Gray, https://arxiv.org/abs/1509.09308) for 3x3 filters and
// outputs in squares of M x M, over vectors of channels.
#pragma once
#include <type_traits>
#include <utility>

#include "simd.h"

namespace maia {

// The transforms along one dim, d of the image (M + 2 values), g of the filter (3) and m of the products. They evaluate
// polynomials at a few points and interpolate: at 0, 1, -1 and infinity for M = 2. What filters would be divided by is
// left to the results, where it costs nothing.
template <int M>
struct Transform {
    static void image(vf (&d)[4]) {
        vf d1 = d[1];
        d[0] = d[0] - d[2];
        d[1] = d1 + d[2];
        d[2] = d[2] - d1;
        d[3] = d[3] - d1;
    }
    template <class V>
    static void filter(const V (&g)[3], V (&to)[4]) {
        const V even = g[0] + g[2];
        to[0] = g[0];
        to[1] = even + g[1];
        to[2] = even - g[1];
        to[3] = g[2];
    }
    static void result(const vf (&m)[4], vf (&y)[2]) {
        y[0] = m[0] + (m[1] + m[2]) * 0.5f;
        y[1] = m[3] + (m[1] - m[2]) * 0.5f;
    }
};

// At 0, +-a, +-1/a and infinity, where a is the root of 1/2: powers of these stay closer to 1 than those of the usual
// 0, +-1, +-2, which makes the error 3 to 4 times smaller.
constexpr double ROOT = 1.41421356237309504880;
template <>
struct Transform<4> {
    static void image(vf (&d)[6]) {
        const float a = float(ROOT / 2), b = float(ROOT);
        vf even_a = d[4] - d[2] * 2.0f, odd_a = (d[3] - d[1] * 2.0f) * a;
        vf even_b = d[4] - d[2] * 0.5f, odd_b = (d[3] - d[1] * 0.5f) * b;
        d[0] = d[0] + d[4] - d[2] * 2.5f;
        d[5] = d[1] + d[5] - d[3] * 2.5f;
        d[1] = even_a + odd_a;
        d[2] = even_a - odd_a;
        d[3] = even_b + odd_b;
        d[4] = even_b - odd_b;
    }
    template <class V>
    static void filter(const V (&g)[3], V (&to)[6]) {
        typedef std::remove_reference_t<decltype(std::declval<V&>()[0])> Real;
        const V even_a = g[0] + g[2] * Real(0.5), odd_a = g[1] * Real(ROOT / 2);
        const V even_b = g[0] + g[2] * Real(2), odd_b = g[1] * Real(ROOT);
        to[0] = g[0];
        to[1] = even_a + odd_a;
        to[2] = even_a - odd_a;
        to[3] = even_b + odd_b;
        to[4] = even_b - odd_b;
        to[5] = g[2];
    }
    static void result(const vf (&m)[6], vf (&y)[4]) {
        const float a = float(-2 / 3.0), b = float(1 / 6.0);  // what the filters at +-a and +-1/a were not divided by
        const float a1 = float(ROOT / -3), b1 = float(ROOT / 6);
        vf even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
        y[0] = m[0] + even_a * a + even_b * b;
        y[1] = odd_a * a1 + odd_b * b1;
        y[2] = even_a * (a / 2) + even_b * (b * 2);
        y[3] = m[5] + odd_a * (a1 / 2) + odd_b * (b1 * 2);
    }
};

// The filters of W columns, tap by tap, along both dims; product p goes to to[p * STEP].
template <int M, int STEP, class V>
inline void transform_filters(const V (&taps)[9], float* to) {
    constexpr int N = M + 2;
    V half[N][3], turned[N];
#pragma GCC unroll 3
    for (int j = 0; j < 3; j++) {  // down the filter's columns, then along its rows
        const V column[3] = {taps[j], taps[3 + j], taps[6 + j]};
        Transform<M>::filter(column, turned);
#pragma GCC unroll 6
        for (int i = 0; i < N; i++) half[i][j] = turned[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < N; i++) {
        Transform<M>::filter(half[i], turned);
#pragma GCC unroll 6
        for (int j = 0; j < N; j++) store(to + (i * N + j) * STEP, __builtin_convertvector(turned[j], vf));
    }
}

// W channels of a square; product p goes to to[p * plane].
template <int M>
inline void transform_pixels(const float* const* pixels, int64_t ch, float* to, int64_t plane) {
    constexpr int N = M + 2;
    vf d[N][N];
#pragma GCC unroll 6
    for (int j = 0; j < N; j++) {
        vf column[N];
#pragma GCC unroll 6
        for (int i = 0; i < N; i++) column[i] = load(pixels[i * N + j] + ch);
        Transform<M>::image(column);
#pragma GCC unroll 6
        for (int i = 0; i < N; i++) d[i][j] = column[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < N; i++) {
        Transform<M>::image(d[i]);
#pragma GCC unroll 6
        for (int j = 0; j < N; j++, to += plane) store(to, d[i][j]);
    }
}

// W channels of a square's results: product p lies at m[p * plane], pixel i goes to tile[i * step].
template <int M>
inline void transform_products(const float* m, int64_t plane, float* tile, int64_t step) {
    constexpr int N = M + 2;
    vf half[M][N];
#pragma GCC unroll 6
    for (int j = 0; j < N; j++) {
        vf column[N], y[M];
#pragma GCC unroll 6
        for (int i = 0; i < N; i++) column[i] = load(m + (i * N + j) * plane);
        Transform<M>::result(column, y);
#pragma GCC unroll 6
        for (int i = 0; i < M; i++) half[i][j] = y[i];
    }
#pragma GCC unroll 6
    for (int i = 0; i < M; i++) {
        vf y[M];
        Transform<M>::result(half[i], y);
#pragma GCC unroll 6
        for (int j = 0; j < M; j++) store(tile + (i * M + j) * step, y[j]);
    }
}

}  // namespace maia
