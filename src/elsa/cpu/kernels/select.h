// Kernels of select: the table.
#ifndef ELSA_CPU_KERNELS_SELECT_H_
#define ELSA_CPU_KERNELS_SELECT_H_

namespace elsa::cpu {

struct SelectKernels {
  int unused;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_SELECT_H_
