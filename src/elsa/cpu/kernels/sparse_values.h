// Weighted sums of gathered value rows, binary32.
#ifndef ELSA_CPU_KERNELS_SPARSE_VALUES_H_
#define ELSA_CPU_KERNELS_SPARSE_VALUES_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"
#include "elsa/cpu/kernels/sparse_scores.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// How many vectors of `vectors` are summed in one pass: equal parts of `most`
// at most.
constexpr int PassVectors(int vectors, int most) {
  int passes = (vectors + most - 1) / most;
  while (vectors % passes != 0) ++passes;
  return vectors / passes;
}

template <int kVectors>
ELSA_INLINE void AddValue(const float* row, F32 weight, F32 (&sums)[kVectors]) {
  for (int v = 0; v < kVectors; ++v) sums[v] = Fma(weight, Load(row + v * kLanes), sums[v]);
}

// Candidates [from, to) of one query; kVectors vectors of the columns.
template <int kVectors>
ELSA_INLINE void AddValues(const float* value, std::ptrdiff_t pitch, const std::uint16_t* list,
                           const float* weights, int from, int to, float* out) {
  F32 sums[kVectors] = {};  // sums of blocks first: shorter sums round less
  int j = from;
#if defined(__AVX2__) && !defined(__AVX512F__)
  // Four weights in one load: every load counts, two a cycle are the limit.
  for (; j + 4 <= to; j += 4) {
    const __m256 four = (__m256)_mm256_broadcast_ps((const __m128*)(weights + j));
    AddValue(value + list[j] * pitch, (F32)_mm256_permute_ps(four, 0x00), sums);
    AddValue(value + list[j + 1] * pitch, (F32)_mm256_permute_ps(four, 0x55), sums);
    AddValue(value + list[j + 2] * pitch, (F32)_mm256_permute_ps(four, 0xaa), sums);
    AddValue(value + list[j + 3] * pitch, (F32)_mm256_permute_ps(four, 0xff), sums);
  }
#else
  if constexpr (kVectors < 8) {
    // Every second candidate to sums of its own: one chain of additions would be waited for.
    F32 second[kVectors] = {};
    for (; j + 2 <= to; j += 2) {
      AddValue(value + list[j] * pitch, Splat(weights[j]), sums);
      AddValue(value + list[j + 1] * pitch, Splat(weights[j + 1]), second);
    }
    for (int v = 0; v < kVectors; ++v) sums[v] += second[v];
  }
#endif
  for (; j < to; ++j) AddValue(value + list[j] * pitch, Splat(weights[j]), sums);
  for (int v = 0; v < kVectors; ++v) Store(out + v * kLanes, Load(out + v * kLanes) + sums[v]);
}

template <int kD>  // 0: any
void ValueSweep(const SparseTile t) {
  constexpr int kVectors = PassVectors((kD == 0 ? 32 : kD) / kLanes, kRegisters * 3 / 4);
  const int stride = t.words + 1;
  for (int word = 0; word < t.words; word += t.value_block) {
    const int end = word + t.value_block < t.words ? word + t.value_block : t.words;
    BlockPrefetch prefetch(t, t.value, sizeof(float) * static_cast<std::size_t>(t.d_v), end,
                           t.value_block);
    for (int i = 0; i < t.queries; ++i) {
      prefetch.Step();
      const int from = t.start[i * stride + word];
      const int to = t.start[i * stride + end];
      if (from == to) continue;
      const std::uint16_t* list = t.list + t.offset[i];
      const float* weights = t.score + t.offset[i];
      const int d_v = kD == 0 ? t.d_v : kD;
      float* out = t.out + static_cast<std::ptrdiff_t>(i) * d_v;
      for (int c = 0; c < d_v; c += kVectors * kLanes) {
        AddValues<kVectors>(t.value + c, d_v, list, weights, from, to, out + c);
      }
    }
  }
}

inline void Values(const SparseTile& tile) {
  switch (tile.d_v) {
    case 32:
      return ValueSweep<32>(tile);
    case 64:
      return ValueSweep<64>(tile);
    case 80:
      return ValueSweep<80>(tile);
    case 96:
      return ValueSweep<96>(tile);
    case 128:
      return ValueSweep<128>(tile);
    default:
      return ValueSweep<0>(tile);
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_VALUES_H_
