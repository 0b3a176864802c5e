// The kernel library against plain loops, in one program of C++ alone, so that it also runs under an emulator of another
// processor. Prints what is wrong; gives the number of it.
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "attention.h"
#include "conv.h"
#include "gemm.h"
#include "given.h"
#include "lowp.h"
#include "move.h"
#include "ops.h"
#include "pool.h"
#include "tile.h"
#include "weights.h"
#include "window.h"

using namespace maia;

namespace {

int wrong = 0;

void check(const std::string& what, const Floats& got, const Floats& want, double tolerance) {
    double off = 0, most = 0;
    bool odd = false;
    for (size_t i = 0; i < want.size(); i++) {
        odd = odd || std::isnan(got[i]) != std::isnan(want[i]);
        if (got[i] == want[i] || std::isnan(want[i])) continue;
        off = std::fmax(off, std::fabs(double(got[i]) - want[i]));
        most = std::fmax(most, std::fabs(double(want[i])));
    }
    if (!odd && off <= tolerance * std::fmax(most, 1e-30)) return;
    printf("%s: off by %g of %g%s\n", what.c_str(), off, most, odd ? ", NaN" : "");
    wrong++;
}

// **** products ****

Floats multiplied(int64_t m, int64_t n, int64_t k, const Floats& a, const Floats& b) {
    Floats c(m * n);
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            double sum = 0;
            for (int64_t l = 0; l < k; l++) sum += double(a[i * k + l]) * b[j * k + l];
            c[i * n + j] = float(sum);
        }
    return c;
}

float value_of(Type type, uint8_t code) {
    static const float f4[] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    if (type == Type::i8 || type == Type::i4) return int8_t(code);
    if (type == Type::u8 || type == Type::u4) return code;
    if (type == Type::f4e2m1) return (code & 8 ? -1 : 1) * f4[code & 7];
    int mantissa = type == Type::f8e4m3 ? 3 : 2, bias = type == Type::f8e4m3 ? 7 : 15;
    int exponent = (code & 127) >> mantissa, rest = code & ((1 << mantissa) - 1);
    float x = exponent ? std::ldexp(1 + std::ldexp(float(rest), -mantissa), exponent - bias)
                       : std::ldexp(float(rest), 1 - bias - mantissa);
    return code & 128 ? -x : x;
}

uint8_t code_of(Type type, uint32_t random) {
    if (type == Type::i4) return uint8_t(int(random % 16) - 8);
    if (type == Type::u4 || type == Type::f4e2m1) return random % 16;
    if (type == Type::f8e4m3 || type == Type::f8e5m2) return (random & 0x80) | (random >> 8) % 0x78;  // no NaN
    return uint8_t(random);
}

void low_product(const char* name, Weight kind, Type type, int64_t m, int64_t n, int64_t k, int64_t group, bool zeros) {
    int64_t groups = group ? (k + group - 1) / group : 1;
    std::vector<uint8_t> codes(n * k), zero(n * groups);
    Floats b(n * k), scales = some(n * groups, 3), a = some(m * k, 4), c(m * n);
    uint32_t seed = 5;
    for (uint8_t& x : codes) x = code_of(type, (seed = seed * 1664525u + 1013904223u) >> 9);
    for (uint8_t& x : zero) x = code_of(type, (seed = seed * 1664525u + 1013904223u) >> 9);
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < k; l++) {
            int64_t at = i * groups + (group ? l / group : 0);
            float offset = zeros ? value_of(type, zero[at]) : 0;
            b[i * k + l] = (value_of(type, codes[i * k + l]) - offset) * scales[at];
        }
    Source source = {type, codes.data(), k, 1, scales.data(), groups, 1, zeros ? zero.data() : nullptr, groups, 1};
    Memory panels(packed_bytes(kind, n, k, group));
    pack(kind, n, k, group, source, panels.at);
    Result to = {c.data(), n};
    gemm(m, Type::f32, a.data(), k, {kind, n, k, group, panels.at}, &low_precision, keep, &to);
    check(std::string("gemm ") + name + " m" + std::to_string(m), c, multiplied(m, n, k, a, b), 2e-6);
}

void products(int64_t m, int64_t n) {
    const int64_t k = 301;
    Floats a = some(m * k, 1), b = some(n * k, 2), c(m * n);
    Memory panels(packed_bytes(Weight::f32, n, k));
    pack(Weight::f32, n, k, 0, {Type::f32, b.data(), k, 1, nullptr, 0, 0, nullptr, 0, 0}, panels.at);
    Result to = {c.data(), n};
    gemm(m, Type::f32, a.data(), k, {Weight::f32, n, k, 0, panels.at}, nullptr, keep, &to);
    check("gemm f32", c, multiplied(m, n, k, a, b), 2e-6);
    matmul(1, 1, m, n, k, {Type::f32, a.data(), 0, 0, k, 1}, {Type::f32, b.data(), 0, 0, k, 1}, keep, &to);
    check("matmul", c, multiplied(m, n, k, a, b), 2e-6);
    low_product("i8", Weight::i8, Type::i8, m, n, k, 0, false);
    low_product("u8", Weight::u8, Type::u8, m, n, k, 0, true);
    low_product("i8 with zeros", Weight::u8, Type::i8, m, n, 320, 32, true);
    low_product("i4", Weight::i4, Type::i4, m, n, 320, 64, true);
    low_product("u4", Weight::i4, Type::u4, m, n, k, 0, true);
    low_product("f8e4m3", Weight::f8e4m3, Type::f8e4m3, m, n, 320, 32, false);
    low_product("f8e5m2", Weight::f8e5m2, Type::f8e5m2, m, n, k, 0, false);
    low_product("f4e2m1", Weight::f4e2m1, Type::f4e2m1, m, n, 320, 32, false);
}

struct Counted {
    Result to;
    std::atomic<int64_t>* times;  // that an element of the result was given
    int64_t n;
};
void count(const void* context, const float* tile, int64_t ld, int64_t row, int64_t rows, int64_t col, int64_t cols) {
    const Counted& c = *(const Counted*)context;
    keep(&c.to, tile, ld, row, rows, col, cols);
    for (int64_t r = row; r < row + rows; r++)
        for (int64_t i = col; i < col + cols; i++) c.times[r * c.n + i]++;
}

// However many threads share a product, each element is made once.
void shared_product(int64_t m, int64_t n, int64_t k) {
    Floats a = some(m * k, 1), b = some(n * k, 2), c(m * n), want = multiplied(m, n, k, a, b);
    Memory panels(packed_bytes(Weight::f32, n, k));
    pack(Weight::f32, n, k, 0, {Type::f32, b.data(), k, 1, nullptr, 0, 0, nullptr, 0, 0}, panels.at);
    for (int many : {1, 2, 3, 5, 8}) {
        set_threads(many);
        std::vector<std::atomic<int64_t>> times(m * n);
        Counted to = {{c.data(), n}, times.data(), n};
        gemm(m, Type::f32, a.data(), k, {Weight::f32, n, k, 0, panels.at}, nullptr, count, &to);
        check("gemm of " + std::to_string(many) + " threads", c, want, 2e-6);
        check("times that an element was made", Floats(times.begin(), times.end()), Floats(m * n, 1), 0);
    }
    set_threads(0);
}

template <class T>
std::vector<T> narrowed(const Floats& x) {
    std::vector<T> to(x.size());
    for (size_t i = 0; i < x.size(); i++) store(&to[i], splat(x[i]), 1);
    return to;
}
template <class T>
Floats widened(const std::vector<T>& x) {
    Floats to(x.size());
    for (size_t i = 0; i < x.size(); i++) to[i] = widen(x[i]);
    return to;
}

template <class T>
void half_product(const char* name, Weight kind, Type type, int64_t m) {
    int64_t n = 45, k = 90;
    std::vector<T> a = narrowed<T>(some(m * k, 1)), b = narrowed<T>(some(n * k, 2));
    Floats c(m * n);
    Memory panels(packed_bytes(kind, n, k));
    pack(kind, n, k, 0, {type, b.data(), 1, n, nullptr, 0, 0, nullptr, 0, 0}, panels.at);  // given as [k, n]
    Result to = {c.data(), n};
    gemm(m, type, a.data(), k, {kind, n, k, 0, panels.at}, &low_precision, keep, &to);
    Floats wide = widened(b), turned(n * k);
    for (int64_t i = 0; i < n; i++)
        for (int64_t l = 0; l < k; l++) turned[i * k + l] = wide[l * n + i];
    check(std::string("gemm ") + name, c, multiplied(m, n, k, widened(a), turned), 2e-6);
}

// **** convolutions ****

void convolution(const char* name, ConvKind kind, int64_t c, int64_t o, int64_t groups, int64_t taps, int64_t stride) {
    int64_t h = 13, w = 17, pad = taps / 2, oh = (h + 2 * pad - taps) / stride + 1, ow = (w + 2 * pad - taps) / stride + 1;
    int64_t own = c / groups, n = 2;
    const Conv g = {n, h, w, c, oh, ow, o, taps, taps, stride, stride, pad, pad, 1, 1, groups, h * w * c, w * c, c};
    Floats x = some(n * h * w * c, 1), f = some(o * own * taps * taps, 2), y(n * oh * ow * o), want(n * oh * ow * o);
    Memory packed(conv_packed_bytes(kind, g)), space(conv_workspace(kind, g));
    conv_pack(kind, g, f.data(), packed.at);
    Result to = {y.data(), o};
    conv(kind, g, x.data(), packed.at, space.at, keep, &to);
    for (int64_t at = 0; at < n * oh * ow * o; at++) {
        int64_t out = at % o, column = at / o % ow, row = at / o / ow % oh, image = at / o / ow / oh;
        double sum = 0;
        for (int64_t i = 0; i < own * taps * taps; i++) {
            int64_t ch = i / taps / taps, r = row * stride - pad + i / taps % taps, q = column * stride - pad + i % taps;
            if (r < 0 || r >= h || q < 0 || q >= w) continue;
            int64_t from = ((image * h + r) * w + q) * c + out / (o / groups) * own + ch;
            sum += double(f[out * own * taps * taps + i]) * x[from];
        }
        want[at] = float(sum);
    }
    check(std::string("conv ") + name, y, want, 1e-5);
}

void convolutions() {
    convolution("direct", ConvKind::direct, 20, 37, 1, 3, 1);
    convolution("direct of stride 2", ConvKind::direct, 3, 16, 1, 5, 2);
    convolution("direct 1x1", ConvKind::direct, 40, 24, 1, 1, 1);
    convolution("direct in groups", ConvKind::direct, 12, 18, 3, 3, 1);
    convolution("depthwise", ConvKind::depthwise, 29, 29, 29, 3, 1);
    convolution("depthwise of stride 2", ConvKind::depthwise, 16, 16, 16, 5, 2);
    convolution("depthwise of many channels", ConvKind::depthwise, 203, 203, 203, 3, 2);
    convolution("depthwise of few channels", ConvKind::depthwise, 3, 3, 3, 5, 1);
    convolution("depthwise of 7 taps", ConvKind::depthwise, 37, 37, 37, 7, 1);
    convolution("depthwise of 4 taps", ConvKind::depthwise, 37, 37, 37, 4, 1);
    convolution("depthwise of stride 3", ConvKind::depthwise, 37, 37, 37, 3, 3);
    convolution("groups of four", ConvKind::depthwise, 68, 68, 17, 3, 1);
    convolution("groups of four, of stride 2", ConvKind::depthwise, 20, 20, 5, 3, 2);
    if (W > 8) convolution("groups of eight", ConvKind::depthwise, 72, 72, 9, 3, 1);
    convolution("groups of a vector", ConvKind::depthwise, 3 * W, 3 * W, 3, 3, 1);
    if (3 * W != NR)  // which whole panels are not for
        convolution("groups of three vectors", ConvKind::depthwise, 6 * W, 6 * W, 2, 3, 2);
    convolution("winograd2", ConvKind::winograd2, 20, 37, 1, 3, 1);
    convolution("winograd4", ConvKind::winograd4, 20, 37, 1, 3, 1);
    convolution("winograd4 of nothing", ConvKind::winograd4, 0, 37, 1, 3, 1);
    convolution("winograd2, filters transformed on the way", ConvKind::lean2, 150, 37, 1, 3, 1);
    convolution("winograd4, filters transformed on the way", ConvKind::lean4, 150, 37, 1, 3, 1);
    convolution("winograd4 of nothing, filters transformed on the way", ConvKind::lean4, 0, 37, 1, 3, 1);
}

// **** attention ****

template <class T>
std::vector<T> stored(const Floats& x) {
    if constexpr (sizeof(T) == 4)
        return x;
    else
        return narrowed<T>(x);
}
template <class T>
Floats loaded(const std::vector<T>& x) {
    if constexpr (sizeof(T) == 4)
        return x;
    else
        return widened(x);
}

template <class T>
void heads(const char* name, int64_t t, int64_t s, int mask_kind, int causal, int64_t window, double tolerance) {
    const int64_t h = 6, g = 2, d = 37, e = 41;
    std::vector<T> q = stored<T>(some(h * t * d, 5)), k = stored<T>(some(g * s * d, 6)), v = stored<T>(some(g * s * e, 7));
    std::vector<T> o(h * t * e);
    Floats mask = some(t * s, 8), qf = loaded(q), kf = loaded(k), vf_ = loaded(v), want(h * t * e);
    std::vector<uint8_t> bytes(t * s);
    for (int64_t i = 0; i < t * s; i++) {
        bytes[i] = mask[i] > -0.2f && i / s != 1;  // query 1 sees nothing
        if (i % 7 == 0 || i / s == 1) mask[i] = -INFINITY;
    }
    Attention a = {};
    a.batch = 1, a.heads = h, a.kv_heads = g, a.t = t, a.s = s, a.d = d, a.e = e;
    a.qh = t * d, a.oh = t * e, a.kh = s * d, a.vh = s * e, a.qt = a.ks = d, a.vs = a.ot = e;
    a.scale = 1, a.causal = causal, a.window = window, a.mask_kind = mask_kind, a.mt = s, a.ms = 1;
    a.first = causal ? s - t : 0;
    a.mask = mask_kind == 1 ? (const void*)bytes.data() : mask.data();
    attention(a, q.data(), k.data(), v.data(), o.data());
    for (int64_t row = 0; row < h * t; row++) {
        int64_t head = row / t, i = row % t;
        std::vector<double> p(s);
        double top = -INFINITY, total = 0;
        for (int64_t j = 0; j < s; j++) {
            double x = 0;
            for (int64_t l = 0; l < d; l++) x += double(qf[row * d + l]) * kf[(head / (h / g) * s + j) * d + l];
            bool seen = !(causal && j > i + a.first) && !(window && j <= i + a.first - window) &&
                        !(window && !causal && j >= i + a.first + window) && !(mask_kind == 1 && !bytes[i * s + j]);
            p[j] = seen ? x + (mask_kind == 2 ? mask[i * s + j] : 0) : -INFINITY;
            top = std::fmax(top, p[j]);
        }
        for (double& x : p) total += x = top == -INFINITY ? 0 : std::exp(x - top);
        for (int64_t l = 0; l < e; l++) {
            double sum = 0;
            for (int64_t j = 0; j < s; j++) sum += p[j] * vf_[(head / (h / g) * s + j) * e + l];
            want[row * e + l] = float(total > 0 ? sum / total : 0);
        }
    }
    check(std::string("attention ") + name + " t" + std::to_string(t), loaded(o), want, tolerance);
}

void attentions() {
    for (int64_t t : {1, 3, 60}) {
        heads<float>("f32", t, 300, 0, 0, 0, 3e-6);
        heads<float>("causal", t, 300, 0, 1, 0, 3e-6);
        heads<float>("window", t, 300, 0, 1, 20, 3e-6);
        heads<float>("bool mask", t, 70, 1, 0, 0, 3e-6);
        heads<float>("float mask", t, 300, 2, 0, 0, 3e-6);
        heads<bf16>("bf16", t, 300, 0, 1, 0, 6e-3);
        heads<f16>("f16", t, 300, 0, 1, 0, 1e-3);
    }
}

// **** functions, rows and copies ****

// The largest error of a function of vectors in units of the last place of the right result.
template <class F, class G>
void function(const char* name, float low, float high, double most, const F& f, const G& right) {
    double worst = 0;
    float at = 0;
    for (int64_t i = 0; i < 20000; i++) {
        float x = low + (high - low) * float(i) / 20000;
        double want = right(double(x)), unit = std::fmax(std::ldexp(1.0, std::ilogb(want) - 23), std::ldexp(1.0, -149));
        double off = std::fabs(double(f(splat(x))[W - 1]) - want) / unit;
        if (off > worst) worst = off, at = x;
    }
    if (worst <= most) return;
    printf("%s: %g units at %g\n", name, worst, at);
    wrong++;
}

#define FUNCTION(name, low, high, most)                                              \
    function(                                                                        \
        #name, low, high, most, [](vf x) { return maia::name(x); },                  \
        [](double x) { return std::name(x); })

void functions() {
    FUNCTION(exp, -100.0f, 88.0f, 3);
    FUNCTION(exp2, -148.0f, 127.0f, 3);
    FUNCTION(expm1, -10.0f, 80.0f, 4);
    FUNCTION(log, 1e-30f, 50.0f, 3);
    FUNCTION(log2, 1e-30f, 50.0f, 3);
    FUNCTION(log10, 1e-30f, 50.0f, 3);
    FUNCTION(log1p, -0.9f, 50.0f, 4);
    FUNCTION(tanh, -10.0f, 10.0f, 4);
    FUNCTION(erf, -4.0f, 4.0f, 6);
    FUNCTION(sin, -3.0f, 3.0f, 4);
    FUNCTION(cos, -1.5f, 1.5f, 4);
    FUNCTION(sqrt, 0.0f, 1e20f, 0.51);
    FUNCTION(floor, -20.0f, 20.0f, 0);
    FUNCTION(ceil, -20.0f, 20.0f, 0);
    FUNCTION(trunc, -20.0f, 20.0f, 0);
    function("round", -20.0f, 20.0f, 0, [](vf x) { return maia::round(x); }, [](double x) { return std::nearbyint(x); });
    function(
        "pow", 0.01f, 30.0f, 3, [](vf x) { return maia::pow(x, splat(2.7f)); },
        [](double x) { return std::pow(x, double(2.7f)); });
}

template <class T>
void halves(const char* name) {
    Floats again;
    Floats values;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        T x = {uint16_t(bits)};
        T line[W], back[W];
        for (T& y : line) y = x;
        store(back, load(line));
        again.push_back(widen(back[W - 1])), values.push_back(widen(x));
    }
    check(name, again, values, 0);
}

void copies() {
    const int64_t a = 37, b = 41, c = 5;
    Floats x = some(a * b * c, 9), y(a * b * c), want(a * b * c);
    for (int64_t i = 0; i < a; i++)
        for (int64_t j = 0; j < b; j++)
            for (int64_t l = 0; l < c; l++) want[(l * b + j) * a + i] = x[(i * b + j) * c + l];
    const int64_t dims[] = {a, b, c}, to[] = {1, a, a * b}, from[] = {b * c, c, 1};
    copy_strided(4, 3, dims, to, from, y.data(), x.data());
    check("copy", y, want, 0);
}

void planes() {
    for (int64_t channels = 1; channels < 10; channels++)
        for (int64_t pixels : {1, 3, 4, 5, 8, 1100}) {
            Floats x = some(channels * pixels, 9), y(channels * pixels), want(channels * pixels);
            for (int64_t i = 0; i < channels * pixels; i++) want[i] = x[i % channels * pixels + i / channels];
            const int64_t dims[] = {channels, pixels}, to[] = {1, channels}, from[] = {pixels, 1};
            copy_strided(4, 2, dims, to, from, y.data(), x.data());
            check("copy of planes", y, want, 0);
        }
}

void windows() {
    const int64_t h = 9, w = 11, c = 21;
    Floats x = some(h * w * c, 9), y(c), scale(c), shift(c), means(c), got(c), spread(c);
    global_average({1, h, w, c, h * w * c, w * c, c}, x.data(), y.data(), c);
    group_stats({1, h, w, c, h * w * c, w * c, c}, 3, x.data(), nullptr, nullptr, 1e-5f, scale.data(), shift.data());
    for (int64_t i = 0; i < c; i++) {
        double sum = 0, mean = 0, square = 0;
        for (int64_t p = 0; p < h * w; p++) sum += x[p * c + i];
        for (int64_t p = 0; p < h * w * 7; p++) mean += x[p / 7 * c + i / 7 * 7 + p % 7] / (h * w * 7);
        for (int64_t p = 0; p < h * w * 7; p++) square += std::pow(x[p / 7 * c + i / 7 * 7 + p % 7] - mean, 2) / (h * w * 7);
        means[i] = float(sum / (h * w));
        spread[i] = float(1 / std::sqrt(square + 1e-5));
    }
    check("global average", y, means, 1e-6);
    check("group statistics", scale, spread, 1e-6);
}

}  // namespace

int main() {
    for (int64_t m : {1, 2, 3, 5, 50, 131})
        for (int64_t n : {77, 69, 61}) products(m, n);
    for (int64_t m : {40, 97})
        for (int64_t n : {16, 130, 500})
            for (int64_t k : {20, 600}) shared_product(m, n, k);
    for (int64_t m : {1, 2, 4, 33}) {
        half_product<bf16>("bf16", Weight::bf16, Type::bf16, m);
        half_product<f16>("f16", Weight::f16, Type::f16, m);
    }
    convolutions();
    attentions();
    functions();
    halves<bf16>("bf16 there and back");
    halves<f16>("f16 there and back");
    copies();
    planes();
    windows();
    printf("%d lanes, %d threads, %d wrong\n", W, threads(), wrong);
    return wrong != 0;
}
