// Interim: the reference, until the kernels stand.
#include "elsa/cpu/sparse_attention.h"

#include "elsa/cpu/interim.h"

namespace elsa::cpu {

std::vector<HeadItem> SparseAttention(const Call& call, const Plan& plan, std::int64_t layer,
                                      std::span<const HeadItem> heads, Precision, Select,
                                      std::span<HeadReport> reports) {
  InterimAttend(call, &plan, layer, heads, reports);
  return {};
}

}  // namespace elsa::cpu
