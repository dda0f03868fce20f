// Kernels of exact: the table.
#ifndef ELSA_CPU_KERNELS_EXACT_H_
#define ELSA_CPU_KERNELS_EXACT_H_

namespace elsa::cpu {

struct ExactKernels {
  int unused;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_EXACT_H_
