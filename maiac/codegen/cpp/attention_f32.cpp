#include "attention_both.h"

namespace maia {

template void attention(const Attention&, const float*, const float*, const float*, float*);

}  // namespace maia
