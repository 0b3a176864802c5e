// What programs over the kernel library are given: numbers, aligned memory, a place for results.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

typedef std::vector<float> Floats;

inline Floats some(int64_t n, uint32_t seed) {
    Floats x(n);
    for (float& v : x) {
        seed = seed * 1664525u + 1013904223u;
        v = float(seed >> 8) / (1 << 24) - 0.5f;
    }
    return x;
}

struct Memory {
    void* at;
    explicit Memory(int64_t bytes) : at(aligned_alloc(64, (bytes + 127) / 64 * 64)) {}
    Memory(const Memory&) = delete;
    ~Memory() { free(at); }
};

struct Result {
    float* to;
    int64_t step;
};

inline void keep(const void* context, const float* tile, int64_t ld, int64_t row, int64_t rows, int64_t col, int64_t cols) {
    const Result& r = *(const Result*)context;
    for (int64_t i = 0; i < rows; i++) memcpy(r.to + (row + i) * r.step + col, tile + i * ld, cols * sizeof(float));
}
