// The whole step: one call runs a table of kernels.
#include <chrono>
#include <cstdint>

#include "run.h"

namespace {

double now() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Fault {
    bool happened;
    int64_t index, size;
};
thread_local Fault last;  // of the program that runs on this thread

}  // namespace

namespace maia {

void fault(int64_t index, int64_t size) { last = {true, index, size}; }

}  // namespace maia

extern "C" {

typedef void (*maia_kernel)(void* const* pointers, const int64_t* sizes);

// A kernel's operands: pointers first_pointer[i] .. first_pointer[i + 1], each a byte offset from one of the bases, and
// sizes from first_size[i] on.
struct maia_program {
    int64_t kernels;
    const maia_kernel* functions;
    const int64_t* first_pointer;
    const int64_t* base;
    const int64_t* offset;
    const int64_t* first_size;
    const int64_t* sizes;
};

// times: NULL, or kernels + 1 seconds of a steady clock, the first before the first kernel. Gives 0, or the number (from
// 1) of the kernel that met a fault; fault[0] is then the index and fault[1] the size that it lies outside of.
int64_t maia_run(const maia_program* program, void* const* bases, double* times, int64_t* fault) {
    void* pointers[64];
    last.happened = false;
    if (times) times[0] = now();
    for (int64_t i = 0; i < program->kernels; i++) {
        const int64_t first = program->first_pointer[i], count = program->first_pointer[i + 1] - first;
        for (int64_t j = 0; j < count; j++)  // as numbers: what is empty may lie nowhere
            pointers[j] = (void*)((uintptr_t)bases[program->base[first + j]] + program->offset[first + j]);
        program->functions[i](pointers, program->sizes + program->first_size[i]);
        if (times) times[i + 1] = now();
        if (last.happened) {
            fault[0] = last.index;
            fault[1] = last.size;
            return i + 1;
        }
    }
    return 0;
}
}
