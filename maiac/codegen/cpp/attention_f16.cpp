#include "attention_both.h"

namespace maia {

template void attention(const Attention&, const f16*, const f16*, const f16*, f16*);

}  // namespace maia
