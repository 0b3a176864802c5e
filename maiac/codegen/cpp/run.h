// Running a program.
#pragma once
#include <cstdint>

namespace maia {

// Tell the program that is running on this thread that an index lies outside 0..size; it stops after this kernel.
void fault(int64_t index, int64_t size);

}  // namespace maia
