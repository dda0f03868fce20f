// Kernels of decode: the table.
#ifndef ELSA_CPU_KERNELS_DECODE_H_
#define ELSA_CPU_KERNELS_DECODE_H_

namespace elsa::cpu {

struct DecodeKernels {
  int unused;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_DECODE_H_
