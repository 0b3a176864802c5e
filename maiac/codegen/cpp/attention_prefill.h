// Attention of many queries: tasks of some hundred rows, all of which see the same packed block of keys and values.
// attention_decode.h has the few queries over a long cache.
#pragma once
#include "attention_row.h"
#include "pool.h"
#include "transpose.h"
#include "whole.h"

namespace maia {
namespace prefill {
namespace {

#if defined(__AVX512F__)
constexpr int MR = 12, NV = 2;  // rows and vectors of a tile of sums in registers
#elif defined(__aarch64__)
constexpr int MR = 6, NV = 4;
#else
constexpr int MR = 6, NV = 2;
#endif
constexpr int PW = NV * W;  // columns of a packed panel
constexpr int GROUP = 4;    // tiles that use a panel while it is in the first-level cache

// s[MR, PW] = q[d, MR]^T k[d, PW]
void scores(const float* q, const float* k, int64_t d, float* s, int64_t s_stride) {
    vf c[MR][NV] = {};
    for (int64_t i = 0; i < d; i++, q += MR, k += PW) {
        vf b[NV];
        for (int j = 0; j < NV; j++) b[j] = load(k + j * W);
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++)
            for (int j = 0; j < NV; j++) c[r][j] += q[r] * b[j];
    }
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++)
        for (int j = 0; j < NV; j++) store(s + r * s_stride + j * W, c[r][j]);
}

// o[MR, N * W] = shrunk[MR] * o + p[MR, n] v[n, N * W], the first columns of a panel; without the first term where there
// is no `shrunk`.
template <int N>
void values(const float* p, int64_t p_stride, const float* v, int64_t n, const float* shrunk, float* o,
            int64_t o_stride) {
    vf c[MR][N] = {};
    if (shrunk) {
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++)
            for (int j = 0; j < N; j++) c[r][j] = shrunk[r] * load(o + r * o_stride + j * W);
    }
    for (int64_t i = 0; i < n; i++, p++, v += PW) {
        vf b[N];
        for (int j = 0; j < N; j++) b[j] = load(v + j * W);
#pragma GCC unroll 16
        for (int r = 0; r < MR; r++)
            for (int j = 0; j < N; j++) c[r][j] += p[r * p_stride] * b[j];
    }
#pragma GCC unroll 16
    for (int r = 0; r < MR; r++)
        for (int j = 0; j < N; j++) store(o + r * o_stride + j * W, c[r][j]);
}

// Keys k[n, d] -> panels[n / PW][d][PW], with zeros for missing keys.
template <class K>
void pack_keys(const K* k, int64_t stride, int64_t n, int64_t d, float* panels) {
    for (int64_t j = 0; j < n; j += W) {
        float* to = panels + j / PW * PW * d + j % PW;
        for (int64_t i = 0; i < d; i += W) {
            int64_t left = least(W, d - i);
            vf v[W];
            for (int r = 0; r < W; r++) {
                const K* from = k + (j + r) * stride + i;
                v[r] = j + r >= n ? vf{} : left == W ? load(from) : load(from, left);
            }
            transpose(v);
            for (int r = 0; r < left; r++) store(to + (i + r) * PW, v[r]);
        }
    }
    for (int64_t j = round_up(n, W); j < round_up(n, PW); j += W)
        for (int64_t i = 0; i < d; i++) store(panels + (j / PW * d + i) * PW + j % PW, vf{});
}

// Values v[n, e] -> panels[e / PW][n][PW], with zeros for missing columns.
template <class K>
void pack_values(const K* v, int64_t stride, int64_t n, int64_t e, float* panels) {
    for (int64_t i = 0; i < round_up(e, PW); i += W) {
        const int64_t left = e - i;
        float* to = panels + i / PW * n * PW + i % PW;
        for (int64_t j = 0; j < n; j++, v += stride, to += PW)
            store(to, left >= W ? load(v + i) : left > 0 ? load(v + i, left) : vf{});
        v -= n * stride;
    }
}

// A query of one head: what it sees, and how far its sums have come.
struct Row {
    int64_t head, query;
    int64_t begin, end;  // keys that causality and the window leave
    const char* mask;    // at key 0
    Running sums;
};

// MR rows and the keys of the block that one of them sees at least, from a multiple of PW on. While it is fresh, no row
// has seen any key, and its output holds nothing yet.
struct Tile {
    int64_t low = INT64_MAX, high = 0;
    bool fresh = true;
    bool whole = true;  // whether its rows see all keys of the block, as their scores are
};

// Rows of one (batch, key head): row r is query r % t of the group's head r / t.
struct Task {
    const Attention& a;
    int64_t batch, kv_head, first, rows;
    int64_t block, e_pad;                                      // keys at a time; e in whole panels
    float *keys, *packed_values, *queries, *weights, *output;  // scratch
    Row* row;

    const char* mask(int64_t r, int64_t key) const {
        return row[r].mask ? row[r].mask + key * a.ms * (a.mask_kind == 1 ? 1 : 4) : nullptr;
    }
    void add(int64_t r0, int64_t n, int64_t key0, int64_t keys_here);
    void place();
};

void Task::place() {
    int64_t group = a.heads / a.kv_heads;
    for (int64_t r = 0; r < rows; r++) {
        Row& to = row[r] = Row();
        to.head = kv_head * group + (first + r) / a.t;
        to.query = (first + r) % a.t;
        to.begin = a.window > 0 ? most(0, to.query + a.first - a.window + 1) : 0;
        to.end = seen_end(a, to.query);
        int64_t at = batch * a.mb + to.head * a.mh + to.query * a.mt;
        to.mask = a.mask_kind ? (const char*)a.mask + at * (a.mask_kind == 1 ? 1 : 4) : nullptr;
    }
}

// Rows r0..r0+n (at most GROUP tiles) meet the packed keys key0..key0+keys_here.
void Task::add(int64_t r0, int64_t n, int64_t key0, int64_t keys_here) {
    Seen seen[GROUP * MR];
    Tile tiles[GROUP];
    const bool plain = a.softcap <= 0 && keys_here % PW == 0;
    int64_t low = keys_here, high = 0;
    for (int64_t r = 0; r < n; r++) {
        const Row& at = row[r0 + r];
        Tile& tile = tiles[r / MR];
        int64_t b = most(at.begin - key0, 0), e = least(at.end - key0, keys_here);
        seen[r] = b >= e ? Seen::none : look(a.mask_kind, mask(r0 + r, key0 + b), a.ms, e - b, at.sums.top > -1e29f);
        tile.fresh = tile.fresh && at.sums.top == -INFINITY;
        tile.whole = tile.whole && plain && seen[r] == Seen::all && b <= 0 && e == keys_here;
        if (seen[r] == Seen::none) continue;
        low = least(low, tile.low = least(tile.low, b / PW * PW));
        high = most(high, tile.high = most(tile.high, e));
    }
    for (int64_t j = low; j < high; j += PW)
        for (int i = 0; i < GROUP; i++)
            if (tiles[i].low <= j && j < tiles[i].high)
                scores(queries + (r0 + i * MR) * a.d, keys + j * a.d, a.d, weights + i * MR * block + j, block);
    float shrunk[GROUP * MR] = {};
    for (int64_t first = 0; first < n; first += MR) {
        const Tile& tile = tiles[first / MR];
        if (tile.low >= tile.high) continue;
        if (tile.whole && first + MR <= n) {
            Running* sums[MR];
            for (int i = 0; i < MR; i++) sums[i] = &row[r0 + first + i].sums;
            soften_all<MR>(weights + first * block, block, 0, keys_here, sums, shrunk + first);
            continue;
        }
        for (int64_t r = first; r < least(first + MR, n); r++) {
            Row& at = row[r0 + r];
            shrunk[r] = soften(a, weights + r * block, tile.low, round_up(tile.high, PW), at.begin - key0,
                               least(at.end - key0, keys_here), seen[r], mask(r0 + r, key0), at.sums);
        }
    }
    for (int64_t j = 0; j < e_pad; j += PW) {
        const auto add_values = a.e - j > W ? values<NV> : values<1>;
        for (int i = 0; i < GROUP; i++) {
            const Tile& tile = tiles[i];
            if (tile.low < tile.high)
                add_values(weights + i * MR * block + tile.low, block, packed_values + j * keys_here + tile.low * PW,
                           tile.high - tile.low, tile.fresh ? nullptr : shrunk + i * MR,
                           output + (r0 + i * MR) * e_pad + j, e_pad);
        }
    }
}

// Scaled rows q[MR, d], of which `n` are there -> to[d][MR]; writes up to W floats beyond.
template <class Q>
void pack_queries(const Q* const (&q)[MR], int64_t n, int64_t d, float scale, float* to) {
    constexpr int SETS = (MR + W - 1) / W;
    for (int64_t i = 0; i < d; i += W) {
        int64_t left = least(W, d - i);
        vf v[SETS][W];
        for (int s = 0; s < SETS; s++) {
            for (int r = 0; r < W; r++) {
                int row = s * W + r;
                v[s][r] = row >= n ? vf{} : scale * (left == W ? load(q[row] + i) : load(q[row] + i, left));
            }
            transpose(v[s]);
        }
        // In ascending order: what a store writes beyond its row's end, the next one overwrites.
        for (int r = 0; r < left; r++)
            for (int s = 0; s < SETS; s++) store(to + (i + r) * MR + s * W, v[s][r]);
    }
}

template <class Q, class K>
void run_task(Task& task, const Q* q, const K* k, const K* v, Q* o) {
    const Attention& a = task.a;
    int64_t padded = round_up(task.rows, MR), last = 0, start = a.s;
    task.place();
    for (int64_t r = 0; r < task.rows; r++) {
        last = most(last, task.row[r].end);
        start = least(start, task.row[r].begin);
    }
    for (int64_t r = 0; r < padded; r += MR) {
        int64_t n = least(MR, task.rows - r);
        const Q* from[MR] = {};
        for (int i = 0; i < n; i++)
            from[i] = q + task.batch * a.qb + task.row[r + i].head * a.qh + task.row[r + i].query * a.qt;
        pack_queries(from, n, a.d, a.scale, task.queries + r * a.d);
    }
    k += task.batch * a.kb + task.kv_head * a.kh;
    v += task.batch * a.vb + task.kv_head * a.vh;
    for (int64_t j = start / task.block * task.block; j < last; j += task.block) {
        int64_t n = least(task.block, a.s - j);
        pack_keys(k + j * a.ks, a.ks, n, a.d, task.keys);
        pack_values(v + j * a.vs, a.vs, n, a.e, task.packed_values);
        for (int64_t r = 0; r < task.rows; r += GROUP * MR) task.add(r, least(GROUP * MR, task.rows - r), j, n);
    }
    for (int64_t r = 0; r < task.rows; r++) {
        const Row& row = task.row[r];
        float total = row.sums.total, over = 1.0f / total;
        const float* from = task.output + r * task.e_pad;
        Q* to = o + task.batch * a.ob + row.head * a.oh + row.query * a.ot;
        for (int64_t i = 0; i < a.e; i += W) {
            vf x = total == 0 ? vf{} : over * load(from + i);
            i + W <= a.e ? store(to + i, x) : store(to + i, x, a.e - i);
        }
    }
}

}  // namespace

template <class Q, class K>
void attention(const Attention& a, const Q* q, const K* k, const K* v, Q* o) {
    int64_t rows = a.heads / a.kv_heads * a.t, pairs = a.batch * a.kv_heads;
    int64_t wide = most(a.d, a.e), e_pad = round_up(a.e, PW);
    // So many packed keys and values stay in the second-level cache.
    int64_t block = wide <= 64 ? 256 : wide <= 128 ? 128 : wide <= 256 ? 64 : 32;
    // Many tasks, so that a busy core can take fewer of them; but each packs all the keys that its rows see.
    int64_t fewest = pairs * rows < 96 * threads() ? GROUP * MR : 96;
    int64_t parts = most(1, least(rows / fewest, (8 * threads() + pairs - 1) / pairs));
    int64_t share = least(round_up((rows + parts - 1) / parts, MR), most(round_up(65536 / e_pad, MR), MR));
    parts = (rows + share - 1) / share;
    int64_t padded = round_up(share, MR);
    int64_t floats[] = {block * a.d,        block * e_pad,  padded * a.d + W,
                        GROUP * MR * block, padded * e_pad, padded * int64_t(sizeof(Row) / 4)};
    int64_t bytes = 0;
    for (int64_t& n : floats) bytes += n = round_up(n * 4, 64);
    parallel(pairs * parts, 1, [&](int64_t begin, int64_t end) {
        char* memory = (char*)scratch(bytes);
        float* at[6];
        for (int i = 0; i < 6; memory += floats[i++]) at[i] = (float*)memory;
        for (int64_t i = begin; i < end; i++) {
            // The last rows of a causal task see the most keys: they come first.
            int64_t pair = i % pairs, first = (parts - 1 - i / pairs) * share;
            Task task = {a,
                         pair / a.kv_heads,
                         pair % a.kv_heads,
                         first,
                         least(share, rows - first),
                         block,
                         e_pad,
                         at[0],
                         at[1],
                         at[2],
                         at[3],
                         at[4],
                         (Row*)at[5]};
            run_task(task, q, k, v, o);
        }
    });
}

}  // namespace prefill
}  // namespace maia
