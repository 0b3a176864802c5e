#include "pool.h"

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#if defined(__linux__)
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#endif

namespace maia {
namespace {

constexpr int MOST_THREADS = 1024;
constexpr int64_t MOST_CHUNKS = int64_t(1) << 31;
constexpr int64_t SPIN_NS = 40000;  // about what it costs to put a thread to sleep and wake it again

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
}

int64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * int64_t(1000000000) + t.tv_nsec;
}

// Polls `ready` for SPIN_NS; whether it came true.
template <class F>
bool spin(const F& ready) {
    int64_t end = now_ns() + SPIN_NS;
    do {
        for (int i = 0; i < 16; i++) {
            if (ready()) return true;
            pause();
        }
    } while (now_ns() < end);
    return ready();
}

// Sleeping on a word: wait returns at once if it no longer holds `seen`, and may return early.
typedef std::atomic<uint32_t> Word;
#if defined(__linux__)
void wait(Word& word, uint32_t seen) { syscall(SYS_futex, (uint32_t*)&word, FUTEX_WAIT_PRIVATE, seen, nullptr); }
void wake(Word& word, int n) {
    word.fetch_add(1);
    syscall(SYS_futex, (uint32_t*)&word, FUTEX_WAKE_PRIVATE, n);
}
#else
pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
pthread_cond_t sleep_changed = PTHREAD_COND_INITIALIZER;
void wait(Word& word, uint32_t seen) {
    pthread_mutex_lock(&sleep_mutex);
    if (word.load() == seen) pthread_cond_wait(&sleep_changed, &sleep_mutex);
    pthread_mutex_unlock(&sleep_mutex);
}
void wake(Word& word, int) {
    pthread_mutex_lock(&sleep_mutex);
    word.fetch_add(1);
    pthread_cond_broadcast(&sleep_changed);
    pthread_mutex_unlock(&sleep_mutex);
}
#endif

thread_local bool in_loop = false;  // whether a loop further up this thread's stack runs already

// Chunks of one thread: the first in the lower half of the word, the one after the last in the upper half. The thread
// itself takes them from the front, threads that have finished their own from the back.
struct Share {
    alignas(64) std::atomic<uint64_t> chunks{0};

    void set(int64_t begin, int64_t end) { chunks.store(uint64_t(end) << 32 | uint64_t(begin)); }
    int64_t take(bool front) {  // -1 where none is left
        uint64_t held = chunks.load();
        for (;;) {
            const int64_t begin = int64_t(held & 0xffffffff), end = int64_t(held >> 32);
            if (begin >= end) return -1;
            const uint64_t rest = front ? held + 1 : held - (uint64_t(1) << 32);
            if (chunks.compare_exchange_weak(held, rest)) return front ? begin : end - 1;
        }
    }
};

// One loop at a time. Its description may be read only by a thread that has claimed a chunk of it: the loop cannot end
// before that chunk, so a thread that comes late either claims nothing or finds the description of the present loop.
// Every thread begins with a part of the loop of its own, the same one in each loop: what one loop wrote, the next one
// then finds in its core's own cache.
struct Pool {
    alignas(64) std::atomic<int64_t> unclaimed{0};  // chunks; publishes the description; below 0 after late claims
    void (*body)(void*, int64_t, int64_t) = nullptr;
    void* context = nullptr;
    int64_t n = 0, grain = 1, count = 0;
    alignas(64) std::atomic<int64_t> unfinished{0};  // chunks
    std::atomic<bool> caller_sleeps{false};
    Word finished{0};
    alignas(64) std::atomic<int> sleepers{0};
    std::atomic<int> wanted{0};  // workers with a greater number end
    Word published{0};
    alignas(64) pthread_mutex_t owner = PTHREAD_MUTEX_INITIALIZER;  // held by the caller whose loop it is
    int size = 1, started = 1;  // threads that were asked for; those that the system gave, both with the caller
    pthread_t ids[MOST_THREADS];
    Share shares[MOST_THREADS];

    void work(int self);
    int64_t take(int self);
    void publish();
    void wait_finished();
    void sleep(int worker);
    void resize(int n);
    bool ends(int worker) const { return worker >= wanted.load(); }
};

// Never destroyed: workers may still look at it while the process exits.
std::atomic<Pool*> current{nullptr};
std::atomic<int> asked{0};

// Any chunk, of those that were claimed but not taken.
int64_t Pool::take(int self) {
    int64_t chunk = shares[self].take(true);
    for (int i = 1; chunk < 0 && i < size; i++) chunk = shares[(self + i) % size].take(false);
    return chunk;
}

void Pool::work(int self) {
    int64_t mine = 0;
    while (unclaimed.load(std::memory_order_relaxed) > 0) {
        if (unclaimed.fetch_sub(1) <= 0) break;
        int64_t begin = take(self) * grain;
        body(context, begin, n - begin < grain ? n : begin + grain);
        mine++;
    }
    if (mine && unfinished.fetch_sub(mine) == mine && caller_sleeps.load()) wake(finished, 1);
}

// Wakes two sleepers only; each of them wakes two more, so that no thread makes all the calls.
void Pool::publish() {
    if (sleepers.load() > 0 && unclaimed.load() > 0) wake(published, 2);
}

void Pool::wait_finished() {
    auto done = [this] { return unfinished.load() == 0; };
    if (spin(done)) return;
    // Sleeping, not yielding: where the chunk's thread was put aside for another process, it may then have this core.
    caller_sleeps.store(true);
    for (;;) {
        uint32_t seen = finished.load();
        if (done()) break;
        wait(finished, seen);
    }
    caller_sleeps.store(false);
}

void Pool::sleep(int worker) {
    uint32_t seen = published.load();
    sleepers.fetch_add(1);
    if (unclaimed.load() <= 0 && !ends(worker)) wait(published, seen);
    sleepers.fetch_sub(1);
    publish();
}

void* run(void* argument) {
    Pool* pool = current.load();
    const int self = int((intptr_t)argument);
    in_loop = true;
    while (!pool->ends(self)) {
        pool->work(self);
        if (!spin([&] { return pool->unclaimed.load(std::memory_order_relaxed) > 0 || pool->ends(self); }))
            pool->sleep(self);
    }
    return nullptr;
}

// Where the system gives fewer threads, loops run on those: nothing depends on their number.
void Pool::resize(int to) {
    size = to;
    wanted.store(to);
    if (started > to) wake(published, MOST_THREADS);
    while (started > to) pthread_join(ids[--started], nullptr);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);  // signals are for the program's own threads
    while (started < to && !pthread_create(&ids[started], nullptr, run, (void*)(intptr_t)started)) started++;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

// A forked child has none of the threads, and the parent's pool was copied in the middle of whatever it did.
void forked() {
    current.store(new Pool);
}

Pool& get_pool() {
    if (Pool* pool = current.load(std::memory_order_acquire)) return *pool;
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, [] {
        current.store(new Pool);
        pthread_atfork(nullptr, nullptr, forked);
    });
    return *current.load();
}

int from_environment(const char* name) {
    const char* text = getenv(name);
    long n = text ? strtol(text, nullptr, 10) : 0;
    return n < 1 ? 0 : n < MOST_THREADS ? int(n) : MOST_THREADS;
}

#if defined(__linux__)
// The first of the hardware threads that share this one's core; one of them is enough to keep its vector units busy.
int first_sibling(int cpu) {
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE* file = fopen(path, "r");
    if (!file) return cpu;
    int first = cpu;
    if (fscanf(file, "%d", &first) != 1) first = cpu;
    fclose(file);
    return first;
}

int count_cores() {
    constexpr int MOST = 8192;
    cpu_set_t allowed[MOST / CPU_SETSIZE + 1], cores[MOST / CPU_SETSIZE + 1];
    CPU_ZERO_S(sizeof cores, cores);
    if (sched_getaffinity(0, sizeof allowed, allowed)) return 0;
    for (int cpu = 0; cpu < MOST; cpu++)
        if (CPU_ISSET_S(cpu, sizeof allowed, allowed)) CPU_SET_S(first_sibling(cpu), sizeof cores, cores);
    return CPU_COUNT_S(sizeof cores, cores);
}
#else
int count_cores() { return int(sysconf(_SC_NPROCESSORS_ONLN)); }
#endif

int default_threads() {
    int n = from_environment("MAIAC_NUM_THREADS");
    if (!n) n = from_environment("OMP_NUM_THREADS");
    if (!n) n = count_cores();
    return n < 1 ? 1 : n < MOST_THREADS ? n : MOST_THREADS;
}

struct Block {
    void* memory = nullptr;
    int64_t bytes = 0;
    ~Block() {
        free(memory);
        memory = nullptr;
        bytes = 0;
    }
};
thread_local Block blocks[SCRATCH_SLOTS];

}  // namespace

int threads() {
    int n = asked.load(std::memory_order_relaxed);
    if (n) return n;
    n = default_threads();
    asked.store(n);
    return n;
}

void set_threads(int n) { asked.store(n < 1 ? 0 : n < MOST_THREADS ? n : MOST_THREADS); }

static void run_alone(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
    bool outer = in_loop;
    in_loop = true;
    for (int64_t i = 0; i < n; i += grain) body(context, i, n - i < grain ? n : i + grain);
    in_loop = outer;
}

void parallel_for(int64_t n, int64_t grain, void (*body)(void*, int64_t, int64_t), void* context) {
    if (n <= 0) return;
    if (grain < 1) grain = 1;
    if (n / grain > MOST_CHUNKS) grain = n / MOST_CHUNKS + 1;
    if (n <= grain) return run_alone(n, grain, body, context);
    int wanted = threads();
    Pool& pool = get_pool();
    if (in_loop || wanted == 1 || pthread_mutex_trylock(&pool.owner)) return run_alone(n, grain, body, context);
    if (pool.size != wanted) pool.resize(wanted);
    pool.body = body;
    pool.context = context;
    pool.n = n;
    pool.grain = grain;
    pool.count = (n - 1) / grain + 1;
    for (int i = 0; i < wanted; i++) pool.shares[i].set(pool.count * i / wanted, pool.count * (i + 1) / wanted);
    pool.unfinished.store(pool.count);
    pool.unclaimed.store(pool.count);
    pool.publish();
    in_loop = true;
    pool.work(0);
    pool.wait_finished();
    in_loop = false;
    pthread_mutex_unlock(&pool.owner);
}

void* scratch(int64_t bytes, int slot) {
    Block& block = blocks[slot];
    if (bytes <= block.bytes) return block.memory;
    free(block.memory);
    block.bytes = (bytes + bytes / 4 + 4095) / 4096 * 4096;
    if (posix_memalign(&block.memory, 64, block.bytes)) abort();
    return block.memory;
}

}  // namespace maia
