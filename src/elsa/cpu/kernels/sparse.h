// Kernels of sparse: the table.
#ifndef ELSA_CPU_KERNELS_SPARSE_H_
#define ELSA_CPU_KERNELS_SPARSE_H_

namespace elsa::cpu {

struct SparseKernels {
  int unused;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_SPARSE_H_
