// What the machine can do at most with all threads of the pool: fused multiply-adds from registers, and reads from
// memory. Other figures are held against these.
#include <chrono>
#include <cstdlib>

#include "pool.h"
#include "simd.h"

namespace maia {

static double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Independent sums: more than latency times throughput of any processor's multiply-adds, and as few as its registers
// hold beside the two factors.
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int CHAINS = 24;
#else
constexpr int CHAINS = 12;
#endif

static float multiply_add(int64_t steps, float start) {
    vf sums[CHAINS];
    for (int c = 0; c < CHAINS; c++) sums[c] = splat(start * (c + 1));
    vf a = splat(start), b = splat(start * 0.5f);
    for (int64_t i = 0; i < steps; i++) {
#pragma GCC unroll 24
        for (int c = 0; c < CHAINS; c++) sums[c] = sums[c] * a + b;
    }
    vf total = sums[0];
    for (int c = 1; c < CHAINS; c++) total += sums[c];
    return sum(total);
}

// Streams through `count` floats with enough loads in flight to keep the memory busy.
static float read_through(const float* p, int64_t count) {
    constexpr int LOADS = 8;
    vf sums[LOADS] = {};
    for (int64_t i = 0; i + LOADS * W <= count; i += LOADS * W)
#pragma GCC unroll 8
        for (int c = 0; c < LOADS; c++) sums[c] += load(p + i + c * W);
    for (int c = 1; c < LOADS; c++) sums[0] += sums[c];
    return sum(sums[0]);
}

static volatile float sink;  // what nobody reads would not be computed

}  // namespace maia

using namespace maia;

extern "C" {

int maia_threads() { return threads(); }

// FLOP/s of float32 multiply-adds, two FLOPs each, of `count` threads at a time; the best of `runs` that take `seconds`
// each.
double maia_peak_flops(int count, double seconds, int runs) {
    int64_t steps = 1 << 14;
    double best = 0;
    for (int done = 0; done < runs;) {
        double start = now();
        parallel(count, 1, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; i++) sink = multiply_add(steps, 0.25f);
        });
        double took = now() - start;
        if (took < seconds) {
            steps *= 2;
            continue;
        }
        double rate = 2.0 * W * CHAINS * double(steps) * count / took;
        best = rate > best ? rate : best;
        done++;
    }
    return best;
}

// Bytes a second that all threads together read from a block of `bytes`, which should be several times the size of
// the caches. The block is read in pieces, round and round, so that each piece has left the caches before it comes
// again; the best of `runs` pieces, which are short so that some of them have the machine to themselves. 0 where there
// is no such memory.
double maia_peak_read(int64_t bytes, int runs) {
    constexpr int64_t GRAIN = 1 << 15, PIECES = 8;  // floats that a thread claims at a time
    int64_t grains = bytes / int64_t(sizeof(float)) / GRAIN / PIECES, piece = grains * GRAIN;
    float* memory = (float*)std::malloc(size_t(piece) * PIECES * sizeof(float));
    if (!memory || !piece) return std::free(memory), 0;
    parallel(grains * PIECES, 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin * GRAIN; i < end * GRAIN; i++) memory[i] = 1.0f;
    });
    double best = 0;
    for (int done = 0; done < runs; done++) {
        const float* from = memory + done % PIECES * piece;
        double start = now();
        parallel(grains, 1, [&](int64_t begin, int64_t end) {
            sink = read_through(from + begin * GRAIN, (end - begin) * GRAIN);
        });
        double rate = double(piece) * sizeof(float) / (now() - start);
        best = rate > best ? rate : best;
    }
    std::free(memory);
    return best;
}

}  // extern "C"
