// Softmax over the candidates of a super-block, continued from super-block to super-block.
#ifndef ELSA_CPU_KERNELS_SPARSE_SOFTMAX_H_
#define ELSA_CPU_KERNELS_SPARSE_SOFTMAX_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// Ones in the lanes below `count`.
ELSA_INLINE I32 LanesBelow(int count) {
  I32 lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < SplatInt(count);
}

ELSA_INLINE F32 Choose(I32 mask, F32 yes, F32 no) {
  return (F32)(((I32)yes & mask) | ((I32)no & ~mask));
}

// ReduceMax and ReduceAdd by shuffles. What a NaN gives is not defined for the first.
ELSA_INLINE float QuickMax(F32 x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  __m128 most = _mm_max_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
#else
  return ReduceMax(x);
#endif
}
ELSA_INLINE float QuickAdd(F32 x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  __m128 sum = _mm_add_ps(_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1));
  sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
  return _mm_cvtss_f32(_mm_add_ss(sum, _mm_movehdup_ps(sum)));
#else
  return ReduceAdd(x);
#endif
}

// A NaN score may be passed over here; the sum of weights has it.
ELSA_INLINE float Largest(const float* scores, int count, float largest) {
  F32 most = Splat(largest);
  int j = 0;
  F32 second = most;  // two chains
  for (; j + 2 * kLanes <= count; j += 2 * kLanes) {
    most = Max(most, Load(scores + j));
    second = Max(second, Load(scores + j + kLanes));
  }
  most = Max(most, second);
  for (; j + kLanes <= count; j += kLanes) most = Max(most, Load(scores + j));
  if (j < count) most = Max(most, Choose(LanesBelow(count - j), Load(scores + j), most));
  return QuickMax(most);
}

// Scores become weights; those behind the last become 0.
ELSA_INLINE float Weights(float* scores, int count, float largest) {
  constexpr int kAtOnce = 4;
  const F32 shift = Splat(largest);
  F32 sum{};
  int j = 0;
  for (; j + kAtOnce * kLanes <= count; j += kAtOnce * kLanes) {
    F32 weight[kAtOnce];
    for (int i = 0; i < kAtOnce; ++i) weight[i] = Load(scores + j + i * kLanes) - shift;
    Exp2(weight);
    for (int i = 0; i < kAtOnce; ++i) {
      Store(scores + j + i * kLanes, weight[i]);
      sum += weight[i];
    }
  }
  for (; j < count; j += kLanes) {
    F32 weight = Exp2(Load(scores + j) - shift);
    if (j + kLanes > count) weight = Choose(LanesBelow(count - j), weight, F32{});
    Store(scores + j, weight);
    sum += weight;
  }
  return QuickAdd(sum);
}

template <typename ToWeights>
ELSA_INLINE void SoftmaxSweep(const SparseTile t, const ToWeights& weights) {
  const std::uint16_t* count = t.start + t.words;
  for (int i = 0; i < t.queries; ++i, count += t.words + 1) {
    if (*count == 0) continue;
    float* scores = t.score + t.offset[i];
    const float before = t.largest[i];
    const float largest = Largest(scores, *count, before);
    const float sum = weights(scores, *count, largest);
    t.weights[i] = sum;
    t.largest[i] = largest;
    if (t.sum[i] == 0) {  // nothing to shrink
      t.sum[i] = sum;
      continue;
    }
    const float shrink = Exp2(Splat(before - largest))[0];
    t.sum[i] = t.sum[i] * shrink + sum;
    if (shrink == 1) continue;
    float* out = t.out + static_cast<std::ptrdiff_t>(i) * t.d_v;
    for (int c = 0; c < t.d_v; c += kLanes) Store(out + c, Load(out + c) * Splat(shrink));
  }
}

inline void Softmax(const SparseTile& t) {
  SoftmaxSweep(
      t, [](float* scores, int count, float largest) { return Weights(scores, count, largest); });
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_SOFTMAX_H_
