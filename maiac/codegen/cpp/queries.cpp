// What code outside of C++ asks of the library.
#include <cstring>

#include "conv.h"

namespace {

maia::Conv conv_of(const int64_t* fields) {
    maia::Conv c;
    static_assert(sizeof c == 19 * sizeof(int64_t), "a Conv is its 19 numbers");
    memcpy(&c, fields, sizeof c);
    return c;
}

}  // namespace

extern "C" {

int64_t maia_conv_choose(const int64_t* fields) { return (int64_t)maia::conv_choose(conv_of(fields)); }
int64_t maia_conv_workspace(int64_t kind, const int64_t* fields) {
    return maia::conv_workspace((maia::ConvKind)kind, conv_of(fields));
}
}
