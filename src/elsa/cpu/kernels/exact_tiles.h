// Tiles of exact attention: scores, running softmax and weighted sums in a register tile of
// kGroupRows x 2 vectors. The arithmetic `A` says how products are made and how weights are kept:
// Binary32 here, Bf16Pairs in exact_bf16.h. What it multiplies lies in units of 32 bits.
#ifndef ELSA_CPU_KERNELS_EXACT_TILES_H_
#define ELSA_CPU_KERNELS_EXACT_TILES_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/exact_pack.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

inline constexpr float kInfinity = __builtin_inff();

// A unit is one number.
struct Binary32 {
  static constexpr int kPerUnit = 1;
  static F32 Spread(const float* unit) { return Splat(*unit); }
  static F32 MulAdd(F32 a, F32 b, F32 c) { return Fma(a, b, c); }
  static void StoreWeights(float* row, int key, F32 weights) { Store(row + key, weights); }
  static float Weight(const float* row, std::int64_t key) { return row[key]; }
};

template <typename A>
ELSA_INLINE std::int64_t UnitsOf(std::int64_t count) {
  return (count + A::kPerUnit - 1) / A::kPerUnit;
}

// scores[i][0 .. kVectors) = queries [d][kGroupRows] x keys [d][kPanelKeys], for kRows rows.
template <typename A, int kRows, int kVectors>
ELSA_INLINE void ScorePanel(const float* queries, const float* keys, int units, float* scores,
                            std::int64_t stride) {
  F32 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[i][v] = F32{};
  }
#pragma GCC unroll 4
  for (int c = 0; c < units; ++c) {
    F32 k[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) k[v] = Load(keys + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const F32 q = A::Spread(queries + i);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[i][v] = A::MulAdd(q, k[v], sum[i][v]);
    }
    queries += kGroupRows;
    keys += kPanelKeys;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(scores + i * stride + v * kLanes, sum[i][v]);
  }
}

// sums[i][0 .. kVectors) = sums * correction + weights [i][keys] x values [keys][kVectors].
template <typename A, int kRows, int kVectors>
ELSA_INLINE void AccumulatePanel(const float* weights, std::int64_t stride, const float* values,
                                 int units, bool begin, const float* correction, float* sums,
                                 std::int64_t sum_stride) {
  F32 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = begin ? F32{} : Load(sums + i * sum_stride + v * kLanes) * Splat(correction[i]);
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < units; ++j) {
    F32 value[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) value[v] = Load(values + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const F32 weight = A::Spread(weights + i * stride + j);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[i][v] = A::MulAdd(weight, value[v], sum[i][v]);
    }
    values += kVectors * kLanes;
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) Store(sums + i * sum_stride + v * kLanes, sum[i][v]);
  }
}

// A number known to the compiler.
template <int kValue>
struct Number {
  static constexpr int value = kValue;
};

// Calls f with the smallest number of rows that has a kernel and is at least `rows`; rows beyond
// the tile's are zeros in packed queries and room in scores and sums.
template <typename F>
ELSA_INLINE void WithRows(int rows, F&& f) {
  if constexpr (kGroupRows == 12) {
    if (rows > 8) return f(Number<12>{});
    if (rows > 6) return f(Number<8>{});
  }
  if (rows > 4) return f(Number<6>{});
  if (rows > 2) return f(Number<4>{});
  if (rows > 1) return f(Number<2>{});
  return f(Number<1>{});
}

inline int GroupRows(int rows, int group) {
  return rows - group < kGroupRows ? rows - group : kGroupRows;
}

// How many keys a group of rows looks at: those of its last row, which sees the most.
inline int GroupKeys(const int* visible, int rows, int group) {
  const int keys = visible[group + GroupRows(rows, group) - 1];
  return keys < 0 ? 0 : keys;
}

template <typename A>
void Scores(const void* packed_queries, const void* packed_keys, std::int64_t first, int rows,
            const int* visible, int d, float* scores, std::int64_t stride) {
  const auto units = static_cast<int>(UnitsOf<A>(d));
  const float* queries = static_cast<const float*>(packed_queries);
  const float* keys = static_cast<const float*>(packed_keys) + first * units;
  const int most = GroupKeys(visible, rows, (rows - 1) / kGroupRows * kGroupRows);
  for (int j = 0; j < most; j += kPanelKeys) {
    for (int group = 0; group < rows; group += kGroupRows) {
      const int left = GroupKeys(visible, rows, group) - j;
      if (left <= 0) continue;
      const float* q = queries + group * units;
      const float* k = keys + static_cast<std::int64_t>(j) * units;
      float* to = scores + group * stride + j;
      WithRows(GroupRows(rows, group), [&](auto count) {
        if (left > kLanes) {
          ScorePanel<A, decltype(count)::value, 2>(q, k, units, to, stride);
        } else {
          ScorePanel<A, decltype(count)::value, 1>(q, k, units, to, stride);
        }
      });
    }
  }
}

// The lanes of numbers below `count`.
ELSA_INLINE I32 FirstLanes(int count) {
  I32 lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < SplatInt(count);
}

inline constexpr int kAtOnce = 4;  // vectors, in loops whose steps depend on each other

inline float LargestOf(const float* scores, int count, float largest) {
  F32 most[kAtOnce];
  for (F32& x : most) x = Splat(largest);
  int j = 0;
  for (; j + kAtOnce * kLanes <= count; j += kAtOnce * kLanes) {
#pragma GCC unroll 8
    for (int v = 0; v < kAtOnce; ++v) most[v] = Max(most[v], Load(scores + j + v * kLanes));
  }
  for (; j + kLanes <= count; j += kLanes) most[0] = Max(most[0], Load(scores + j));
  if (j < count) {
    const I32 use = FirstLanes(count - j);
    const F32 last = Load(scores + j);
    most[1] = Max(most[1], (F32)((use & (I32)last) | (~use & (I32)Splat(-kInfinity))));
  }
  return ReduceMax(Max(Max(most[0], most[1]), Max(most[2], most[3])));
}

// Weights of one row in place, zeros up to `end`; returns their sum.
template <typename A>
float WeighRow(float* scores, int count, int end, float largest) {
  const F32 shift = Splat(largest);
  F32 sum{};
  int j = 0;
  for (; j + kAtOnce * kLanes <= count; j += kAtOnce * kLanes) {
    F32 x[kAtOnce];
#pragma GCC unroll 8
    for (int v = 0; v < kAtOnce; ++v) x[v] = Load(scores + j + v * kLanes) - shift;
    Exp2(x);
#pragma GCC unroll 8
    for (int v = 0; v < kAtOnce; ++v) {
      A::StoreWeights(scores, j + v * kLanes, x[v]);
      sum += x[v];
    }
  }
  for (; j < count; j += kLanes) {
    const I32 use = FirstLanes(count - j);
    const F32 weight = (F32)(use & (I32)Exp2(Load(scores + j) - shift));
    A::StoreWeights(scores, j, weight);
    sum += weight;
  }
  for (; j < end; j += kLanes) A::StoreWeights(scores, j, F32{});
  return ReduceAdd(sum);
}

template <typename A>
void Softmax(float* scores, std::int64_t stride, int rows, const int* visible, bool begin,
             const TileState& state) {
  alignas(64) float shift[kTileRows + kLanes];
  for (int i = 0; i < rows; ++i) {
    const float before = begin ? -kInfinity : state.largest[i];
    const float largest = LargestOf(scores + i * stride, visible[i], before);
    state.largest[i] = largest;
    // Where nothing has been seen, weights are 2^-infinity = 0 and not 2^NaN.
    shift[i] = largest == -kInfinity ? 0 : largest;
    state.correction[i] = before - shift[i];
  }
  for (int i = 0; i < rows; i += kLanes) {
    Store(state.correction + i, Exp2(Load(state.correction + i)));
  }
  for (int i = 0; i < rows; ++i) {
    const int end = GroupKeys(visible, rows, i / kGroupRows * kGroupRows);
    const float sum =
        WeighRow<A>(scores + i * stride, visible[i] < 0 ? 0 : visible[i], end, shift[i]);
    state.sum[i] = begin ? sum : state.sum[i] * state.correction[i] + sum;
  }
}

template <typename A>
void Accumulate(const float* weights, std::int64_t stride, const void* packed_values,
                std::int64_t packed_keys, std::int64_t first, int rows, const int* visible, int d_v,
                bool begin, const float* correction, float* sums, std::int64_t sum_stride) {
  for (int c = 0; c < d_v; c += kPanelColumns) {
    const bool wide = d_v - c > kLanes;
    const float* values = static_cast<const float*>(packed_values) + c * UnitsOf<A>(packed_keys) +
                          UnitsOf<A>(first) * (wide ? 2 * kLanes : kLanes);
    for (int group = 0; group < rows; group += kGroupRows) {
      const auto units = static_cast<int>(UnitsOf<A>(GroupKeys(visible, rows, group)));
      const float* w = weights + group * stride;
      float* to = sums + group * sum_stride + c;
      WithRows(GroupRows(rows, group), [&](auto count) {
        constexpr int kRows = decltype(count)::value;
        if (wide) {
          AccumulatePanel<A, kRows, 2>(w, stride, values, units, begin, correction + group, to,
                                       sum_stride);
        } else {
          AccumulatePanel<A, kRows, 1>(w, stride, values, units, begin, correction + group, to,
                                       sum_stride);
        }
      });
    }
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_EXACT_TILES_H_
