#include "elsa/cpu/kernels/sparse.h"

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const SparseKernels kSparse;
const SparseKernels kSparse = {0};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
