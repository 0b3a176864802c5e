#include "attention_both.h"

namespace maia {

template void attention(const Attention&, const float*, const bf16*, const bf16*, float*);

}  // namespace maia
