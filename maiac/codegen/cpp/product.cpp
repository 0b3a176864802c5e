#include "product.h"

#include "pool.h"
#include "whole.h"

namespace maia {
namespace {

constexpr int64_t CACHE = 256 << 10;     // bytes of rows to hold in a core's own cache
constexpr int64_t PIECE = 1024;          // long sums are made in pieces of about so many k
constexpr int64_t MADE = 4 << 20;        // floats of panels that are made before a product, where they are used again
constexpr int64_t LEAST_WORK = 1 << 18;  // multiply-adds that are worth a task of their own
constexpr int64_t TASKS = 12;            // for each thread, so that none waits long for the last one
constexpr int64_t AHEAD_LEAST = 2, AHEAD_MOST = 6;  // k from one request for the next panel to the next
constexpr int64_t JOINED = 4;            // tiles that the epilogue gets in one call
constexpr int64_t LONG = 512;            // sums after which a call for every tile costs little

int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

// How the work is cut: into tasks of `block` tiles of rows and `group` panels, each of them summed in `pieces` of k,
// which are of `positions` whole positions or, where there is one position only, of `run` k of it.
struct Plan {
    const Product& p;
    Rows rows;
    int64_t panels, k;
    int64_t last;  // vectors of the last panel that hold columns
    bool cut_run;
    int64_t positions, run, pieces;
    int64_t block, group, blocks, groups;
    bool panels_outside;  // whether tasks go through all rows before the next panels
    int64_t sections;     // of the rows, each of them for one thread; they go through the same panels together
    bool panels_kept;     // whether all panels stay in a core's own cache
    bool across;          // whether a task makes one row of tiles after the other, not one panel after the other
    int64_t joined;       // tiles that the epilogue gets in one call

    explicit Plan(const Product& product);
    int64_t tasks() const { return p.batch * blocks * groups; }
    // Of some panels. Where there are several, the last one's empty vectors are summed, too.
    int64_t vectors(int64_t panel, int64_t width) const {
        return width == 1 && panel + 1 == panels ? last : width * VECTORS;
    }
    int64_t section(int64_t i) const { return i * blocks / sections; }  // its first block
    void find(int64_t index, int64_t& b, int64_t& g) const;
    void cut();
};

Plan::Plan(const Product& product) : p(product), rows(p.m), panels(divide_up(p.n, NR)), k(p.positions * p.run) {
    last = divide_up(p.n - (panels - 1) * NR, W);
    cut_run = p.positions == 1;
    int64_t wanted = least(divide_up(k, p.piece ? p.piece : PIECE), cut_run ? k : p.positions);
    positions = cut_run ? 1 : divide_up(p.positions, wanted);
    run = cut_run ? divide_up(p.run, wanted) : p.run;
    pieces = cut_run ? divide_up(p.run, run) : divide_up(p.positions, positions);
    panels_kept = p.batch * panels * k * NR * int64_t(sizeof(float)) <= CACHE;
    across = panels_kept && !p.panel;
    joined = across || k < LONG ? JOINED : 1;
    cut();
    panels_outside = p.n > p.m;
    sections = panels_outside && blocks >= threads() ? threads() : 1;
}

// The block and the group of a task.
void Plan::find(int64_t index, int64_t& b, int64_t& g) const {
    b = index / groups;
    g = index % groups;
    if (!panels_outside) return;
    int64_t i = b * sections / blocks;
    if (section(i + 1) <= b) i++;
    int64_t first = section(i), count = section(i + 1) - first, rest = index - first * groups;
    b = first + rest % count;
    g = rest / count;
}

void Plan::cut() {
    int64_t widest = tile_panels(int(rows.base + (rows.tall > 0)));
    // Panels that are made on the way cost less the more rows share them.
    block = (p.panel ? 2 * CACHE : CACHE) / (MR * positions * run * int64_t(sizeof(float)));
    block = block < 4 ? 4 : least(block, 32);
    group = across ? panels : 4 * widest;
    double work = double(p.batch) * double(p.m) * double(p.n) * double(k);
    int64_t wanted = threads() == 1 || p.alone ? 1 : least(int64_t(work / LEAST_WORK) + 1, threads() * TASKS);
    for (;;) {
        blocks = divide_up(rows.tiles, block);
        groups = divide_up(panels, group);
        if (tasks() >= wanted) break;
        if (group > widest && (!across || block <= 2))
            group = group / 2 < widest ? widest : group / 2 / widest * widest;
        else if (block > 2)
            block /= 2;
        else
            break;
    }
    block = divide_up(rows.tiles, blocks);
    blocks = divide_up(rows.tiles, block);
}

// The tiles that are finished together: a rectangle of sums.
struct Patch {
    float* out;
    int64_t step, row, rows, panel, panels;
};

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
    void pass(int64_t index, int64_t from, int64_t to, int64_t width);
    void down(int64_t index, int64_t panel, int64_t width, int64_t from, int64_t to);
    void across(int64_t index, int64_t tile, int64_t width);
    Patch place(int64_t from, int64_t to, int64_t panel, int64_t panels) const;
    Tile start(int64_t index, int64_t panel, int64_t width);
    void make(Tile& t, int64_t index, int64_t row, int64_t rows, int64_t panel, int64_t width) const;
    void finish(const Patch& patch, int64_t index) const;
};

Task::Task(const Plan& plan, int64_t index) : plan(plan) {
    int64_t per_entry = plan.blocks * plan.groups, rest = index % per_entry;
    entry = index / per_entry;
    int64_t b, g;
    plan.find(rest, b, g);
    tile0 = b * plan.block;
    tile1 = least(tile0 + plan.block, plan.rows.tiles);
    panel0 = g * plan.group;
    panel1 = least(panel0 + plan.group, plan.panels);
    row0 = plan.rows.start(tile0);
    count = plan.rows.start(tile1) - row0;
    constexpr int64_t FLOAT = sizeof(float);
    int64_t pointer_bytes = align(plan.p.positions * count * int64_t(sizeof(float*)));
    int64_t kept = plan.p.out ? 0 : plan.pieces > 1 ? count * (panel1 - panel0) : MR * plan.joined;
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

// Where tiles of the two heights take different numbers of panels at once, they go one height after the other.
void Task::piece(int64_t index) {
    int64_t tall = tile_panels(int(plan.rows.base + 1)), low = tile_panels(int(plan.rows.base));
    int64_t middle = plan.rows.tall < tile0 ? tile0 : least(plan.rows.tall, tile1);
    if (middle == tile0) return pass(index, tile0, tile1, low);
    if (middle == tile1 || tall == low) return pass(index, tile0, tile1, tall);
    pass(index, tile0, middle, tall);
    pass(index, middle, tile1, low);
}

void Task::pass(int64_t index, int64_t from, int64_t to, int64_t width) {
    if (plan.across)
        for (int64_t i = from; i < to; i++) across(index, i, width);
    else
        for (int64_t j = panel0; j < panel1; j += width) down(index, j, least(width, panel1 - j), from, to);
}

// Some tiles times `width` panels, over one piece of k.
void Task::down(int64_t index, int64_t panel, int64_t width, int64_t from, int64_t to) {
    Tile t = start(index, panel, width);
    const char* ahead = t.ahead;
    int64_t bytes = t.positions * t.run * NR * int64_t(sizeof(float));
    t.ahead_step = most(AHEAD_LEAST, least(to - from, AHEAD_MOST));
    int64_t asked = t.positions * divide_up(t.run, t.ahead_step) * 64;  // bytes that a tile asks for
    for (int64_t i = from; i < to; i += plan.joined) {
        const Patch patch = place(i, least(i + plan.joined, to), panel, width);
        t.out_step = patch.step;
        for (int64_t r = 0, j = i; r < patch.rows; j++) {
            const int64_t rows = plan.rows.height(j);
            t.ahead = ahead && (j - from) * asked < bytes ? ahead + (j - from) * asked : nullptr;
            t.out = patch.out + r * patch.step;
            make(t, index, patch.row + r, rows, panel, width);
            r += rows;
        }
        finish(patch, index);
    }
}

// A row of tiles over one piece of k, for panels that are in the cache: results are written, and what is combined with
// them is read, as they lie in memory.
void Task::across(int64_t index, int64_t tile, int64_t width) {
    const int64_t rows = plan.rows.height(tile);
    Tile t = start(index, panel0, width);
    const int64_t next = width * t.panel_step;
    for (int64_t panel = panel0; panel < panel1; panel += plan.joined * width) {
        const Patch patch = place(tile, tile + 1, panel, least(plan.joined * width, panel1 - panel));
        t.out = patch.out;
        t.out_step = patch.step;
        for (int64_t i = 0; i < patch.panels; i += width, t.out += width * NR, t.panels += next)
            make(t, index, patch.row, rows, panel + i, least(width, patch.panels - i));
        finish(patch, index);
    }
}

// Sums go where the product wants them, or where the next piece finds them, or to where the epilogue takes them from.
Patch Task::place(int64_t from, int64_t to, int64_t panel, int64_t panels) const {
    const Product& p = plan.p;
    int64_t row = plan.rows.start(from);
    Patch patch = {sums, panels * NR, row, plan.rows.start(to) - row, panel, panels};
    if (p.out) {
        patch.step = p.out_step;
        patch.out = p.out + entry * p.out_entry_step + row * p.out_step + panel * NR;
    } else if (plan.pieces > 1) {
        patch.step = (panel1 - panel0) * NR;
        patch.out += (row - row0) * patch.step + (panel - panel0) * NR;
    }
    return patch;
}

// Sets what the tiles of some panels have in common.
Tile Task::start(int64_t index, int64_t panel, int64_t width) {
    const Product& p = plan.p;
    int64_t k0 = index * plan.positions * plan.run, k1 = least(k0 + plan.positions * plan.run, plan.k);
    Tile t;  // not zeroed: one is made for every panel, and clearing it takes as long as some sums
    t.row_step = count;
    t.ahead = nullptr;
    t.ahead_step = 0;
    t.run = plan.cut_run ? k1 - k0 : p.run;
    t.positions = plan.cut_run ? 1 : (k1 - k0) / p.run;
    t.add = index > 0;
    if (p.panel) {
        t.panel_step = (k1 - k0) * NR;
        t.panels = panel_space;
        for (int64_t j = 0; j < width; j++) p.panel(p.source, entry, panel + j, k0, k1, panel_space + j * t.panel_step);
        return t;
    }
    t.panel_step = plan.k * NR;
    const float* first = p.packed + (entry * plan.panels + panel) * t.panel_step;
    t.panels = first + k0 * NR;
    if (!LOOKS_AHEAD || plan.panels_kept) return t;
    if (panel + width < (plan.sections > 1 ? plan.panels : panel1))
        t.ahead = (const char*)(t.panels + width * t.panel_step);
    else if (index + 1 < plan.pieces)
        t.ahead = (const char*)(first - (panel - panel0) * t.panel_step + k1 * NR);
    return t;
}

inline void Task::make(Tile& t, int64_t index, int64_t row, int64_t rows, int64_t panel, int64_t width) const {
    const float* shifted[MR];
    t.rows = pointers + (row - row0) + (plan.cut_run ? 0 : index * plan.positions * count);
    if (plan.cut_run && index) {
        for (int64_t r = 0; r < rows; r++) shifted[r] = t.rows[r] + index * plan.run;
        t.rows = shifted;
    }
    tile(int(rows), int(plan.vectors(panel, width)), t);
}

void Task::finish(const Patch& patch, int64_t index) const {
    const Product& p = plan.p;
    if (p.out || index + 1 < plan.pieces) return;
    int64_t column = patch.panel * NR, columns = least(patch.panels * NR, p.n - column);
    p.epilogue(p.context, patch.out, patch.step, p.row0 + entry * p.row_step + patch.row, patch.rows,
               entry * p.column_step + column, columns);
}

// Sums of nothing.
void multiply_nothing(const Product& p) {
    alignas(64) float zeros[NR] = {};
    for (int64_t e = 0; e < p.batch; e++)
        for (int64_t row = 0; row < p.m; row++) {
            if (p.out) {
                memset(p.out + e * p.out_entry_step + row * p.out_step, 0, size_t(p.n) * sizeof(float));
                continue;
            }
            for (int64_t c = 0; c < p.n; c += NR)
                p.epilogue(p.context, zeros, NR, p.row0 + e * p.row_step + row, 1, e * p.column_step + c,
                           least(NR, p.n - c));
        }
}

// All panels, k by k, panel by panel, entry by entry.
const float* make_panels(const Plan& plan) {
    const Product& p = plan.p;
    const int64_t floats = plan.k * NR;
    float* space = (float*)scratch(p.batch * plan.panels * floats * int64_t(sizeof(float)), PANELS_SLOT);
    parallel(p.batch * plan.panels, divide_up(1 << 14, floats), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++)
            p.panel(p.source, i / plan.panels, i % plan.panels, 0, plan.k, space + i * floats);
    });
    return space;
}

}  // namespace

void multiply(const Product& p) {
    if (p.batch <= 0 || p.m <= 0 || p.n <= 0) return;
    if (p.positions <= 0 || p.run <= 0) return multiply_nothing(p);
    Plan plan(p);
    if (p.panel && plan.blocks > 1 && p.batch * plan.panels * plan.k * NR <= MADE) {  // each block would make them anew
        Product made = p;
        made.packed = make_panels(plan);
        made.panel = nullptr;
        return multiply(made);
    }
    parallel(plan.tasks(), 1, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) Task(plan, i).run();
    });
}

}  // namespace maia
