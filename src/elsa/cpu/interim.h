// Interim: attention through the reference engine, so that everything above can be built and tested
// before the kernels stand. Goes when they do.
#ifndef ELSA_CPU_INTERIM_H_
#define ELSA_CPU_INTERIM_H_

#include <span>

#include "elsa/cpu/attention.h"
#include "elsa/cpu/exact_attention.h"

namespace elsa::cpu {

void InterimAttend(const Call& call, const Plan* plan, std::int64_t layer,
                   std::span<const HeadItem> heads, std::span<HeadReport> reports);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_INTERIM_H_
