// Weighted sums of gathered value rows, binary32.
#ifndef ELSA_CPU_KERNELS_SPARSE_VALUES_H_
#define ELSA_CPU_KERNELS_SPARSE_VALUES_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// How many vectors of `vectors` are summed in one pass: an equal part that fits the registers.
constexpr int PassVectors(int vectors) {
  constexpr int kMost = kRegisters * 3 / 4;
  int passes = (vectors + kMost - 1) / kMost;
  while (vectors % passes != 0) ++passes;
  return vectors / passes;
}

// Candidates [from, to) of one query; kVectors vectors of the columns.
template <int kVectors>
ELSA_INLINE void AddValues(const float* value, std::ptrdiff_t pitch, const std::uint16_t* list,
                           const float* weights, int from, int to, float* out) {
  F32 sums[kVectors];
  for (int v = 0; v < kVectors; ++v) sums[v] = Load(out + v * kLanes);
  for (int j = from; j < to; ++j) {
    const float* row = value + list[j] * pitch;
    const F32 weight = Splat(weights[j]);
    for (int v = 0; v < kVectors; ++v) sums[v] = Fma(weight, Load(row + v * kLanes), sums[v]);
  }
  for (int v = 0; v < kVectors; ++v) Store(out + v * kLanes, sums[v]);
}

template <int kD>  // 0: any
void ValueSweep(const SparseTile& t) {
  constexpr int kVectors = PassVectors((kD == 0 ? 32 : kD) / kLanes);
  const int stride = t.words + 1;
  for (int word = 0; word < t.words; word += t.value_block) {
    const int end = word + t.value_block < t.words ? word + t.value_block : t.words;
    for (int i = 0; i < t.queries; ++i) {
      const int from = t.start[i * stride + word];
      const int to = t.start[i * stride + end];
      if (from == to) continue;
      const std::uint16_t* list = t.list + i * t.list_stride;
      const float* weights = t.score + i * t.list_stride;
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
