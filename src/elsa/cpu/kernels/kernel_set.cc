// The tables of one instruction set, collected. Compiled once per target (cmake/CpuKernels.cmake).
#include "elsa/cpu/kernels/kernel_set.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const DecodeKernels kDecode;
extern const ExactKernels kExact;
extern const SelectKernels kSelect;
extern const SparseKernels kSparse;

extern const KernelSet kKernels;
const KernelSet kKernels = {
    ""
#if defined(__AVX512F__)
    "avx512f "
#endif
#if defined(__AVX512VPOPCNTDQ__)
    "avx512vpopcntdq "
#endif
#if defined(__AVX512VNNI__)
    "avx512vnni "
#endif
#if defined(__AVX512BF16__)
    "avx512bf16 "
#endif
#if defined(__AVX512FP16__)
    "avx512fp16 "
#endif
#if defined(__AVX2__)
    "avx2 "
#endif
#if defined(__FMA__)
    "fma "
#endif
#if defined(__ARM_NEON)
    "neon "
#endif
#if defined(__SSE2__)
    "sse2 "
#endif
    ,
    &kDecode, &kExact, &kSelect, &kSparse};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
