#include "conv.h"

#include <initializer_list>

#include "depthwise.h"
#include "direct.h"
#include "panel.h"
#include "pool.h"
#include "product.h"
#include "weights.h"
#include "whole.h"
#include "winograd.h"

namespace maia {
namespace {

// Panels for the direct kind, group by group: k runs over rows of taps, taps, channels.
void pack_direct(const Conv& c, const float* w, float* packed) {
    int64_t n = c.o / c.groups, channels = c.c / c.groups, taps = c.kh * c.kw, k = channels * taps;
    int64_t panels = divide_up(n, NR);
    parallel(c.groups * panels, 1, [&](int64_t begin, int64_t end) {
        float* turned = (float*)scratch(NR * k * int64_t(sizeof(float)), WORKER_SLOT);
        for (int64_t i = begin; i < end; i++) {
            int64_t first = i % panels * NR, count = n - first < NR ? n - first : NR;
            for (int64_t j = 0; j < count; j++) {
                const float* from = w + (i / panels * n + first + j) * k;
                for (int64_t ch = 0; ch < channels; ch++)
                    for (int64_t t = 0; t < taps; t++) turned[j * k + t * channels + ch] = from[ch * taps + t];
            }
            gather(Type::f32, turned, k, 1, count, k, packed + i * k * NR);
        }
    });
}

// Cycles of one core, with its share of the memory, that a kind should take. The figures were fitted to measurements on
// Zen 3; what matters is their relation: products run near the peak, filters stream from memory, transforms take a few
// hundred cycles for each square and vector of channels.
double cycles_of(ConvKind kind, const Conv& c) {
    constexpr double PEAK = 2 * W * 0.9, BYTES = 4.5;  // multiply-adds, and bytes from memory, in a cycle
    double panels = double(divide_up(c.o, NR)), vectors_in = double(divide_up(c.c, W)), vectors_out = panels * VECTORS;
    double images = double(c.n > 0 ? c.n : 1), high = double(c.oh > 0 ? c.oh : 32), wide = double(c.ow > 0 ? c.ow : 32);
    auto products = [&](double rows, double k) {
        double streamed = panels * NR * k * 4 / BYTES;
        double computed = rows * panels * NR * k / PEAK + std::ceil(rows / MR) * panels * 50;
        return std::fmax(computed, streamed) + 0.25 * std::fmin(computed, streamed);
    };
    if (kind == ConvKind::direct) return products(images * high * wide, double(9 * c.c));
    double side = kind == ConvKind::winograd2 ? 2 : 4, count = (side + 2) * (side + 2);
    double squares = images * std::ceil(high / side) * std::ceil(wide / side);
    double in = kind == ConvKind::winograd2 ? 90 : 220, out = kind == ConvKind::winograd2 ? 60 : 150;
    return count * products(squares, double(c.c)) + squares * (vectors_in * in + vectors_out * out);
}

constexpr int64_t GROWTH = 4 << 20;  // bytes

// Filters that would grow by megabytes, and by more than the images around them take, keep their size: a program's
// memory should be that of its weights and values. It costs up to a sixth of the time.
bool outgrows(ConvKind kind, ConvKind lean, const Conv& c) {
    int64_t images = most(c.n, 1) * (most(c.h * c.w, 1) * c.c + most(c.oh * c.ow, 1) * c.o) * int64_t(sizeof(float));
    return conv_packed_bytes(kind, c) - conv_packed_bytes(lean, c) > most(GROWTH, images);
}

}  // namespace

bool conv_fits(ConvKind kind, const Conv& c) {
    if (kind == ConvKind::direct) return true;
    if (kind == ConvKind::depthwise) return depthwise_fits(c);
    return c.groups == 1 && c.kh == 3 && c.kw == 3 && c.sh == 1 && c.sw == 1 && c.dh == 1 && c.dw == 1;
}

ConvKind conv_choose(const Conv& c) {
    if (conv_fits(ConvKind::depthwise, c)) return ConvKind::depthwise;
    ConvKind best = ConvKind::direct;
    for (ConvKind kind : {ConvKind::winograd2, ConvKind::winograd4})
        if (conv_fits(kind, c) && cycles_of(kind, c) < cycles_of(best, c)) best = kind;
    if (best == ConvKind::direct) return best;
    ConvKind lean = best == ConvKind::winograd2 ? ConvKind::lean2 : ConvKind::lean4;
    return outgrows(best, lean, c) ? lean : best;
}

int64_t conv_packed_bytes(ConvKind kind, const Conv& c) {
    if (kind == ConvKind::depthwise) return depthwise_packed_bytes(c);
    if (kind != ConvKind::direct) return winograd_packed_bytes(kind, c);
    int64_t k = c.c / c.groups * c.kh * c.kw;
    return c.groups * packed_bytes(Weight::f32, c.o / c.groups, k);
}

void conv_pack(ConvKind kind, const Conv& c, const float* w, void* packed) {
    if (kind == ConvKind::depthwise) return depthwise_pack(c, w, packed);
    if (kind != ConvKind::direct) return winograd_pack(kind, c, w, packed);
    pack_direct(c, w, (float*)packed);
}

int64_t conv_workspace(ConvKind kind, const Conv& c) {
    return kind == ConvKind::direct || kind == ConvKind::depthwise ? 0 : winograd_workspace(kind, c);
}

void conv(ConvKind kind, const Conv& c, const float* x, const void* packed, void* workspace, Epilogue epilogue,
          const void* context) {
    if (kind == ConvKind::direct) return conv_direct(c, x, packed, epilogue, context);
    if (kind == ConvKind::depthwise) return conv_depthwise(c, x, packed, epilogue, context);
    conv_winograd(kind, c, x, packed, workspace, epilogue, context);
}

}  // namespace maia

// What code outside of C++ asks.
static maia::Conv conv_of(const int64_t* fields) {
    maia::Conv c;
    static_assert(sizeof c == 19 * sizeof(int64_t), "a Conv is its 19 numbers");
    memcpy(&c, fields, sizeof c);
    return c;
}

extern "C" {

int64_t maia_conv_choose(const int64_t* fields) { return (int64_t)maia::conv_choose(conv_of(fields)); }
int64_t maia_conv_workspace(int64_t kind, const int64_t* fields) {
    return maia::conv_workspace((maia::ConvKind)kind, conv_of(fields));
}
}
