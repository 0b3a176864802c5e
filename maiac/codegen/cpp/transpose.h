// Square transposition in registers: W rows of W numbers.
#pragma once
#include "simd.h"

namespace maia {

#if defined(__AVX512F__)
#define MAIA_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define MAIA_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define MAIA_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define MAIA_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define MAIA_LOW 0, 4, 1, 5
#define MAIA_HIGH 2, 6, 3, 7
#endif

// Interleaving the first half of the rows with the second turns the index of an element by one bit; after log2(W)
// turns, row and column have changed places.
template <class V>
static inline void transpose(V (&v)[W]) {
    for (int turn = 1; turn < W; turn *= 2) {
        V next[W];
        for (int i = 0; i < W / 2; i++) {
            next[2 * i] = MAIA_SHUFFLE(v[i], v[i + W / 2], MAIA_LOW);
            next[2 * i + 1] = MAIA_SHUFFLE(v[i], v[i + W / 2], MAIA_HIGH);
        }
        for (int i = 0; i < W; i++) v[i] = next[i];
    }
}
#undef MAIA_LOW
#undef MAIA_HIGH

#if defined(__AVX__) && !defined(__AVX512F__)
// AVX2 interleaves within halves of a register only: there first, then the halves change places.
static inline void transpose(vf (&v)[W]) {
    vf a[8], b[8];
    for (int i = 0; i < 8; i += 2) {
        a[i] = MAIA_SHUFFLE(v[i], v[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[i + 1] = MAIA_SHUFFLE(v[i], v[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            b[i + 2 * j] = MAIA_SHUFFLE(a[i + j], a[i + j + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            b[i + 2 * j + 1] = MAIA_SHUFFLE(a[i + j], a[i + j + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int i = 0; i < 4; i++) {
        v[i] = MAIA_SHUFFLE(b[i], b[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        v[i + 4] = MAIA_SHUFFLE(b[i], b[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
#endif

}  // namespace maia
