// Attention of a few queries over a long cache, which is bound by memory: keys and values are read once, in order.
#pragma once
#include "attention_row.h"
#include "pool.h"
#include "whole.h"

namespace maia {
namespace decode {
namespace {

constexpr int64_t CHUNK = 256;         // keys of a task: fixed, so that the sums do not depend on the number of threads
constexpr int64_t AHEAD_BYTES = 6144;  // how far keys are asked for before they are used
constexpr int64_t STEP_BYTES = 8192;   // values that stay in the first-level cache, with some to come, for all rows

// The sums of four vectors, into to[0..4).
inline void sums(vf a, vf b, vf c, vf d, float* to) {
#if defined(__AVX__) && !defined(__AVX512F__)
    // Quarters are folded in two, for two vectors at a time, and that again; then the halves are added.
    vf ab = MAIA_SHUFFLE(a, b, 0, 8, 1, 9, 4, 12, 5, 13) +
            MAIA_SHUFFLE(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    vf cd = MAIA_SHUFFLE(c, d, 0, 8, 1, 9, 4, 12, 5, 13) +
            MAIA_SHUFFLE(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    vf all = MAIA_SHUFFLE(ab, cd, 0, 1, 8, 9, 4, 5, 12, 13) +
             MAIA_SHUFFLE(ab, cd, 2, 3, 10, 11, 6, 7, 14, 15);
    typedef float quarter __attribute__((vector_size(16)));
    quarter halves[2];
    memcpy(halves, &all, sizeof all);
    halves[0] += halves[1];
    memcpy(to, halves, sizeof halves[0]);
#else
    to[0] = sum(a), to[1] = sum(b), to[2] = sum(c), to[3] = sum(d);
#endif
}

// x[ROWS, KEYS] = q[ROWS, d] . k[KEYS, d]; keys beyond `n` are taken to be the last one.
template <int ROWS, int KEYS, class K>
inline void scores(const float* q, int64_t q_stride, const K* k, int64_t k_stride, int64_t n, int64_t d, float* x,
                   int64_t x_stride) {
    vf c[ROWS][KEYS];
    const K* key[KEYS];
#pragma GCC unroll 8
    for (int j = 0; j < KEYS; j++) {
        key[j] = k;
        k += j + 1 < n ? k_stride : 0;
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) c[r][j] = vf{};
    }
    int64_t i = 0;
    for (; i + W <= d; i += W) {
        vf a[ROWS];
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; r++) a[r] = load(q + r * q_stride + i);
#pragma GCC unroll 8
        for (int j = 0; j < KEYS; j++) {
            vf b = load(key[j] + i);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) c[r][j] += a[r] * b;
        }
    }
    if (i < d)
#pragma GCC unroll 8
        for (int j = 0; j < KEYS; j++) {
            vf b = load(key[j] + i, d - i);
#pragma GCC unroll 8
            for (int r = 0; r < ROWS; r++) c[r][j] += load(q + r * q_stride + i) * b;
        }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; r++)
#pragma GCC unroll 8
        for (int j = 0; j < KEYS; j += 4) sums(c[r][j], c[r][j + 1], c[r][j + 2], c[r][j + 3], x + r * x_stride + j);
}

// o[ROWS, N * W] += p[ROWS, n] v[n, N * W]; of the last vector only `tail` lanes are there. Asks for what lies `ahead`.
template <int ROWS, int N, class K>
inline void values(const float* p, int64_t p_stride, const K* v, int64_t v_stride, int64_t n, float* o,
                   int64_t o_stride, int64_t tail, int64_t ahead) {
    constexpr int LINE = 64 / int(sizeof(K));
    vf c[ROWS][N];
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < N; j++) c[r][j] = load(o + r * o_stride + j * W);
    for (int64_t i = 0; i < n; i++, v += v_stride) {
        for (int j = 0; j < N * W; j += LINE) __builtin_prefetch(v + ahead + j);
        for (int j = 0; j < N; j++) {
            vf b = j < N - 1 || tail == W ? load(v + j * W) : load(v + j * W, tail);
            for (int r = 0; r < ROWS; r++) c[r][j] += p[r * p_stride + i] * b;
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int j = 0; j < N; j++) store(o + r * o_stride + j * W, c[r][j]);
}

// Asks for a row of the cache some time before it is used: the processor's own prefetching does not see through several
// rows that are read side by side.
template <class K>
inline void prefetch(const K* row, int64_t n) {
    for (int64_t i = 0; i < n; i += 64 / int64_t(sizeof(K))) __builtin_prefetch(row + i);
}

// Rows are taken three or two at a time: so many sums fit the registers. What one row leaves free, more keys fill.
template <class K>
void scores(int64_t rows, const float* q, int64_t q_stride, const K* k, int64_t k_stride, int64_t n, int64_t d,
            float* x) {
    int64_t ahead = AHEAD_BYTES / (d * int64_t(sizeof(K))) + 4;
    if (rows == 1) {
        for (int64_t j = 0; j < n; j += 8)
            scores<1, 8>(q, q_stride, k + j * k_stride, k_stride, n - j, d, x + j, CHUNK);
        return;
    }
    for (int64_t j = 0; j < n; j += 4) {
        const K* from = k + j * k_stride;
        for (int64_t i = j + ahead; i < j + ahead + 4 && i < n; i++) prefetch(k + i * k_stride, d);
        for (int64_t r = 0; r < rows;) {
            const float* row = q + r * q_stride;
            float* to = x + r * CHUNK + j;
            int64_t left = rows - r;
            if (left == 3 || left > 4) {
                scores<3, 4>(row, q_stride, from, k_stride, n - j, d, to, CHUNK);
                r += 3;
            } else {
                scores<2, 4>(row, q_stride, from, k_stride, n - j, d, to, CHUNK);
                r += 2;
            }
        }
    }
}

template <int ROWS, int N, class K>
void values(const float* p, const K* v, int64_t v_stride, int64_t n, int64_t e, float* o, int64_t o_stride,
            int64_t ahead) {
    int64_t i = 0;
    for (; i + N * W <= e; i += N * W) values<ROWS, N>(p, CHUNK, v + i, v_stride, n, o + i, o_stride, W, ahead);
    for (; i < e; i += W) values<ROWS, 1>(p, CHUNK, v + i, v_stride, n, o + i, o_stride, least(W, e - i), ahead);
}

template <class K>
void values(int64_t rows, const float* p, const K* v, int64_t v_stride, int64_t n, int64_t e, float* o,
            int64_t o_stride, int64_t ahead) {
    if (rows == 1) return values<1, 8>(p, v, v_stride, n, e, o, o_stride, ahead);
    for (int64_t r = 0; r < rows;) {
        int64_t left = rows - r;
        if (left == 3 || left > 4) {
            values<3, 4>(p + r * CHUNK, v, v_stride, n, e, o + r * o_stride, o_stride, ahead);
            r += 3;
        } else {
            values<2, 4>(p + r * CHUNK, v, v_stride, n, e, o + r * o_stride, o_stride, ahead);
            r += 2;
        }
    }
}

// What one chunk of keys gives for the rows of a (batch, key head).
struct Part {
    float *output, *top, *total;  // [rows, e_pad], [rows], [rows]
};

struct Decode {
    const Attention& a;
    int64_t group = a.heads / a.kv_heads, rows = group * a.t, pairs = a.batch * a.kv_heads;
    int64_t d_pad = round_up(a.d, W), e_pad = round_up(a.e, W), chunks = most(1, (a.s + CHUNK - 1) / CHUNK);
    int64_t part_floats = rows * (e_pad + 2);
    float* parts = nullptr;

    Part part(int64_t pair, int64_t chunk) const {
        float* at = parts + (pair * chunks + chunk) * part_floats;
        return {at, at + rows * e_pad, at + rows * e_pad + rows};
    }
    int64_t end(int64_t r) const { return seen_end(a, r % a.t); }
    int64_t begin(int64_t r) const { return a.window > 0 ? most(0, r % a.t + a.first - a.window + 1) : 0; }
};

// q: the rows, scaled, [rows, d_pad]; x: scratch [rows, CHUNK].
template <class K>
void run_chunk(const Decode& c, int64_t pair, int64_t chunk, const float* q, float* x, const K* k, const K* v) {
    const Attention& a = c.a;
    Part part = c.part(pair, chunk);
    int64_t key0 = chunk * CHUNK, low = CHUNK, high = 0;
    for (int64_t r = 0; r < c.rows; r++) {
        low = least(low, c.begin(r) - key0);
        high = most(high, least(c.end(r) - key0, CHUNK));
        part.top[r] = -INFINITY;
        part.total[r] = 0;
    }
    for (int64_t i = 0; i < c.rows * c.e_pad; i += W) store(part.output + i, vf{});
    constexpr int64_t AT_ONCE = W > 8 ? W : 8;  // scores and weights come in so many
    low = most(low, 0) / AT_ONCE * AT_ONCE;
    if (high <= low) return;
    k += (key0 + low) * a.ks;
    v += (key0 + low) * a.vs;
    scores(c.rows, q, c.d_pad, k, a.ks, high - low, a.d, x + low);
    int64_t step = most(4, STEP_BYTES / (a.e * int64_t(sizeof(K))));
    int64_t ahead = most(4, step / 2);
    for (int64_t i = 0; i < least(ahead, high - low); i++) prefetch(v + i * a.vs, a.e);
    for (int64_t r = 0; r < c.rows; r++) {
        Running row;
        const char* mask = nullptr;
        if (a.mask_kind) {
            int64_t head = pair % a.kv_heads * c.group + r / a.t;
            int64_t at = pair / a.kv_heads * a.mb + head * a.mh + r % a.t * a.mt + key0 * a.ms;
            mask = (const char*)a.mask + at * (a.mask_kind == 1 ? 1 : 4);
        }
        soften(a, x + r * CHUNK, low, round_up(high, W), c.begin(r) - key0, least(c.end(r) - key0, high),
               a.mask_kind ? Seen::some : Seen::all, mask, row);
        part.top[r] = row.top;
        part.total[r] = row.total;
    }
    for (int64_t j = 0; j < high - low; j += step)
        values(c.rows, x + low + j, v + j * a.vs, a.vs, least(step, high - low - j), a.e, part.output, c.e_pad,
               ahead * a.vs);
}

// The rows of a pair from their parts, in the order of the keys.
template <class Q>
void combine(const Decode& c, int64_t pair, Q* o) {
    const Attention& a = c.a;
    for (int64_t r = 0; r < c.rows; r++) {
        float top = -INFINITY, total = 0, factor = 0;
        for (int64_t i = 0; i < c.chunks; i++) top = c.part(pair, i).top[r] > top ? c.part(pair, i).top[r] : top;
        float* sum = c.part(pair, 0).output + r * c.e_pad;
        for (int64_t i = 0; i < c.chunks; i++) {
            Part part = c.part(pair, i);
            factor = part.total[r] == 0 ? 0 : std::exp(part.top[r] - top);
            total += factor * part.total[r];
            const float* from = part.output + r * c.e_pad;
            for (int64_t j = 0; j < c.e_pad; j += W)
                store(sum + j, (i ? load(sum + j) : vf{}) + (factor == 0 ? vf{} : factor * load(from + j)));
        }
        float over = total == 0 ? 0 : 1.0f / total;
        Q* to = o + pair / a.kv_heads * a.ob + (pair % a.kv_heads * c.group + r / a.t) * a.oh + r % a.t * a.ot;
        int64_t j = 0;
        for (; j + W <= a.e; j += W) store(to + j, over * load(sum + j));
        if (j < a.e) store(to + j, over * load(sum + j), a.e - j);
    }
}

}  // namespace

template <class Q, class K>
void attention(const Attention& a, const Q* q, const K* k, const K* v, Q* o) {
    Decode c = {a};
    c.parts = (float*)scratch(c.pairs * c.chunks * c.part_floats * 4, 1);
    parallel(c.pairs * c.chunks, 1, [&](int64_t begin, int64_t end) {
        float* queries = (float*)scratch(c.rows * (c.d_pad + CHUNK) * 4);
        for (int64_t i = begin; i < end; i++) {
            int64_t pair = i / c.chunks;
            for (int64_t r = 0; r < c.rows; r++) {
                const Q* from =
                    q + pair / a.kv_heads * a.qb + (pair % a.kv_heads * c.group + r / a.t) * a.qh + r % a.t * a.qt;
                float* to = queries + r * c.d_pad;
                int64_t j = 0;
                for (; j + W <= a.d; j += W) store(to + j, a.scale * load(from + j));
                if (j < a.d) store(to + j, a.scale * load(from + j, a.d - j));
            }
            run_chunk(c, pair, i % c.chunks, queries, queries + c.rows * c.d_pad,
                      k + pair / a.kv_heads * a.kb + pair % a.kv_heads * a.kh,
                      v + pair / a.kv_heads * a.vb + pair % a.kv_heads * a.vh);
        }
    });
    int64_t work = c.chunks * c.part_floats;
    parallel(c.pairs, most(1, 16384 / work), [&](int64_t begin, int64_t end) {
        for (int64_t pair = begin; pair < end; pair++) combine(c, pair, o);
    });
}

}  // namespace decode
}  // namespace maia
