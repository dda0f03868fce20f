#include "elsa/cpu/kernels/select.h"

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const SelectKernels kSelect;
const SelectKernels kSelect = {0};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
