#include "gemm.h"

#include "panel.h"
#include "pool.h"
#include "product.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int64_t CONVERTED = 4 << 20;  // floats of left factors that are converted in advance

int64_t size_of(Type type) { return type == Type::f32 ? 4 : 2; }

// Both factors as the callbacks of a product see them.
struct Factors {
    int64_t inner, n;
    Factor left, right;
    int64_t first_entry;  // of the right factor, for the product's entry 0
    const Packed* packed;
    const Widening* widening;
};

int64_t entry_at(const Factor& f, int64_t inner, int64_t entry) {
    return entry / inner * f.outer_step + entry % inner * f.inner_step;
}

void point(const void* source, int64_t entry, int64_t row, int64_t count, const float** out, int64_t,
           float*) {
    const Factors& f = *(const Factors*)source;
    const float* first = (const float*)f.left.data + entry_at(f.left, f.inner, entry) + row * f.left.step;
    for (int64_t i = 0; i < count; i++) out[i] = first + i * f.left.step;
}

void gather_panel(const void* source, int64_t entry, int64_t panel, int64_t k0, int64_t k1, float* out) {
    const Factors& f = *(const Factors*)source;
    const Factor& b = f.right;
    int64_t at = entry_at(b, f.inner, f.first_entry + entry) + panel * NR * b.step + k0 * b.k_step;
    const char* data = (const char*)b.data + at * size_of(b.type);
    gather(b.type, data, b.step, b.k_step, least(f.n - panel * NR, NR), k1 - k0, out);
}

void unpack_panel(const void* source, int64_t, int64_t panel, int64_t k0, int64_t k1, float* out) {
    const Factors& f = *(const Factors*)source;
    f.widening->unpack(*f.packed, panel, k0, k1, out);
}

template <class T>
void convert_row(const T* from, int64_t step, int64_t k, float* to) {
    int64_t i = 0;
    if (step == 1) {
        for (; i + W <= k; i += W) store(to + i, load(from + i));
        if (i < k) store(to + i, load(from + i, k - i), k - i);
        return;
    }
    for (; i < k; i++) {
        if constexpr (sizeof(T) == 4)
            to[i] = from[i * step];
        else
            to[i] = widen(from[i * step]);
    }
}

// Rows row0..row1 of the entries entry0..entry1 of a factor, as floats without gaps.
void convert(const Factor& a, int64_t inner, int64_t entry0, int64_t entry1, int64_t row0, int64_t row1, int64_t k,
             float* to) {
    int64_t rows = row1 - row0;
    parallel((entry1 - entry0) * rows, divide_up(1 << 13, k), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) {
            int64_t at = entry_at(a, inner, entry0 + i / rows) + (row0 + i % rows) * a.step;
            if (a.type == Type::f32) convert_row((const float*)a.data + at, a.k_step, k, to + i * k);
            if (a.type == Type::bf16) convert_row((const bf16*)a.data + at, a.k_step, k, to + i * k);
            if (a.type == Type::f16) convert_row((const f16*)a.data + at, a.k_step, k, to + i * k);
        }
    });
}

void multiply_few_rows(const Product& p, const Factors& f) {
    const float* rows[FEW];
    point(&f, 0, 0, p.m, rows, 0, nullptr);
    int64_t panels = divide_up(p.n, NR), width = few_panels(p.m);
    parallel(divide_up(panels, width), 2, [&](int64_t begin, int64_t end) {
        alignas(64) float tile[FEW * NR];
        for (int64_t i = begin; i < end; i++) {
            int64_t panel = i * width, many = least(width, panels - panel), column = panel * NR;
            f.widening->multiply_few(*f.packed, p.m, rows, panel, many, tile);
            p.epilogue(p.context, tile, many * NR, p.row0, p.m, column, least(many * NR, p.n - column));
        }
    });
}

void run(const Product& p, const Factors& f) {
    bool few = f.widening && p.m <= FEW && p.run > 0;
    if (few) return multiply_few_rows(p, f);
    multiply(p);
}

// Left factors that are not rows of floats are converted first, so much at a time as stays in the last cache.
void run_any(Product p, Factors f) {
    if (p.batch <= 0 || p.m <= 0 || p.n <= 0) return;
    p.source = &f;
    if ((f.left.type == Type::f32 && f.left.k_step == 1) || p.run == 0) return run(p, f);
    Factor a = f.left;
    int64_t k = p.run, entries = p.batch, m = p.m;
    int64_t rows = least(m, CONVERTED / k + 1), many = rows < m ? 1 : least(entries, CONVERTED / (rows * k) + 1);
    float* space = (float*)scratch(rows * many * k * int64_t(sizeof(float)), CALLER_SLOT);
    int64_t inner = f.inner;
    for (int64_t e = 0; e < entries; e += many)
        for (int64_t r = 0; r < m; r += rows) {
            p.batch = least(many, entries - e);
            p.m = least(rows, m - r);
            p.row0 = e * m + r;
            convert(a, inner, e, e + p.batch, r, r + p.m, k, space);
            f.left = {Type::f32, space, inner * p.m * k, p.m * k, k, 1};
            f.first_entry = e;
            run(p, f);
        }
}

}  // namespace

void gemm(int64_t m, Type type, const void* a, int64_t lda, const Packed& w, const Widening* widening, Epilogue epilogue,
          const void* context) {
    Factors f = {};
    f.inner = 1;
    f.n = w.n;
    f.left = {type, a, 0, 0, lda, 1};
    f.packed = &w;
    f.widening = widening;
    Product p = {};
    p.batch = p.positions = 1;
    p.m = m;
    p.n = w.n;
    p.run = w.k;
    p.rows = point;
    p.panel = widening ? unpack_panel : nullptr;
    p.packed = (const float*)w.data;
    p.epilogue = epilogue;
    p.context = context;
    run_any(p, f);
}

void matmul(int64_t outer, int64_t inner, int64_t m, int64_t n, int64_t k, const Factor& a, const Factor& b,
            Epilogue epilogue, const void* context) {
    Factors f = {};
    f.inner = inner;
    f.n = n;
    f.left = a;
    f.right = b;
    Product p = {};
    p.batch = outer * inner;
    p.m = m;
    p.n = n;
    p.positions = 1;
    p.run = k;
    p.rows = point;
    p.panel = gather_panel;
    p.row_step = m;
    p.epilogue = epilogue;
    p.context = context;
    run_any(p, f);
}

}  // namespace maia
