// Two threads that use the kernel library at once, again and again, for ThreadSanitizer: products, convolutions,
// attention and loops over rows. Each checks that its results are those of a first run alone. Arguments: how often, and
// anything else for a race on purpose.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "attention.h"
#include "conv.h"
#include "gemm.h"
#include "given.h"
#include "pool.h"
#include "weights.h"
#include "window.h"

using namespace maia;

namespace {

Floats product(int64_t m, int64_t n, int64_t k) {
    Floats a = some(m * k, 1), b = some(n * k, 2), c(m * n);
    Memory panels(packed_bytes(Weight::f32, n, k));
    pack(Weight::f32, n, k, 0, {Type::f32, b.data(), k, 1, nullptr, 0, 0, nullptr, 0, 0}, panels.at);
    Result to = {c.data(), n};
    gemm(m, Type::f32, a.data(), k, {Weight::f32, n, k, 0, panels.at}, nullptr, keep, &to);
    return c;
}

Floats image(ConvKind kind, int64_t c, int64_t o, int64_t groups) {
    const int64_t h = 19, w = 23;
    const Conv g = {1, h, w, c, h, w, o, 3, 3, 1, 1, 1, 1, 1, 1, groups, h * w * c, w * c, c};
    Floats x = some(h * w * c, 3), filters = some(o * c / groups * 9, 4), y(h * w * o);
    Memory packed(conv_packed_bytes(kind, g)), space(conv_workspace(kind, g));
    conv_pack(kind, g, filters.data(), packed.at);
    Result to = {y.data(), o};
    conv(kind, g, x.data(), packed.at, space.at, keep, &to);
    return y;
}

Floats heads(int64_t t, int64_t s) {
    const int64_t h = 4, g = 2, d = 40;
    Floats q = some(h * t * d, 5), k = some(g * s * d, 6), v = some(g * s * d, 7), o(h * t * d);
    Attention a = {};
    a.batch = 1, a.heads = h, a.kv_heads = g, a.t = t, a.s = s, a.d = d, a.e = d;
    a.qh = a.oh = t * d, a.kh = a.vh = s * d, a.qt = a.ks = a.vs = a.ot = d;
    a.scale = 1 / sqrtf(d), a.causal = t > 1;
    attention(a, q.data(), k.data(), v.data(), o.data());
    return o;
}

Floats rows() {
    const int64_t n = 300, length = 200;
    Floats x = some(n * length, 8), y(n);
    parallel(n, 4, [&](int64_t begin, int64_t end) {
        float* kept = (float*)scratch(length * sizeof(float));
        for (int64_t i = begin; i < end; i++) {
            float total = 0;
            for (int64_t j = 0; j < length; j++) kept[j] = expf(x[i * length + j]);
            for (int64_t j = 0; j < length; j++) total += kept[j];
            y[i] = total;
        }
    });
    return y;
}

Floats statistics() {
    const int64_t c = 24, h = 30, w = 30;
    Floats x = some(2 * h * w * c, 9), y(4 * c);
    group_stats({2, h, w, c, h * w * c, w * c, c}, 4, x.data(), nullptr, nullptr, 1e-5f, y.data(), y.data() + 2 * c);
    return y;
}

std::vector<Floats> everything() {
    return {product(1, 300, 200), product(50, 300, 200), product(130, 70, 600), image(ConvKind::direct, 16, 24, 1),
            image(ConvKind::depthwise, 24, 24, 24), image(ConvKind::winograd2, 16, 24, 1),
            image(ConvKind::winograd4, 16, 24, 1), image(ConvKind::lean2, 16, 40, 1), heads(1, 700), heads(60, 60),
            rows(), statistics()};
}

}  // namespace

int main(int argc, char** argv) {
    const int times = argc > 1 ? atoi(argv[1]) : 5;
    const std::vector<Floats> wanted = everything();
    int wrong[2] = {}, shared = 0;
    auto work = [&](int who) {
        if (argc > 2) shared++;
        for (int i = 0; i < times; i++) wrong[who] += everything() != wanted;
    };
    std::thread first(work, 0), second(work, 1);
    first.join();
    second.join();
    printf("%d threads, %d wrong\n", threads(), wrong[0] + wrong[1] + (shared < 0));
    return wrong[0] + wrong[1] != 0;
}
