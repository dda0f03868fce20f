#include "elsa/cpu/kernels/exact.h"

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const ExactKernels kExact;
const ExactKernels kExact = {0};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
