// The threads of a step. A loop is cut into chunks that threads claim one by one, so that a slow core takes fewer of
// them; nobody spins for longer than a few microseconds, and an idle pool sleeps. Loops that follow each other find
// their data close by: the same thread has the same part of each, and helps the others only when its own is done.
#pragma once
#include <cstdint>

namespace maia {

// Threads that take part in a loop, the caller included: MAIAC_NUM_THREADS, else OMP_NUM_THREADS, else the cores that
// this process may run on. set_threads(0) goes back to that. Not to be set while a program runs: memory that was laid
// out for the old number may be in use.
int threads();
void set_threads(int n);

// body(context, begin, end) for consecutive chunks of 0..n. Every chunk but the last has `grain` elements. Returns when
// all have run. A loop inside a loop, and one of a single chunk, runs on the calling thread; so does one that starts
// while another caller's loop runs. Each thread goes through its part in ascending order: put the heavy chunks first.
void parallel_for(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context);

template <class F>
static inline void parallel(int64_t n, int64_t grain, const F& f) {
    parallel_for(n, grain, [](void* c, int64_t begin, int64_t end) { (*(const F*)c)(begin, end); }, (void*)&f);
}

// The running thread's own block of at least `bytes`, aligned to 64, kept and grown but never shrunk; a call may move
// it, and then its contents are lost. Blocks of different slots are apart: slot 0 is for the bodies of loops, slot 1 for
// what a caller hands to all of its workers.
constexpr int SCRATCH_SLOTS = 5;
void* scratch(int64_t bytes, int slot = 0);

}  // namespace maia
