// The vectors that kernels are written in: as wide as the target's registers, with the operators of
// the compiler's vector types (+ - * and comparisons work element by element), and the few
// operations that those lack. Only for kernels/*.cc, which are compiled once per target.
//
// Fma may round once or twice, whatever the target has: use it only where bits need not agree
// between targets. The compiler never fuses a * b + c by itself (-ffp-contract=off).
#ifndef ELSA_CPU_KERNELS_SIMD_H_
#define ELSA_CPU_KERNELS_SIMD_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#define ELSA_INLINE inline __attribute__((always_inline))

namespace elsa::cpu::ELSA_CPU_TARGET {

#if defined(__AVX512F__)
inline constexpr int kLanes = 16;
inline constexpr int kRegisters = 32;
#elif defined(__AVX2__)
inline constexpr int kLanes = 8;
inline constexpr int kRegisters = 16;
#elif defined(__ARM_NEON)
inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 32;
#else
inline constexpr int kLanes = 4;
inline constexpr int kRegisters = 16;
#endif

typedef float F32 __attribute__((vector_size(4 * kLanes)));
typedef std::int32_t I32 __attribute__((vector_size(4 * kLanes)));
typedef std::uint32_t U32 __attribute__((vector_size(4 * kLanes)));

ELSA_INLINE F32 Splat(float x) { return x - F32{}; }  // x - 0 keeps -0 and NaN
ELSA_INLINE I32 SplatInt(std::int32_t x) { return x - I32{}; }

ELSA_INLINE F32 Load(const float* from) {
  F32 x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}
ELSA_INLINE void Store(float* to, F32 x) { std::memcpy(to, &x, sizeof(x)); }

// The first `count` elements, zeros after them; nothing beyond is touched.
ELSA_INLINE F32 LoadPart(const float* from, int count) {
#if defined(__AVX512F__)
  return (F32)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), from);
#else
  F32 x{};
  for (int i = 0; i < count; ++i) x[i] = from[i];
  return x;
#endif
}
ELSA_INLINE void StorePart(float* to, F32 x, int count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>((1u << count) - 1), (__m512)x);
#else
  for (int i = 0; i < count; ++i) to[i] = x[i];
#endif
}

// a * b + c
ELSA_INLINE F32 Fma(F32 a, F32 b, F32 c) {
#if defined(__AVX512F__)
  return (F32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
  return (F32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__ARM_NEON)
  return (F32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

// Of a NaN and a number: the second argument, on x86; do not rely on either.
ELSA_INLINE F32 Max(F32 a, F32 b) {
#if defined(__AVX512F__)
  return (F32)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
  return (F32)_mm256_max_ps((__m256)a, (__m256)b);
#elif defined(__ARM_NEON)
  return (F32)vmaxq_f32((float32x4_t)a, (float32x4_t)b);
#elif defined(__SSE2__)
  return (F32)_mm_max_ps((__m128)a, (__m128)b);
#else
  return a > b ? a : b;
#endif
}

// The sum of the elements: halves are added until one is left, on every target in that order.
ELSA_INLINE float ReduceAdd(F32 x) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps((__m512)x);
#elif defined(__AVX2__)
  const __m256 y = (__m256)x;
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x[i] += x[i + half];
  }
  return x[0];
#endif
}

ELSA_INLINE float ReduceMax(F32 x) {
#if defined(__AVX512F__)
  return _mm512_reduce_max_ps((__m512)x);
#elif defined(__AVX2__)
  const __m256 y = (__m256)x;
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(y), _mm256_extractf128_ps(y, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
#elif defined(__ARM_NEON)
  return vmaxvq_f32((float32x4_t)x);
#else
  float most = x[0];
  for (int i = 1; i < kLanes; ++i) most = x[i] > most ? x[i] : most;
  return most;
#endif
}

// The nearest whole numbers, as integers and as floats, for |x| < 2^22. NaN gives an integer whose
// low 9 bits are 0.
ELSA_INLINE I32 NearestInt(F32 x, F32* nearest) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  *nearest = (F32)_mm256_round_ps((__m256)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  return (I32)_mm256_cvtps_epi32((__m256)*nearest);
#elif defined(__ARM_NEON)
  *nearest = (F32)vrndnq_f32((float32x4_t)x);
  return (I32)vcvtq_s32_f32((float32x4_t)*nearest);
#elif defined(__SSE2__) && !defined(__AVX512F__)
  const __m128i whole = _mm_cvtps_epi32((__m128)x);
  *nearest = (F32)_mm_cvtepi32_ps(whole);
  return (I32)whole;
#else
  const F32 magic = Splat(12582912.0f);  // 1.5 * 2^23: adding it rounds to a whole number
  const F32 shifted = x + magic;
  *nearest = shifted - magic;
  return (I32)((U32)shifted - (U32)SplatInt(0x4b400000)) & (x == x);
#endif
}

// 2^x for x <= 0, to 2 units in the last place or so; 0 far below (x <= -127, -infinity too; what
// is left from -126 on is below 2^-126); NaN stays NaN; any bits for x > 0. Our choice: degree 5
// around 0, |error| < 2.5e-7 relative. Several at once hide the latency of the chain, which is
// longer than schedulers look ahead.
template <int kCount>
ELSA_INLINE void Exp2(F32 (&x)[kCount]) {
  F32 f[kCount];
#if defined(__AVX512F__)
  F32 whole[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) whole[i] = (F32)_mm512_roundscale_ps((__m512)x[i], 8);
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    // -infinity minus itself is NaN: the fraction of a huge number is 0.
    const __mmask16 near = _mm512_cmp_ps_mask((__m512)x[i], _mm512_set1_ps(-200.0f), _CMP_NLT_UQ);
    f[i] = (F32)_mm512_maskz_sub_ps(near, (__m512)x[i], (__m512)whole[i]);
  }
#else
  I32 n[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    // At -127 the fraction is 0, the polynomial 1.0, and its bits less 127 << 23 are those of 0.
    // NaN stays: the second argument.
    const F32 t = Max(Splat(-127.0f), x[i]);
    F32 whole;
    n[i] = NearestInt(t, &whole);
    f[i] = t - whole;
  }
#endif
  F32 p[kCount];
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
    p[i] = Fma(Splat(1.3333558146e-3f), f[i], Splat(9.6181291076e-3f));
  }
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) p[i] = Fma(p[i], f[i], Splat(5.5504108665e-2f));
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) p[i] = Fma(p[i], f[i], Splat(2.4022650696e-1f));
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) p[i] = Fma(p[i], f[i], Splat(6.9314718056e-1f));
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) p[i] = Fma(p[i], f[i], Splat(1.0f));
#pragma GCC unroll 8
  for (int i = 0; i < kCount; ++i) {
#if defined(__AVX512F__)
    x[i] = (F32)_mm512_scalef_ps((__m512)p[i], (__m512)whole[i]);
#else
    // Unsigned, so that it may wrap: in lanes behind the last key x is anything, above 0 too.
    x[i] = (F32)((U32)p[i] + ((U32)n[i] << 23));
#endif
  }
}
ELSA_INLINE F32 Exp2(F32 x) {
  F32 one[1] = {x};
  Exp2(one);
  return one[0];
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SIMD_H_
