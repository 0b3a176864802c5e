#include "product.h"

#include "pool.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int64_t CACHE = 256 << 10;     // bytes of rows to hold in a core's own cache
constexpr int64_t PIECE = 1024;          // long sums are made in pieces of about so many k
constexpr int64_t LEAST_WORK = 1 << 18;  // multiply-adds that are worth a task of their own
constexpr int64_t TASKS = 12;            // for each thread, so that none waits long for the last one
constexpr int64_t AHEAD_LEAST = 2, AHEAD_MOST = 6;  // k from one request for the next panel to the next
constexpr int64_t JOINED = 4;            // tiles that the epilogue gets in one call

int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// m rows in tiles of nearly equal height: the first `tall` have base + 1 rows, the others base.
struct Rows {
    int64_t tiles, base, tall;
    explicit Rows(int64_t m) : tiles(divide_up(m, MR)), base(m / tiles), tall(m % tiles) {}
    int64_t start(int64_t tile) const { return tile * base + least(tile, tall); }
};

// How the work is cut: into tasks of `block` tiles of rows and `group` panels, each of them summed in `pieces` of k,
// which are of `positions` whole positions or, where there is one position only, of `run` k of it.
struct Plan {
    const Product& p;
    Rows rows;
    int64_t panels, k;
    bool cut_run;
    int64_t positions, run, pieces;
    int64_t block, group, blocks, groups;
    bool panels_outside;  // whether tasks go through all rows before the next panels
    bool share_panels;    // whether all threads work on the same panels
    bool panels_kept;     // whether all panels stay in a core's own cache

    explicit Plan(const Product& product);
    int64_t tasks() const { return p.batch * blocks * groups; }
    void cut();
};

Plan::Plan(const Product& product) : p(product), rows(p.m), panels(divide_up(p.n, NR)), k(p.positions * p.run) {
    cut_run = p.positions == 1;
    int64_t wanted = least(divide_up(k, p.piece ? p.piece : PIECE), cut_run ? k : p.positions);
    positions = cut_run ? 1 : divide_up(p.positions, wanted);
    run = cut_run ? divide_up(p.run, wanted) : p.run;
    pieces = cut_run ? divide_up(p.run, run) : divide_up(p.positions, positions);
    cut();
    panels_outside = p.n > p.m;
    share_panels = panels_outside && blocks >= threads();
    panels_kept = p.batch * panels * k * NR * int64_t(sizeof(float)) <= CACHE;
}

void Plan::cut() {
    int64_t widest = tile_panels(int(rows.base + (rows.tall > 0)));
    block = CACHE / (MR * positions * run * int64_t(sizeof(float)));
    block = block < 4 ? 4 : least(block, 32);
    group = 4 * widest;
    double work = double(p.batch) * double(p.m) * double(p.n) * double(k);
    int64_t wanted = threads() == 1 || p.alone ? 1 : least(int64_t(work / LEAST_WORK) + 1, threads() * TASKS);
    for (;;) {
        blocks = divide_up(rows.tiles, block);
        groups = divide_up(panels, group);
        if (tasks() >= wanted) break;
        if (group > widest)
            group = group / 2 < widest ? widest : group / 2 / widest * widest;
        else if (block > 2)
            block /= 2;
        else
            break;
    }
    block = divide_up(rows.tiles, blocks);
    blocks = divide_up(rows.tiles, block);
}

// One task, with its scratch memory.
struct Task {
    const Plan& plan;
    int64_t entry, tile0, tile1, panel0, panel1;
    int64_t row0, count;  // of rows
    const float** pointers;
    float* sums;
    float* panel_space;
    float* row_space;

    Task(const Plan& plan, int64_t index);
    void run();
    void piece(int64_t index);
    void strip(int64_t index, int64_t panel, int64_t width, int64_t from, int64_t to);
    void find_panels(Tile& t, int64_t index, int64_t panel, int64_t width);
};

Task::Task(const Plan& plan, int64_t index) : plan(plan) {
    int64_t per_entry = plan.blocks * plan.groups, rest = index % per_entry;
    entry = index / per_entry;
    int64_t b = plan.panels_outside ? rest % plan.blocks : rest / plan.groups;
    int64_t g = plan.panels_outside ? rest / plan.blocks : rest % plan.groups;
    tile0 = b * plan.block;
    tile1 = least(tile0 + plan.block, plan.rows.tiles);
    panel0 = g * plan.group;
    panel1 = least(panel0 + plan.group, plan.panels);
    row0 = plan.rows.start(tile0);
    count = plan.rows.start(tile1) - row0;
    constexpr int64_t FLOAT = sizeof(float);
    int64_t pointer_bytes = align(plan.p.positions * count * int64_t(sizeof(float*)));
    int64_t kept = plan.pieces > 1 ? count * (panel1 - panel0) : MR * JOINED;
    int64_t sum_bytes = align(kept * NR * FLOAT);
    int64_t panel_bytes = plan.p.panel ? align(MR * plan.positions * plan.run * NR * FLOAT) : 0;
    int64_t row_bytes = plan.p.rows_copied ? count * plan.k * FLOAT : 0;
    char* memory = (char*)scratch(pointer_bytes + sum_bytes + panel_bytes + row_bytes, WORKER_SLOT);
    pointers = (const float**)memory;
    sums = (float*)(memory += pointer_bytes);
    panel_space = (float*)(memory += sum_bytes);
    row_space = (float*)(memory += panel_bytes);
}

void Task::run() {
    plan.p.rows(plan.p.source, entry, row0, count, pointers, count, row_space);
    for (int64_t i = 0; i < plan.pieces; i++) piece(i);
}

// Tiles of the two heights take different numbers of panels at once, so they go one height after the other.
void Task::piece(int64_t index) {
    int64_t middle = plan.rows.tall < tile0 ? tile0 : least(plan.rows.tall, tile1);
    for (int height = 0; height < 2; height++) {
        int64_t from = height ? middle : tile0, to = height ? tile1 : middle;
        if (from == to) continue;
        int64_t width = tile_panels(int(plan.rows.base + !height));
        for (int64_t j = panel0; j < panel1; j += width) strip(index, j, least(width, panel1 - j), from, to);
    }
}

// Sets what the tiles of a strip have in common.
void Task::find_panels(Tile& t, int64_t index, int64_t panel, int64_t width) {
    const Product& p = plan.p;
    int64_t k0 = index * plan.positions * plan.run, k1 = least(k0 + plan.positions * plan.run, plan.k);
    t.row_step = count;
    t.run = plan.cut_run ? k1 - k0 : p.run;
    t.positions = plan.cut_run ? 1 : (k1 - k0) / p.run;
    t.add = index > 0;
    t.ahead = nullptr;
    if (p.panel) {
        t.panel_step = (k1 - k0) * NR;
        t.panels = panel_space;
        for (int64_t j = 0; j < width; j++) p.panel(p.source, entry, panel + j, k0, k1, panel_space + j * t.panel_step);
        return;
    }
    t.panel_step = plan.k * NR;
    const float* first = p.packed + (entry * plan.panels + panel) * t.panel_step;
    t.panels = first + k0 * NR;
    if (plan.panels_kept) return;
    if (panel + width < (plan.share_panels ? plan.panels : panel1))
        t.ahead = (const char*)(t.panels + width * t.panel_step);
    else if (index + 1 < plan.pieces)
        t.ahead = (const char*)(first - (panel - panel0) * t.panel_step + k1 * NR);
}

// All tiles of one height times `width` panels, over one piece of k.
void Task::strip(int64_t index, int64_t panel, int64_t width, int64_t from, int64_t to) {
    const Product& p = plan.p;
    Tile t;
    find_panels(t, index, panel, width);
    const char* ahead = t.ahead;
    int64_t bytes = t.positions * t.run * NR * int64_t(sizeof(float));
    t.ahead_step = most(AHEAD_LEAST, least(to - from, AHEAD_MOST));
    int64_t asked = t.positions * divide_up(t.run, t.ahead_step) * 64;  // bytes that a tile asks for
    int64_t rows = plan.rows.base + (from < plan.rows.tall), ld = width * NR;
    int64_t column = panel * NR, columns = least(ld, p.n - column);
    bool last = index + 1 == plan.pieces;
    int64_t start = plan.rows.start(from), all = (to - from) * rows;
    // Sums of a piece that is not the last are kept, tiles of the first height before those of the second.
    float* kept = sums;
    if (plan.pieces > 1) kept += ((start - row0) * (panel1 - panel0) + (panel - panel0) * all) * NR;
    const float* shifted[MR];
    int64_t waiting = 0;  // rows that the epilogue has not got yet
    for (int64_t i = from; i < to; i++) {
        int64_t done = (i - from) * rows, row = start + done;
        t.rows = pointers + (row - row0) + (plan.cut_run ? 0 : index * plan.positions * count);
        if (plan.cut_run && index) {
            for (int64_t r = 0; r < rows; r++) shifted[r] = t.rows[r] + index * plan.run;
            t.rows = shifted;
        }
        t.ahead = ahead && (i - from) * asked < bytes ? ahead + (i - from) * asked : nullptr;
        t.out = kept + (plan.pieces > 1 ? done : waiting) * ld;
        tile(int(rows), int(width), t);
        waiting += rows;
        if (!last || (i + 1 < to && waiting < JOINED * rows)) continue;
        p.epilogue(p.context, t.out - (waiting - rows) * ld, ld, p.row0 + entry * p.row_step + row + rows - waiting,
                   waiting, entry * p.column_step + column, columns);
        waiting = 0;
    }
}

// Sums of nothing.
void multiply_nothing(const Product& p) {
    alignas(64) float zeros[NR] = {};
    for (int64_t e = 0; e < p.batch; e++)
        for (int64_t row = 0; row < p.m; row++)
            for (int64_t c = 0; c < p.n; c += NR)
                p.epilogue(p.context, zeros, NR, p.row0 + e * p.row_step + row, 1, e * p.column_step + c,
                           least(NR, p.n - c));
}

}  // namespace

void multiply(const Product& p) {
    if (p.batch <= 0 || p.m <= 0 || p.n <= 0) return;
    if (p.positions <= 0 || p.run <= 0) return multiply_nothing(p);
    Plan plan(p);
    parallel(plan.tasks(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) Task(plan, i).run();
    });
}

}  // namespace maia
