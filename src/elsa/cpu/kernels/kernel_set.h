// The kernels of one instruction set, as tables of function pointers. Each kernels/<name>.h defines
// the struct of its table; each kernels/<name>.cc, compiled once per instruction set, fills one.
#ifndef ELSA_CPU_KERNELS_KERNEL_SET_H_
#define ELSA_CPU_KERNELS_KERNEL_SET_H_

namespace elsa::cpu {

struct DecodeKernels;
struct ExactKernels;
struct SelectKernels;
struct SparseKernels;

struct KernelSet {
  // The instruction sets that the compiler was told of when it compiled this table: proof of what
  // runs, since it comes from the compiler's own macros and not from a name we gave.
  const char* compiled_for;
  const DecodeKernels* decode;
  const ExactKernels* exact;
  const SelectKernels* select;
  const SparseKernels* sparse;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_KERNEL_SET_H_
