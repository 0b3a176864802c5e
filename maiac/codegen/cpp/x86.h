// The few x86 instructions that vector types do not reach. GCC's own names for them save generated code from reading
// immintrin.h, which takes longer than all of the rest.
#pragma once
#if defined(__x86_64__) && defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#if defined(__clang__)
#include <immintrin.h>
#endif

namespace maia {

#if defined(__AVX512F__)
typedef float x86_floats __attribute__((vector_size(64)));
typedef short x86_halves __attribute__((vector_size(32)));
#else
typedef float x86_floats __attribute__((vector_size(32)));
typedef short x86_halves __attribute__((vector_size(16)));
#endif

#if defined(__clang__) && defined(__AVX512F__)
#define MAIA_SQRT(x) (x86_floats) _mm512_sqrt_ps((__m512)(x))
#define MAIA_ROUND(x, mode) (x86_floats) _mm512_roundscale_ps((__m512)(x), mode)
#define MAIA_WIDEN_HALF(h) (x86_floats) _mm512_cvtph_ps((__m256i)(h))
#define MAIA_NARROW_HALF(x) (x86_halves) _mm512_cvtps_ph((__m512)(x), 0)
#define MAIA_MIN(a, b) (x86_floats) _mm512_min_ps((__m512)(a), (__m512)(b))
#define MAIA_MAX(a, b) (x86_floats) _mm512_max_ps((__m512)(a), (__m512)(b))
#define MAIA_FMA(a, b, c) (x86_floats) _mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c))
#define MAIA_LOOK_UP(table, at) (x86_floats) _mm512_permutexvar_ps((__m512i)(at), (__m512)(table))
#elif defined(__clang__)
#define MAIA_SQRT(x) (x86_floats) _mm256_sqrt_ps((__m256)(x))
#define MAIA_ROUND(x, mode) (x86_floats) _mm256_round_ps((__m256)(x), mode)
#define MAIA_WIDEN_HALF(h) (x86_floats) _mm256_cvtph_ps((__m128i)(h))
#define MAIA_NARROW_HALF(x) (x86_halves) _mm256_cvtps_ph((__m256)(x), 0)
#define MAIA_MIN(a, b) (x86_floats) _mm256_min_ps((__m256)(a), (__m256)(b))
#define MAIA_MAX(a, b) (x86_floats) _mm256_max_ps((__m256)(a), (__m256)(b))
#define MAIA_FMA(a, b, c) (x86_floats) _mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c))
#define MAIA_SIGNS(x) _mm256_movemask_ps((__m256)(x))
#elif defined(__AVX512F__)
#define MAIA_SQRT(x) __builtin_ia32_sqrtps512_mask(x, x, -1, 4)
#define MAIA_ROUND(x, mode) __builtin_ia32_rndscaleps_mask(x, mode, x, -1, 4)
#define MAIA_WIDEN_HALF(h) __builtin_ia32_vcvtph2ps512_mask(h, x86_floats{}, -1, 4)
#define MAIA_NARROW_HALF(x) __builtin_ia32_vcvtps2ph512_mask(x, 0, x86_halves{}, -1)
#define MAIA_MIN(a, b) __builtin_ia32_minps512_mask(a, b, x86_floats{}, -1, 4)
#define MAIA_MAX(a, b) __builtin_ia32_maxps512_mask(a, b, x86_floats{}, -1, 4)
#define MAIA_FMA(a, b, c) __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4)
#define MAIA_LOOK_UP(table, at) __builtin_ia32_permvarsf512_mask(table, at, x86_floats{}, -1)
#else
#define MAIA_SQRT(x) __builtin_ia32_sqrtps256(x)
#define MAIA_ROUND(x, mode) __builtin_ia32_roundps256(x, mode)
#define MAIA_WIDEN_HALF(h) __builtin_ia32_vcvtph2ps256(h)
#define MAIA_NARROW_HALF(x) __builtin_ia32_vcvtps2ph256(x, 0)
#define MAIA_MIN(a, b) __builtin_ia32_minps256(a, b)
#define MAIA_MAX(a, b) __builtin_ia32_maxps256(a, b)
#define MAIA_FMA(a, b, c) __builtin_ia32_vfmaddps256(a, b, c)
#define MAIA_SIGNS(x) __builtin_ia32_movmskps256((x86_floats)(x))
#endif

}  // namespace maia
#endif
