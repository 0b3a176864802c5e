// Winograd's convolution for 3x3 filters: squares of the image and the filters are transformed, so that M x M outputs
// take (M + 2)^2 products instead of 9 M^2; each of these is a matrix product over channels.
#include "winograd.h"

#include "pool.h"
#include "product.h"
#include "whole.h"

namespace maia {
namespace {

// The transforms along one dim, d of the image (M + 2 values), g of the filter (3) and m of the products. They evaluate
// polynomials at a few points and interpolate: at 0, 1, -1 and infinity for M = 2.
template <int M>
struct Transform {
    static void image(vf (&d)[4]) {
        vf d1 = d[1];
        d[0] = d[0] - d[2];
        d[1] = d1 + d[2];
        d[2] = d[2] - d1;
        d[3] = d1 - d[3];
    }
    static void filter(const vd (&g)[3], vd (&to)[4]) {
        to[0] = g[0];
        to[1] = (g[0] + g[1] + g[2]) * 0.5;
        to[2] = (g[0] - g[1] + g[2]) * 0.5;
        to[3] = -g[2];
    }
    static void result(const vf (&m)[4], vf (&y)[2]) {
        y[0] = m[0] + m[1] + m[2];
        y[1] = m[1] - m[2] + m[3];
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
    static void filter(const vd (&g)[3], vd (&to)[6]) {
        const double a = ROOT / 2, b = ROOT;
        to[0] = g[0];
        to[1] = (g[0] + a * g[1] + g[2] * 0.5) * (-1 / 1.5);
        to[2] = (g[0] - a * g[1] + g[2] * 0.5) * (-1 / 1.5);
        to[3] = (g[0] + b * g[1] + g[2] * 2.0) * (1 / 6.0);
        to[4] = (g[0] - b * g[1] + g[2] * 2.0) * (1 / 6.0);
        to[5] = g[2];
    }
    static void result(const vf (&m)[6], vf (&y)[4]) {
        const float a = float(ROOT / 2), b = float(ROOT);
        vf even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
        y[0] = m[0] + even_a + even_b;
        y[1] = odd_a * a + odd_b * b;
        y[2] = even_a * 0.5f + even_b * 2.0f;
        y[3] = m[5] + odd_a * (a / 2) + odd_b * (b * 2);
    }
};

constexpr int64_t COLUMNS = 64;       // of an epilogue's tile
constexpr int64_t CACHE = 512 << 10;  // bytes that a block of squares should take
constexpr int64_t SHARED = 8 << 20;   // and one that all threads work on

int64_t odd_lines(int64_t floats) { return (divide_up(floats, 16) | 1) * 16; }

// How the squares are taken: in blocks, each transformed, multiplied and transformed back. Where there are enough of
// them, every thread has a block of its own; else all threads share the steps of one block after the other.
struct Blocks {
    int64_t side, products;  // M + 2 and its square
    int64_t piece;           // channels that are summed at once: short sums lose less, which M = 4 needs
    int64_t rows, columns;   // of squares in an image
    int64_t squares;         // in all images
    int64_t left, right;     // floats from square to square in the transformed image and in the products
    int64_t left_plane, right_plane;  // from product to product: an odd number of lines, against meeting in one set
    int64_t block;           // squares
    bool shared;

    Blocks(int64_t m, const Conv& c);
    int64_t floats() const { return products * (left_plane + right_plane) + left; }
    int64_t count() const { return divide_up(squares, block); }
};

Blocks::Blocks(int64_t m, const Conv& c) {
    side = m + 2;
    products = side * side;
    piece = m == 2 ? 512 : 128;
    rows = divide_up(c.oh, m);
    columns = divide_up(c.ow, m);
    squares = c.n * rows * columns;
    left = divide_up(c.c, 16) * 16;
    right = divide_up(c.o, NR) * NR;
    int64_t bytes = products * (left + right) * int64_t(sizeof(float));
    block = CACHE / bytes / MR * MR;
    block = most(4 * MR, least(block, 16 * MR));
    // The last of a few blocks would keep some threads waiting: their number should be a multiple of the threads'.
    int64_t turns = divide_up(squares, block * threads());
    shared = squares < 2 * MR * threads() * turns || squares < 3 * MR * threads();
    block = shared ? most(4 * MR, least(squares, SHARED / bytes)) : divide_up(squares, turns * threads());
    block = least(block, most(squares, 1));
    left_plane = odd_lines(block * left);
    right_plane = odd_lines(block * right);
}

struct Job {
    const Conv& c;
    Blocks b;
    const float* x;
    const float* packed;
    Epilogue epilogue;
    const void* context;
};

// The memory of one block.
struct Space {
    float* left;
    float* right;
    float* zeros;  // a pixel beyond the image
    Space(const Blocks& b, void* memory) : left((float*)memory), right(left + b.products * b.left_plane) {
        zeros = right + b.products * b.right_plane;
        memset(zeros, 0, size_t(b.left) * sizeof(float));
    }
};

// W channels of a square.
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

template <int M>
void transform_square(const Job& job, const Space& space, int64_t first, int64_t square) {
    constexpr int N = M + 2;
    const Conv& c = job.c;
    int64_t image = square / (job.b.rows * job.b.columns), place = square % (job.b.rows * job.b.columns);
    int64_t y = place / job.b.columns * M - c.pt, x = place % job.b.columns * M - c.pl;
    const float* pixels[N * N];
    for (int i = 0; i < N * N; i++) {
        int64_t row = y + i / N, column = x + i % N;
        bool inside = row >= 0 && row < c.h && column >= 0 && column < c.w;
        pixels[i] = inside ? job.x + image * c.xn + row * c.xh + column * c.xw : space.zeros;
    }
    float* to = space.left + (square - first) * job.b.left;
    int64_t ch = 0;
    for (; ch + W <= c.c; ch += W) transform_pixels<M>(pixels, ch, to + ch, job.b.left_plane);
    if (ch == c.c) return;
    float rest[N * N][W] = {};
    for (int i = 0; i < N * N; i++) {
        memcpy(rest[i], pixels[i] + ch, size_t(c.c - ch) * sizeof(float));
        pixels[i] = rest[i];
    }
    transform_pixels<M>(pixels, 0, to + ch, job.b.left_plane);
}

// W channels of a square's results.
template <int M>
inline void transform_products(const float* m, int64_t plane, float* tile) {
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
        for (int j = 0; j < M; j++) store(tile + (i * M + j) * COLUMNS, y[j]);
    }
}

template <int M>
void transform_back(const Job& job, const Space& space, int64_t first, int64_t square) {
    const Conv& c = job.c;
    int64_t place = square % (job.b.rows * job.b.columns), y = place / job.b.columns * M, x = place % job.b.columns * M;
    int64_t line = square / (job.b.rows * job.b.columns) * c.oh + y, wide = least(M, c.ow - x);
    alignas(64) float tile[M * M * COLUMNS];
    for (int64_t from = 0; from < c.o; from += COLUMNS) {
        int64_t count = least(COLUMNS, c.o - from);
        const float* m = space.right + (square - first) * job.b.right + from;
        for (int64_t ch = 0; ch < count; ch += W) transform_products<M>(m + ch, job.b.right_plane, tile + ch);
        for (int64_t i = 0; i < least(M, c.oh - y); i++)
            job.epilogue(job.context, tile + i * M * COLUMNS, COLUMNS, (line + i) * c.ow + x, wide, from, count);
    }
}

struct Place {
    const Blocks& b;
    const Space& space;
};

void point_squares(const void* source, int64_t product, int64_t row, int64_t count, const float** out, int64_t,
                   float*) {
    const Place& p = *(const Place*)source;
    const float* first = p.space.left + product * p.b.left_plane + row * p.b.left;
    for (int64_t i = 0; i < count; i++) out[i] = first + i * p.b.left;
}

void multiply_block(const Job& job, const Space& space, int64_t count) {
    Place place = {job.b, space};
    Product p = {};
    p.batch = job.b.products;
    p.m = count;
    p.n = job.c.o;
    p.positions = 1;
    p.run = job.c.c;
    p.piece = job.b.piece;
    p.alone = !job.b.shared;
    p.rows = point_squares;
    p.source = &place;
    p.packed = job.packed;
    p.out = space.right;
    p.out_entry_step = job.b.right_plane;
    p.out_step = job.b.right;
    multiply(p);
}

template <int M>
void run_shared(const Job& job, void* memory) {
    Space space(job.b, memory);
    for (int64_t from = 0; from < job.b.squares; from += job.b.block) {
        int64_t count = least(job.b.block, job.b.squares - from);
        parallel(count, divide_up(count, threads() * 8), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) transform_square<M>(job, space, from, from + i);
        });
        multiply_block(job, space, count);
        parallel(count, divide_up(count, threads() * 8), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) transform_back<M>(job, space, from, from + i);
        });
    }
}

template <int M>
void run_apart(const Job& job) {
    parallel(job.b.count(), 1, [&](int64_t begin, int64_t end) {
        Space space(job.b, scratch(job.b.floats() * int64_t(sizeof(float)), CALLER_SLOT));
        for (int64_t i = begin; i < end; i++) {
            int64_t from = i * job.b.block, to = least(from + job.b.block, job.b.squares);
            for (int64_t s = from; s < to; s++) transform_square<M>(job, space, from, s);
            multiply_block(job, space, to - from);
            for (int64_t s = from; s < to; s++) transform_back<M>(job, space, from, s);
        }
    });
}

// The transformed filters of columns o.. and one channel: product p's lie at to[p * step].
template <int M>
void transform_filters(const Conv& c, const float* w, int64_t o, int64_t channel, float* to, int64_t step) {
    constexpr int N = M + 2;
    double g[3][3][W] = {};
    for (int64_t lane = 0; lane < W && o + lane < c.o; lane++)
        for (int64_t tap = 0; tap < 9; tap++) g[tap % 3][tap / 3][lane] = w[((o + lane) * c.c + channel) * 9 + tap];
    vd half[N][3], turned[N];
    for (int j = 0; j < 3; j++) {  // down the filter's columns, then along its rows
        vd taps[3];
        memcpy(taps, g[j], sizeof taps);
        Transform<M>::filter(taps, turned);
        for (int r = 0; r < N; r++) half[r][j] = turned[r];
    }
    for (int r = 0; r < N; r++) {
        Transform<M>::filter(half[r], turned);
        for (int j = 0; j < N; j++) store(to + (r * N + j) * step, __builtin_convertvector(turned[j], vf));
    }
}

// The products' panels lie far apart, often by powers of two: they are written some lines at a time.
template <int M>
void pack_filters(const Conv& c, const float* w, float* packed) {
    constexpr int64_t PRODUCTS = (M + 2) * (M + 2), CHANNELS = 16;
    int64_t panels = divide_up(c.o, NR), parts = divide_up(c.c, CHANNELS);
    parallel(panels * parts, 1, [&](int64_t begin, int64_t end) {
        alignas(64) float lines[PRODUCTS * CHANNELS * NR];
        for (int64_t i = begin; i < end; i++) {
            int64_t panel = i / parts, first = i % parts * CHANNELS, count = least(CHANNELS, c.c - first);
            for (int64_t ch = 0; ch < count; ch++)
                for (int64_t column = 0; column < NR; column += W)
                    transform_filters<M>(c, w, panel * NR + column, first + ch, lines + ch * NR + column, CHANNELS * NR);
            for (int64_t p = 0; p < PRODUCTS; p++)
                memcpy(packed + ((p * panels + panel) * c.c + first) * NR, lines + p * CHANNELS * NR,
                       size_t(count * NR) * sizeof(float));
        }
    });
}

int64_t square_of(ConvKind kind) { return kind == ConvKind::winograd2 ? 2 : 4; }

}  // namespace

int64_t winograd_packed_bytes(ConvKind kind, const Conv& c) {
    int64_t side = square_of(kind) + 2;
    return side * side * divide_up(c.o, NR) * NR * c.c * int64_t(sizeof(float));
}

void winograd_pack(ConvKind kind, const Conv& c, const float* w, void* packed) {
    if (kind == ConvKind::winograd2) return pack_filters<2>(c, w, (float*)packed);
    pack_filters<4>(c, w, (float*)packed);
}

int64_t winograd_workspace(ConvKind kind, const Conv& c) {
    Blocks b(square_of(kind), c);
    return b.shared ? b.floats() * int64_t(sizeof(float)) : 0;
}

void conv_winograd(ConvKind kind, const Conv& c, const float* x, const void* packed, void* workspace, Epilogue epilogue,
                   const void* context) {
    Job job = {c, Blocks(square_of(kind), c), x, (const float*)packed, epilogue, context};
    if (job.b.squares <= 0 || c.o <= 0) return;
    // Whoever asked for the workspace with more threads did not know of this one.
    if (job.b.shared && !workspace) workspace = scratch(job.b.floats() * int64_t(sizeof(float)), CALLER_SLOT);
    if (kind == ConvKind::winograd2) return job.b.shared ? run_shared<2>(job, workspace) : run_apart<2>(job);
    job.b.shared ? run_shared<4>(job, workspace) : run_apart<4>(job);
}

}  // namespace maia
