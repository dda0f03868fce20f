// ELSA's attention of some heads of a call: softmax over the keys that a plan selects, with the
// mean row if the plan has it. Source: Sec. III-D, III-E; docs/reference/mean-row.md.
#ifndef ELSA_CPU_SPARSE_ATTENTION_H_
#define ELSA_CPU_SPARSE_ATTENTION_H_

#include <cstdint>
#include <span>

#include "elsa/cpu/attention.h"
#include "elsa/cpu/exact_attention.h"

namespace elsa::cpu {

// Writes the rows of `heads` and adds what was counted to reports[head]. With Select::kAuto a head
// that gains nothing is left alone and returned, its path already counted in its report: the caller
// computes it exactly.
std::vector<HeadItem> SparseAttention(const Call& call, const Plan& plan, std::int64_t layer,
                                      std::span<const HeadItem> heads, Precision precision,
                                      Select select, std::span<HeadReport> reports);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SPARSE_ATTENTION_H_
