// Narrow integers as wider ones, lane by lane: on x86 one instruction each, which GCC does not find behind
// __builtin_convertvector.
#pragma once
#include "simd.h"

namespace maia {

typedef vec<int16_t> vh;

#if defined(__AVX2__)
typedef uint8_t bytes __attribute__((vector_size(16)));  // of which W count
#else
typedef uint8_t bytes __attribute__((vector_size(W)));
#endif

// W bytes of memory.
static inline bytes load_bytes(const void* p) {
#if defined(__AVX2__) && !defined(__AVX512F__)
    typedef uint64_t pair __attribute__((vector_size(16)));
    uint64_t low;
    memcpy(&low, p, sizeof low);
    return (bytes)pair{low, 0};
#else
    bytes b;
    memcpy(&b, p, sizeof b);
    return b;
#endif
}

#if defined(__AVX2__) && !defined(__clang__)
typedef char x86_bytes __attribute__((vector_size(16)));
#if defined(__AVX512F__)
static inline vi widen_signed(bytes b) { return (vi)__builtin_ia32_pmovsxbd512_mask((x86_bytes)b, vi{}, -1); }
static inline vi widen_unsigned(bytes b) { return (vi)__builtin_ia32_pmovzxbd512_mask((x86_bytes)b, vi{}, -1); }
static inline vh halves_signed(bytes b) { return (vh)__builtin_ia32_pmovsxbw256((x86_bytes)b); }
static inline vh halves_unsigned(bytes b) { return (vh)__builtin_ia32_pmovzxbw256((x86_bytes)b); }
static inline vi widen_unsigned(vh h) { return (vi)__builtin_ia32_pmovzxwd512_mask(h, vi{}, -1); }
#else
static inline vi widen_signed(bytes b) { return (vi)__builtin_ia32_pmovsxbd256((x86_bytes)b); }
static inline vi widen_unsigned(bytes b) { return (vi)__builtin_ia32_pmovzxbd256((x86_bytes)b); }
static inline vh halves_signed(bytes b) { return (vh)__builtin_ia32_pmovsxbw128((x86_bytes)b); }
static inline vh halves_unsigned(bytes b) { return (vh)__builtin_ia32_pmovzxbw128((x86_bytes)b); }
static inline vi widen_unsigned(vh h) { return (vi)__builtin_ia32_pmovzxwd256(h); }
#endif
#else
template <class T>
static inline vec<T> low_lanes(bytes b) {
    vec<T> low;
    memcpy(&low, &b, sizeof low);
    return low;
}
static inline vi widen_signed(bytes b) { return __builtin_convertvector(low_lanes<int8_t>(b), vi); }
static inline vi widen_unsigned(bytes b) { return __builtin_convertvector(low_lanes<uint8_t>(b), vi); }
static inline vh halves_signed(bytes b) { return __builtin_convertvector(low_lanes<int8_t>(b), vh); }
static inline vh halves_unsigned(bytes b) { return __builtin_convertvector(low_lanes<uint8_t>(b), vh); }
static inline vi widen_unsigned(vh h) { return __builtin_convertvector((vec<uint16_t>)h, vi); }
#endif

// Twice the value of f4e2m1, a whole number, from the low 4 bits of each lane; the others are 0.
static inline vf widen_f4(vi codes) {
#if defined(MAIA_LOOK_UP)
    const vf values = {0, 1, 2, 3, 4, 6, 8, 12, -0.0f, -1, -2, -3, -4, -6, -8, -12};
    return MAIA_LOOK_UP(values, codes);
#elif defined(__AVX2__)
    // Looked up in bytes, plus 12; the high bit of an index makes 0.
    typedef char table __attribute__((vector_size(32)));
    const table values = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,
                           12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    vi found = (vi)__builtin_ia32_pshufb256(values, (table)(codes | int32_t(0x80808000)));
    return __builtin_convertvector(found - 12, vf);
#else
    vi low = codes & 7, large = (2 + (low & 1)) << ((low >> 1) - 1);
    vf doubled = __builtin_convertvector(low < 4 ? low : large, vf);
    return (vf)((vi)doubled | ((codes & 8) << 28));
#endif
}

static inline vf half_to_float(vh bits) {
    f16 each[W];
    memcpy(each, &bits, sizeof each);
    return load(each);
}

}  // namespace maia
