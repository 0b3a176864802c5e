#include "tile.h"

#include <utility>

namespace maia {

constexpr int64_t AHEAD = 256;  // floats from what is read to what is asked for

template <int R, int V>
static void run_tile(const Tile& t) {
    constexpr int P = divide_up(V, VECTORS);
    vf sums[R][V];
#pragma GCC unroll 32
    for (int i = 0; i < R * V; i++) sums[i / V][i % V] = vf{};
    const float* b = t.panels;
    const float* const* rows = t.rows;
    const char* ahead = t.ahead;
    const bool add = t.add;
    int64_t run = t.run, step = P == 1 && ahead ? t.ahead_step : run, left = t.positions, panel_step = t.panel_step;
    do {
        const float* a[R];
#pragma GCC unroll 16
        for (int r = 0; r < R; r++) a[r] = rows[r];
        rows += t.row_step;
        int64_t k = 0;
        do {
            int64_t end = k + step < run ? k + step : run;
            if constexpr (P == 1) {
                __builtin_prefetch(ahead, 0, 2);
                ahead += 64;
            }
            do {
                // Few rows: panels stream from memory, across pages, which no processor looks beyond.
                if constexpr (P > 1 && LOOKS_AHEAD) {
#pragma GCC unroll 6
                    for (int p = 0; p < P; p++) __builtin_prefetch(b + p * panel_step + AHEAD);
                }
                // Whichever of the two factors has fewer registers to fill is held, the other one passes by.
                if constexpr (V <= 2 || V < R) {
                    vf right[V];
#pragma GCC unroll 16
                    for (int v = 0; v < V; v++) right[v] = load(b + v / VECTORS * panel_step + v % VECTORS * W);
#pragma GCC unroll 16
                    for (int r = 0; r < R; r++) {
                        vf left = splat(a[r][k]);
#pragma GCC unroll 16
                        for (int v = 0; v < V; v++) sums[r][v] += left * right[v];
                    }
                } else {
                    vf left[R];
#pragma GCC unroll 16
                    for (int r = 0; r < R; r++) left[r] = splat(a[r][k]);
#pragma GCC unroll 16
                    for (int v = 0; v < V; v++) {
                        vf right = load(b + v / VECTORS * panel_step + v % VECTORS * W);
#pragma GCC unroll 16
                        for (int r = 0; r < R; r++) sums[r][v] += left[r] * right;
                    }
                }
                b += NR;
            } while (++k < end);
        } while (k < run);
    } while (--left > 0);
    float* out = t.out;
    const int64_t out_step = t.out_step;
#pragma GCC unroll 16
    for (int r = 0; r < R; r++, out += out_step) {
        if (add) {
#pragma GCC unroll 16
            for (int v = 0; v < V; v++) sums[r][v] += load(out + v * W);
        }
#pragma GCC unroll 16
        for (int v = 0; v < V; v++) store(out + v * W, sums[r][v]);
    }
}

typedef void (*Run)(const Tile&);

// A tile has fewer vectors than a panel, or whole panels.
constexpr int NARROW = VECTORS - 1, WIDTHS = NARROW + MOST_PANELS;

// One for each shape that tile_panels allows; null for the others.
template <int I>
static constexpr Run entry() {
    constexpr int R = I / WIDTHS + 1, J = I % WIDTHS, P = J - NARROW + 1;
    if constexpr (J < NARROW)
        return run_tile<R, J + 1>;
    else if constexpr (P <= tile_panels(R))
        return run_tile<R, P * VECTORS>;
    else
        return nullptr;
}
template <int... I>
static Run find(int i, std::integer_sequence<int, I...>) {
    static constexpr Run table[] = {entry<I>()...};
    return table[i];
}

void tile(int rows, int vectors, const Tile& t) {
    const int width = vectors < VECTORS ? vectors - 1 : NARROW - 1 + vectors / VECTORS;
    find((rows - 1) * WIDTHS + width, std::make_integer_sequence<int, MR * WIDTHS>())(t);
}

}  // namespace maia
