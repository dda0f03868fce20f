// Elements of cached rows as vectors, and sums over the lanes of several vectors.
#ifndef ELSA_CPU_KERNELS_DECODE_ROWS_H_
#define ELSA_CPU_KERNELS_DECODE_ROWS_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/decode.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// kLanes elements of a row. kDType: 0 float32, 1 float16, 2 bfloat16.
template <int kDType>
ELSA_INLINE F32 LoadCached(const std::byte* from) {
  if constexpr (kDType == 0) return ElementF32::Load(from);
  if constexpr (kDType == 1) return ElementF16::Load(from);
  return ElementBf16::Load(from);
}

// Lane i: a[i] + a[i ^ kStep] where i & kStep is 0, else b[i] + b[i ^ kStep].
template <int kStep>
ELSA_INLINE F32 Fold(F32 a, F32 b) {
#if defined(__AVX512F__)
#define ELSA_FOLD(i) (((i)&kStep) != 0 ? (i) + 16 : (i))
#define ELSA_SWAP(i) (((i)&kStep) != 0 ? ((i) ^ kStep) + 16 : ((i) ^ kStep))
#define ELSA_EACH(f)                                                                             \
  f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7), f(8), f(9), f(10), f(11), f(12), f(13), f(14), \
      f(15)
#elif defined(__AVX2__)
#define ELSA_FOLD(i) (((i)&kStep) != 0 ? (i) + 8 : (i))
#define ELSA_SWAP(i) (((i)&kStep) != 0 ? ((i) ^ kStep) + 8 : ((i) ^ kStep))
#define ELSA_EACH(f) f(0), f(1), f(2), f(3), f(4), f(5), f(6), f(7)
#else
#define ELSA_FOLD(i) (((i)&kStep) != 0 ? (i) + 4 : (i))
#define ELSA_SWAP(i) (((i)&kStep) != 0 ? ((i) ^ kStep) + 4 : ((i) ^ kStep))
#define ELSA_EACH(f) f(0), f(1), f(2), f(3)
#endif
  return __builtin_shufflevector(a, b, ELSA_EACH(ELSA_FOLD)) +
         __builtin_shufflevector(a, b, ELSA_EACH(ELSA_SWAP));
#undef ELSA_FOLD
#undef ELSA_SWAP
#undef ELSA_EACH
}

// Lane i: the sum over all lanes of vector i % kCount. kCount is a power of two up to kLanes.
template <int kCount, int kStep = kLanes / 2>
ELSA_INLINE F32 SumsOf(const F32* x) {
  if constexpr (kStep == 0) {
    return x[0];
  } else if constexpr (kStep < kCount) {
    // Vectors whose number has the bit kStep answer in the lanes that have it.
    return Fold<kStep>(SumsOf<kStep, kStep / 2>(x), SumsOf<kStep, kStep / 2>(x + kStep));
  } else {
    const F32 sums = SumsOf<kCount, kStep / 2>(x);
    return Fold<kStep>(sums, sums);
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_DECODE_ROWS_H_
