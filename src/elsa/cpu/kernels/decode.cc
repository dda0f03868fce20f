#include "elsa/cpu/kernels/decode.h"

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const DecodeKernels kDecode;
const DecodeKernels kDecode = {0};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
