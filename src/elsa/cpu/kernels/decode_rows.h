// Elements of cached rows as vectors, and sums over the lanes of several vectors.
#ifndef ELSA_CPU_KERNELS_DECODE_ROWS_H_
#define ELSA_CPU_KERNELS_DECODE_ROWS_H_

#include "elsa/cpu/kernels/decode.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

typedef std::uint16_t CachedHalf __attribute__((vector_size(2 * kLanes)));

// By name, because GCC 12 converts these vectors element by element.
ELSA_INLINE U32 WidenCached(CachedHalf half) {
#if defined(__AVX512F__)
  return (U32)_mm512_cvtepu16_epi32((__m256i)half);
#elif defined(__AVX2__)
  return (U32)_mm256_cvtepu16_epi32((__m128i)half);
#else
  return __builtin_convertvector(half, U32);
#endif
}

// kLanes elements of a row. kDType: 0 float32, 1 float16, 2 bfloat16.
template <int kDType>
ELSA_INLINE F32 LoadCached(const std::byte* from) {
  if constexpr (kDType == 0) {
    return Load(reinterpret_cast<const float*>(from));
  } else {
    CachedHalf half;
    std::memcpy(&half, from, sizeof(half));
    if constexpr (kDType == 2) return (F32)(WidenCached(half) << 16);
#if defined(__AVX512F__)
    return (F32)_mm512_cvtph_ps((__m256i)half);
#elif defined(__F16C__)
    return (F32)_mm256_cvtph_ps((__m128i)half);
#elif defined(__aarch64__)
    return (F32)vcvt_f32_f16((float16x4_t)half);
#else
    // In binary32's place the exponent is 112 too small: a product mends that, exactly.
    const U32 bits = WidenCached(half);
    const U32 magnitude = (bits & 0x7fffu) << 13;
    const U32 special = (U32)(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
    const F32 value = (F32)magnitude * Splat(0x1p112f);
    return (F32)((U32)value | special | ((bits & 0x8000u) << 16));
#endif
  }
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
