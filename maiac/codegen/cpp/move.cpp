#include "move.h"

#include <type_traits>

#include "pool.h"
#include "transpose.h"

namespace maia {
namespace {

constexpr int RANK = 9;                // a caller's 8, and one for elements that are copied as two
constexpr int64_t TASK_BYTES = 65536;  // about what a chunk of a parallel loop copies
constexpr int64_t TILE_ROWS = 256, TILE_COLUMNS = 64, FLAT_COLUMNS = 1024;  // flat: tiles of few rows

int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
int64_t size(int64_t a) { return a < 0 ? -a : a; }

struct Dim {
    int64_t n, dst, src;  // length and strides
};
struct Copy {
    int rank = 0;
    Dim dims[RANK];
};

// The dims that count, the last of them with dst's smallest stride; runs of dims that are one in both arrays become
// one.
Copy simplify(int rank, const int64_t* dims, const int64_t* dst, const int64_t* src) {
    Copy c;
    for (int i = 0; i < rank; i++) {
        if (dims[i] == 1) continue;
        int at = c.rank++;
        for (; at > 0 && size(c.dims[at - 1].dst) < size(dst[i]); at--) c.dims[at] = c.dims[at - 1];
        c.dims[at] = {dims[i], dst[i], src[i]};
    }
    if (c.rank == 0) c.dims[c.rank++] = {1, 1, 1};
    int kept = 0;
    for (int i = 1; i < c.rank; i++) {
        Dim &a = c.dims[kept], b = c.dims[i];
        if (a.dst == b.dst * b.n && a.src == b.src * b.n)
            a = {a.n * b.n, b.dst, b.src};
        else
            c.dims[++kept] = b;
    }
    c.rank = kept + 1;
    return c;
}

// Calls f(dst offset, src offset) for the indices begin..end of the first `rank` dims.
template <class F>
void each(const Dim* dims, int rank, int64_t begin, int64_t end, const F& f) {
    int64_t index[RANK], dst = 0, src = 0, rest = begin;
    for (int i = rank - 1; i >= 0; i--) {
        index[i] = rest % dims[i].n;
        rest /= dims[i].n;
        dst += index[i] * dims[i].dst;
        src += index[i] * dims[i].src;
    }
    for (int64_t at = begin; at < end; at++) {
        f(dst, src);
        for (int i = rank - 1; i >= 0; i--) {
            dst += dims[i].dst;
            src += dims[i].src;
            if (++index[i] < dims[i].n) break;
            dst -= dims[i].n * dims[i].dst;
            src -= dims[i].n * dims[i].src;
            index[i] = 0;
        }
    }
}

template <class T>
void copy_line(T* dst, int64_t dst_stride, const T* src, int64_t src_stride, int64_t n) {
    if (dst_stride == 1 && src_stride == 1) {
        memcpy(dst, src, n * sizeof(T));
    } else if (dst_stride == 1 && src_stride == 0) {
        T value = *src;
        for (int64_t i = 0; i < n; i++) dst[i] = value;
    } else {
        for (int64_t i = 0; i < n; i++) dst[i * dst_stride] = src[i * src_stride];
    }
}

// dst[j, i] = src[i, j] for i in rows, j in columns; both last dims have stride 1.
template <class T>
void transpose_block(T* dst, int64_t dst_stride, const T* src, int64_t src_stride, int64_t rows, int64_t columns) {
    int64_t i = 0;
    if constexpr (sizeof(T) == 4 || sizeof(T) == 2) {
        typedef std::conditional_t<sizeof(T) == 4, float, uint16_t> E;
        for (; i + W <= rows; i += W) {
            int64_t j = 0;
            for (; j + W <= columns; j += W) {
                vec<E> v[W];
                for (int r = 0; r < W; r++) memcpy(&v[r], src + (i + r) * src_stride + j, sizeof v[r]);
                transpose(v);
                for (int r = 0; r < W; r++) memcpy(dst + (j + r) * dst_stride + i, &v[r], sizeof v[r]);
            }
            for (; j < columns; j++)
                for (int r = 0; r < W; r++) dst[j * dst_stride + i + r] = src[(i + r) * src_stride + j];
        }
    }
    for (int64_t j = 0; j < columns; j++)
        for (int64_t r = i; r < rows; r++) dst[j * dst_stride + r] = src[r * src_stride + j];
}

// The same for at most 4 rows, whose columns lie one after the other in dst: pixels of few channels, out of planes.
// Each column is stored as 4 elements, and the next one overwrites what is too much.
template <class T>
void interleave(T* dst, const T* src, int64_t src_stride, int64_t rows, int64_t columns) {
    int64_t j = 0;
    if constexpr (sizeof(T) == 4) {
        typedef float four __attribute__((vector_size(16)));
        for (; j + 4 < columns; j += 4) {
            four v[4];
            for (int r = 0; r < 4; r++) memcpy(&v[r], src + least(r, rows - 1) * src_stride + j, sizeof v[r]);
            const four a = MAIA_SHUFFLE(v[0], v[1], 0, 4, 1, 5), b = MAIA_SHUFFLE(v[0], v[1], 2, 6, 3, 7);
            const four c = MAIA_SHUFFLE(v[2], v[3], 0, 4, 1, 5), d = MAIA_SHUFFLE(v[2], v[3], 2, 6, 3, 7);
            const four out[4] = {MAIA_SHUFFLE(a, c, 0, 1, 4, 5), MAIA_SHUFFLE(a, c, 2, 3, 6, 7),
                                 MAIA_SHUFFLE(b, d, 0, 1, 4, 5), MAIA_SHUFFLE(b, d, 2, 3, 6, 7)};
            for (int r = 0; r < 4; r++) memcpy(dst + (j + r) * rows, &out[r], sizeof out[r]);
        }
    }
    for (; j < columns; j++)
        for (int64_t r = 0; r < rows; r++) dst[j * rows + r] = src[r * src_stride + j];
}

template <class T>
void prefetch(const T* at, int64_t stride, int64_t rows, int64_t columns) {
    constexpr int64_t LINE = 64 / sizeof(T);
    for (int64_t i = 0; i < rows; i++)
        for (int64_t j = 0; j < columns; j += LINE) __builtin_prefetch(at + i * stride + j);
}

// The same in blocks that pass through a buffer: lines of src and dst that lie a power of two apart share few places in
// the cache, so each is read or written whole, at once. No processor foresees the order, so the next block is asked
// for.
template <class T>
void transpose_tile(T* dst, int64_t dst_stride, const T* src, int64_t src_stride, int64_t rows, int64_t columns) {
    constexpr int64_t DOWN = 64, ACROSS = 128 / sizeof(T);
    if (rows <= 4 && rows == dst_stride) return interleave(dst, src, src_stride, rows, columns);
    alignas(64) T buffer[ACROSS * DOWN];
    for (int64_t j = 0; j < columns; j += ACROSS)
        for (int64_t i = 0; i < rows; i += DOWN) {
            int64_t down = least(DOWN, rows - i), across = least(ACROSS, columns - j);
            const T* from = src + i * src_stride + j;
            T* to = dst + j * dst_stride + i;
            if (down < 16) {
                transpose_block(to, dst_stride, from, src_stride, down, across);
                continue;
            }
            if (i + DOWN < rows) prefetch(from + DOWN * src_stride, src_stride, least(DOWN, rows - i - DOWN), across);
            prefetch(to, dst_stride, across, down);
            transpose_block(buffer, DOWN, from, src_stride, down, across);
            for (int64_t r = 0; r < across; r++) memcpy(to + r * dst_stride, buffer + r * DOWN, down * sizeof(T));
        }
}

// The kernels of one element size; the loops around them count bytes, and are there once.
struct Kernels {
    int64_t bytes;
    void (*line)(char* dst, int64_t dst_stride, const char* src, int64_t src_stride, int64_t n);
    void (*tile)(char* dst, int64_t dst_stride, const char* src, int64_t src_stride, int64_t rows, int64_t columns);
};
template <class T>
Kernels kernels() {
    return {sizeof(T),
            [](char* dst, int64_t dst_stride, const char* src, int64_t src_stride, int64_t n) {
                copy_line((T*)dst, dst_stride, (const T*)src, src_stride, n);
            },
            [](char* dst, int64_t dst_stride, const char* src, int64_t src_stride, int64_t rows, int64_t columns) {
                transpose_tile((T*)dst, dst_stride, (const T*)src, src_stride, rows, columns);
            }};
}

// dst is dense along the last dim and src along `across`: the two make tiles to transpose.
void copy_tiles(const Copy& c, int across, const Kernels& k, char* dst, const char* src) {
    Dim last = c.dims[c.rank - 1], wide = c.dims[across], outer[RANK];
    int rank = 0;
    for (int i = 0; i < c.rank - 1; i++)
        if (i != across) outer[rank++] = c.dims[i];
    int64_t rows = least(TILE_ROWS, last.n), columns = least(rows < 16 ? FLAT_COLUMNS : TILE_COLUMNS, wide.n);
    int64_t down = (last.n + rows - 1) / rows, count = down * ((wide.n + columns - 1) / columns), tiles = count;
    for (int i = 0; i < rank; i++) count *= outer[i].n;
    parallel(count, TASK_BYTES / (rows * columns * k.bytes) + 1, [&](int64_t begin, int64_t end) {
        for (int64_t at = begin; at < end; at++) {
            int64_t i = at % down * rows, j = at % tiles / down * columns;
            each(outer, rank, at / tiles, at / tiles + 1, [&](int64_t to, int64_t from) {
                k.tile(dst + (to + j * wide.dst + i) * k.bytes, wide.dst, src + (from + i * last.src + j) * k.bytes,
                       last.src, least(rows, last.n - i), least(columns, wide.n - j));
            });
        }
    });
}

// Line by line of the last dim, which is cut in pieces where it is long.
void copy_lines(const Copy& c, const Kernels& k, char* dst, const char* src) {
    const Dim& last = c.dims[c.rank - 1];
    int64_t piece = least(last.n, TASK_BYTES / k.bytes), pieces = (last.n + piece - 1) / piece, count = pieces;
    for (int i = 0; i < c.rank - 1; i++) count *= c.dims[i].n;
    parallel(count, TASK_BYTES / (piece * k.bytes) + 1, [&](int64_t begin, int64_t end) {
        if (pieces == 1) {
            each(c.dims, c.rank - 1, begin, end, [&](int64_t to, int64_t from) {
                k.line(dst + to * k.bytes, last.dst, src + from * k.bytes, last.src, last.n);
            });
            return;
        }
        for (int64_t at = begin; at < end; at++) {
            int64_t i = at % pieces * piece;
            each(c.dims, c.rank - 1, at / pieces, at / pieces + 1, [&](int64_t to, int64_t from) {
                k.line(dst + (to + i * last.dst) * k.bytes, last.dst, src + (from + i * last.src) * k.bytes, last.src,
                       least(piece, last.n - i));
            });
        }
    });
}

}  // namespace

void copy_strided(int element_bytes, int rank, const int64_t* dims, const int64_t* dst_strides,
                  const int64_t* src_strides, void* dst, const void* src) {
    int64_t n[RANK], to[RANK], from[RANK];
    int64_t halves = element_bytes == 16 ? 2 : 1;  // 16 bytes are two elements of 8
    for (int i = 0; i < rank; i++) {
        if (dims[i] == 0) return;
        n[i] = dims[i];
        to[i] = dst_strides[i] * halves;
        from[i] = src_strides[i] * halves;
    }
    if (halves == 2) {
        n[rank] = 2;
        to[rank] = from[rank] = 1;
        rank++;
    }
    Copy c = simplify(rank, n, to, from);
    Kernels k = element_bytes == 1   ? kernels<uint8_t>()
                : element_bytes == 2 ? kernels<uint16_t>()
                : element_bytes == 4 ? kernels<uint32_t>()
                                     : kernels<uint64_t>();
    const Dim& last = c.dims[c.rank - 1];
    if (last.dst == 1 && size(last.src) > 1)
        for (int i = c.rank - 2; i >= 0; i--)
            if (c.dims[i].src == 1) return copy_tiles(c, i, k, (char*)dst, (const char*)src);
    copy_lines(c, k, (char*)dst, (const char*)src);
}

}  // namespace maia
