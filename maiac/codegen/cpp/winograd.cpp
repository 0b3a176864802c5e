// Winograd's convolution for 3x3 filters: squares of the image and the filters are transformed, so that M x M outputs
// take (M + 2)^2 products instead of 9 M^2; each of these is a matrix product over channels.
#include "winograd.h"

#include "pool.h"
#include "product.h"
#include "transforms.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int64_t COLUMNS = 64;       // of an epilogue's tile
constexpr int64_t CACHE = 512 << 10;  // bytes that a block of squares should take
constexpr int64_t SHARED = 8 << 20;   // and one that all threads work on

constexpr int64_t odd_lines(int64_t floats) { return (divide_up(floats, 16) | 1) * 16; }

constexpr bool lean(ConvKind kind) { return kind == ConvKind::lean2 || kind == ConvKind::lean4; }
constexpr int64_t square_of(ConvKind kind) { return kind == ConvKind::winograd2 || kind == ConvKind::lean2 ? 2 : 4; }

// How the squares are taken: in blocks, each transformed, multiplied and transformed back. Where there are enough of
// them, every thread has a block of its own; else, and where filters are transformed on the way, which should be done
// for as many squares as can be, all threads share the steps of one block after the other.
struct Blocks {
    int64_t side, products;  // M + 2 and its square
    int64_t piece;           // channels that are summed at once: short sums lose less, which M = 4 needs
    int64_t rows, columns;   // of squares in an image
    int64_t squares;         // in all images
    int64_t left, right;     // floats from square to square in the transformed image and in the products, if kept
    int64_t left_plane, right_plane;  // from product to product: an odd number of lines, against meeting in one set
    int64_t block;           // squares
    bool shared;

    Blocks(ConvKind kind, const Conv& c);
    int64_t floats() const { return products * (left_plane + right_plane) + left; }
    int64_t count() const { return divide_up(squares, block); }
};

Blocks::Blocks(ConvKind kind, const Conv& c) {
    const int64_t m = square_of(kind);
    side = m + 2;
    products = side * side;
    piece = m == 2 ? 512 : 128;
    rows = divide_up(c.oh, m);
    columns = divide_up(c.ow, m);
    squares = c.n * rows * columns;
    left = most(divide_up(c.c, 16), 1) * 16;
    right = lean(kind) ? 0 : divide_up(c.o, NR) * NR;
    int64_t bytes = products * (left + right) * int64_t(sizeof(float));
    block = CACHE / bytes / MR * MR;
    block = most(4 * MR, least(block, 16 * MR));
    // The last of a few blocks would keep some threads waiting: their number should be a multiple of the threads'.
    int64_t turns = divide_up(squares, block * threads());
    shared = lean(kind) || squares < 2 * MR * threads() * turns || squares < 3 * MR * threads();
    block = shared ? most(4 * MR, least(squares, SHARED / bytes)) : divide_up(squares, turns * threads());
    block = least(block, most(squares, 1));
    left_plane = odd_lines(block * left);
    right_plane = right ? odd_lines(block * right) : 0;
}

struct Job {
    const Conv& c;
    Blocks b;
    bool lean;  // whether filters are transformed on the way
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

// Some columns of a square's products, of which those of product p lie at m[p * plane], to pixels.
template <int M>
void transform_back(const Job& job, const float* m, int64_t plane, int64_t square, int64_t column, int64_t count) {
    const Conv& c = job.c;
    int64_t place = square % (job.b.rows * job.b.columns), y = place / job.b.columns * M, x = place % job.b.columns * M;
    int64_t line = square / (job.b.rows * job.b.columns) * c.oh + y, wide = least(M, c.ow - x);
    alignas(64) float tile[M * M * COLUMNS];
    for (int64_t i = 0; i < count; i += W) transform_products<M>(m + i, plane, tile + i, COLUMNS);
    for (int64_t i = 0; i < least(M, c.oh - y); i++)
        job.epilogue(job.context, tile + i * M * COLUMNS, COLUMNS, (line + i) * c.ow + x, wide, column, count);
}

template <int M>
void transform_back(const Job& job, const Space& space, int64_t first, int64_t square) {
    const float* m = space.right + (square - first) * job.b.right;
    for (int64_t i = 0; i < job.c.o; i += COLUMNS)
        transform_back<M>(job, m + i, job.b.right_plane, square, i, least(COLUMNS, job.c.o - i));
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

// Filters that are transformed on the way: some panels of them times the squares of a block, by one thread. What is made
// stays in the core's own cache: a piece of a panel's filters, and the sums until they are pixels.
template <int M>
struct Lean {
    static constexpr int64_t PIECE = 128, PRODUCTS = (M + 2) * (M + 2), STEP = odd_lines(PIECE * NR);  // channels, floats
    static constexpr int64_t SUMS = 256 << 10;                                                         // bytes
    const Job& job;
    const Space& space;
    int64_t first, count;  // squares
    Rows rows;
    int64_t panels, group;  // at once
    int64_t wide, plane;    // floats of sums from square to square, and from product to product

    Lean(const Job& job, const Space& space, int64_t first, int64_t count);
    void run() const;
    void multiply_group(int64_t panel, float* filters, float* sums) const;
    void multiply_piece(int64_t panel, int64_t ch, const char* next, float* filters, float* sums) const;
    const float* raw(int64_t panel, int64_t ch) const { return job.packed + (panel * job.c.c + ch) * 9 * NR; }
};

template <int M>
Lean<M>::Lean(const Job& job, const Space& space, int64_t first, int64_t count)
    : job(job), space(space), first(first), count(count), rows(count), panels(divide_up(job.c.o, NR)) {
    int64_t fit = SUMS / (PRODUCTS * count * NR * int64_t(sizeof(float)));
    group = most(1, least(least(fit, COLUMNS / NR), panels / (2 * threads())));
    wide = group * NR;
    plane = odd_lines(count * wide);
}

template <int M>
void Lean<M>::run() const {
    parallel(divide_up(panels, group), 1, [&](int64_t begin, int64_t end) {
        float* filters = (float*)scratch(PRODUCTS * (STEP + plane) * int64_t(sizeof(float)), WORKER_SLOT);
        for (int64_t i = begin; i < end; i++) multiply_group(i * group, filters, filters + PRODUCTS * STEP);
    });
}

template <int M>
void Lean<M>::multiply_group(int64_t panel, float* filters, float* sums) const {
    const int64_t end = least(panel + group, panels), channels = job.c.c;
    if (!channels) memset(sums, 0, size_t(PRODUCTS * plane) * sizeof(float));
    for (int64_t ch = 0; ch < channels; ch += PIECE)
        for (int64_t j = panel; j < end; j++) {
            const float* next = j + 1 < end ? raw(j + 1, ch) : ch + PIECE < channels ? raw(panel, ch + PIECE) : raw(end, 0);
            multiply_piece(j, ch, (const char*)next, filters, sums + (j - panel) * NR);
        }
    const int64_t column = panel * NR, columns = least((end - panel) * NR, job.c.o - column);
    for (int64_t i = 0; i < count; i++) transform_back<M>(job, sums + i * wide, plane, first + i, column, columns);
}

// Adds the products of a piece of a panel; `next` is what will be read then.
template <int M>
void Lean<M>::multiply_piece(int64_t panel, int64_t ch, const char* next, float* filters, float* sums) const {
    const int64_t run = least(PIECE, job.c.c - ch), bytes = run * 9 * NR * int64_t(sizeof(float));
    const float* w = raw(panel, ch);
    for (int64_t i = 0; i < run; i++, w += 9 * NR)
        for (int64_t column = 0; column < NR; column += W) {
            vf taps[9];
#pragma GCC unroll 9
            for (int tap = 0; tap < 9; tap++) taps[tap] = load(w + tap * NR + column);
            transform_filters<M, STEP>(taps, filters + i * NR + column);
        }
    const char* const stop = next + bytes;
    const float* left[MR];
    Tile t = {left, 0, 1, run, nullptr, 0, nullptr, wide, ch > 0, nullptr, 0};
    t.ahead_step = most(2, PRODUCTS * rows.tiles * run * 64 / bytes);
    for (int64_t p = 0; p < PRODUCTS; p++)
        for (int64_t i = 0; i < rows.tiles; i++) {
            const float* square = space.left + p * job.b.left_plane + rows.start(i) * job.b.left + ch;
            for (int64_t r = 0; r < rows.height(i); r++) left[r] = square + r * job.b.left;
            t.panels = filters + p * STEP;
            t.out = sums + p * plane + rows.start(i) * wide;
            t.ahead = next < stop ? next : nullptr;
            next += divide_up(run, t.ahead_step) * 64;
            tile(int(rows.height(i)), VECTORS, t);
        }
}

template <int M>
void run_shared(const Job& job, void* memory) {
    Space space(job.b, memory);
    for (int64_t from = 0; from < job.b.squares; from += job.b.block) {
        int64_t count = least(job.b.block, job.b.squares - from);
        parallel(count, divide_up(count, threads() * 8), [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) transform_square<M>(job, space, from, from + i);
        });
        if (job.lean) {
            Lean<M>(job, space, from, count).run();
            continue;
        }
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

// The filters of W columns and one channel, tap by tap.
template <class V>
void gather_taps(const Conv& c, const float* w, int64_t o, int64_t channel, V (&taps)[9]) {
    for (int tap = 0; tap < 9; tap++) taps[tap] = V{};
    for (int64_t lane = 0; lane < W && o + lane < c.o; lane++)
        for (int tap = 0; tap < 9; tap++) taps[tap][lane] = w[((o + lane) * c.c + channel) * 9 + tap];
}

// The products' panels lie far apart, often by powers of two: they are written some lines at a time.
template <int M>
void pack_transformed(const Conv& c, const float* w, float* packed) {
    constexpr int64_t PRODUCTS = (M + 2) * (M + 2), CHANNELS = 16, STEP = CHANNELS * NR;
    int64_t panels = divide_up(c.o, NR), parts = divide_up(c.c, CHANNELS);
    parallel(panels * parts, 1, [&](int64_t begin, int64_t end) {
        alignas(64) float lines[PRODUCTS * STEP];
        vd taps[9];
        for (int64_t i = begin; i < end; i++) {
            int64_t panel = i / parts, first = i % parts * CHANNELS, count = least(CHANNELS, c.c - first);
            for (int64_t j = 0; j < count * NR; j += W) {
                gather_taps(c, w, panel * NR + j % NR, first + j / NR, taps);
                transform_filters<M, STEP>(taps, lines + j);
            }
            for (int64_t p = 0; p < PRODUCTS; p++)
                memcpy(packed + ((p * panels + panel) * c.c + first) * NR, lines + p * STEP,
                       size_t(count * NR) * sizeof(float));
        }
    });
}

// Panel by panel, channel by channel, tap by tap.
void pack_lean(const Conv& c, const float* w, float* packed) {
    parallel(divide_up(c.o, NR) * c.c, 16, [&](int64_t begin, int64_t end) {
        vf taps[9];
        for (int64_t i = begin; i < end; i++)
            for (int64_t column = 0; column < NR; column += W) {
                gather_taps(c, w, i / c.c * NR + column, i % c.c, taps);
                for (int tap = 0; tap < 9; tap++) store(packed + (i * 9 + tap) * NR + column, taps[tap]);
            }
    });
}

template <int M>
void run(const Job& job, void* workspace) {
    job.b.shared ? run_shared<M>(job, workspace) : run_apart<M>(job);
}

}  // namespace

int64_t winograd_packed_bytes(ConvKind kind, const Conv& c) {
    int64_t side = square_of(kind) + 2, values = lean(kind) ? 9 : side * side;
    return values * divide_up(c.o, NR) * NR * c.c * int64_t(sizeof(float));
}

void winograd_pack(ConvKind kind, const Conv& c, const float* w, void* packed) {
    if (lean(kind)) return pack_lean(c, w, (float*)packed);
    if (kind == ConvKind::winograd2) return pack_transformed<2>(c, w, (float*)packed);
    pack_transformed<4>(c, w, (float*)packed);
}

int64_t winograd_workspace(ConvKind kind, const Conv& c) {
    Blocks b(kind, c);
    return b.shared ? b.floats() * int64_t(sizeof(float)) : 0;
}

void conv_winograd(ConvKind kind, const Conv& c, const float* x, const void* packed, void* workspace, Epilogue epilogue,
                   const void* context) {
    Job job = {c, Blocks(kind, c), lean(kind), x, (const float*)packed, epilogue, context};
    if (job.b.squares <= 0 || c.o <= 0) return;
    // Whoever asked for the workspace with more threads did not know of this one.
    if (job.b.shared && !workspace) workspace = scratch(job.b.floats() * int64_t(sizeof(float)), CALLER_SLOT);
    square_of(kind) == 2 ? run<2>(job, workspace) : run<4>(job, workspace);
}

}  // namespace maia
