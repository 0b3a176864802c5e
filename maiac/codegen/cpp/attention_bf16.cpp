#include "attention_both.h"

namespace maia {

template void attention(const Attention&, const bf16*, const bf16*, const bf16*, bf16*);

}  // namespace maia
