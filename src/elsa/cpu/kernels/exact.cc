// The micro-kernels of exact attention in binary32, and the table.
#include "elsa/cpu/kernels/exact.h"

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/exact_pack.h"
#include "elsa/cpu/kernels/exact_stream.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {
namespace {

constexpr float kInfinity = __builtin_inff();
constexpr float kLog2E = 1.44269504088896f;

// scores[i][0 .. kVectors) = queries [d][kGroupRows] x keys [d][kPanelKeys], for kRows rows.
template <int kRows, int kVectors>
ELSA_INLINE void ScorePanel(const float* queries, const float* keys, int d, float* scores,
                            std::int64_t stride) {
  F32 sum[kRows][kVectors];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[i][v] = F32{};
  }
#pragma GCC unroll 4
  for (int c = 0; c < d; ++c) {
    F32 k[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) k[v] = Load(keys + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const F32 q = Splat(queries[i]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[i][v] = Fma(q, k[v], sum[i][v]);
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
template <int kRows, int kVectors>
ELSA_INLINE void AccumulatePanel(const float* weights, std::int64_t stride, const float* values,
                                 int keys, bool begin, const float* correction, float* sums,
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
  for (int j = 0; j < keys; ++j) {
    F32 value[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) value[v] = Load(values + v * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const F32 weight = Splat(weights[i * stride + j]);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) sum[i][v] = Fma(weight, value[v], sum[i][v]);
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

int GroupRows(int rows, int group) { return rows - group < kGroupRows ? rows - group : kGroupRows; }

// How many keys a group of rows looks at: those of its last row, which sees the most.
int GroupKeys(const int* visible, int rows, int group) {
  const int keys = visible[group + GroupRows(rows, group) - 1];
  return keys < 0 ? 0 : keys;
}

void Scores(const void* packed_queries, const void* packed_keys, std::int64_t first, int rows,
            const int* visible, int d, float* scores, std::int64_t stride) {
  const float* queries = static_cast<const float*>(packed_queries);
  const float* keys = static_cast<const float*>(packed_keys) + first * d;
  const int most = GroupKeys(visible, rows, (rows - 1) / kGroupRows * kGroupRows);
  for (int j = 0; j < most; j += kPanelKeys) {
    for (int group = 0; group < rows; group += kGroupRows) {
      const int left = GroupKeys(visible, rows, group) - j;
      if (left <= 0) continue;
      const float* q = queries + group * d;
      const float* k = keys + static_cast<std::int64_t>(j) * d;
      float* to = scores + group * stride + j;
      WithRows(GroupRows(rows, group), [&](auto count) {
        if (left > kLanes) {
          ScorePanel<decltype(count)::value, 2>(q, k, d, to, stride);
        } else {
          ScorePanel<decltype(count)::value, 1>(q, k, d, to, stride);
        }
      });
    }
  }
}

// One key's addend.
template <typename E>
ELSA_INLINE float AddendOf(const KeyBias& of, std::int64_t key, float lowest) {
  if (of.mask != nullptr && of.mask[key * of.mask_stride] == 0) return -kInfinity;
  if (of.bias == nullptr) return 0;
  const float bias = LoadElements<E>(of.bias + key * of.bias_stride * E::kBytes, 1)[0];
  return bias <= lowest ? -kInfinity : bias * kLog2E;
}

typedef std::uint8_t U8 __attribute__((vector_size(kLanes)));

// kLanes keys' addends; mask and bias lie one key after the other.
template <typename E>
ELSA_INLINE F32 AddendsOf(const KeyBias& of, std::int64_t key, float lowest) {
  F32 addend{};
  I32 hidden{};
  if (of.bias != nullptr) {
    const F32 bias = E::Load(of.bias + key * E::kBytes);
    hidden = bias <= Splat(lowest);
    addend = bias * kLog2E;
  }
  if (of.mask != nullptr) {
    U8 mask;
    std::memcpy(&mask, of.mask + key, sizeof(mask));
    hidden |= __builtin_convertvector(mask, I32) == SplatInt(0);
  }
  return (F32)((hidden & (I32)Splat(-kInfinity)) | (~hidden & (I32)addend));
}

Seen MakeAddend(const KeyBias& of, std::int64_t count, float lowest, float* addend) {
  const bool dense =
      (of.mask == nullptr || of.mask_stride == 1) && (of.bias == nullptr || of.bias_stride == 1);
  const F32 hidden = Splat(-kInfinity);
  I32 seen{};
  I32 plain = SplatInt(-1);
  WithElement(of.element, [&](auto e) {
    using E = decltype(e);
    std::int64_t j = 0;
    for (; dense && j + kLanes <= count; j += kLanes) {
      const F32 x = AddendsOf<E>(of, j, lowest);
      seen |= x != hidden;
      plain &= x == F32{};
      Store(addend + j, x);
    }
    for (; j < count; ++j) {
      addend[j] = AddendOf<E>(of, j, lowest);
      seen[0] |= addend[j] != -kInfinity ? -1 : 0;
      plain[0] &= addend[j] == 0 ? -1 : 0;
    }
  });
  bool any = false;
  bool all = true;
  for (int i = 0; i < kLanes; ++i) {
    any = any || seen[i] != 0;
    all = all && plain[i] != 0;
  }
  return all ? Seen::kAllUnbiased : any ? Seen::kSome : Seen::kNothing;
}

ELSA_INLINE F32 Added(F32 score, F32 addend) {
  const F32 hidden = Splat(-kInfinity);
  const I32 is_hidden = addend == hidden;  // not the sum: a hidden score may be NaN
  return (F32)((is_hidden & (I32)hidden) | (~is_hidden & (I32)(score + addend)));
}

void Add(const float* addend, int count, float* scores) {
  int j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    Store(scores + j, Added(Load(scores + j), Load(addend + j)));
  }
  if (j == count) return;
  const int left = count - j;
  StorePart(scores + j, Added(LoadPart(scores + j, left), LoadPart(addend + j, left)), left);
}

// The lanes of numbers below `count`.
ELSA_INLINE I32 FirstLanes(int count) {
  I32 lane;
  for (int i = 0; i < kLanes; ++i) lane[i] = i;
  return lane < SplatInt(count);
}

constexpr int kAtOnce = 4;  // vectors, in loops whose steps depend on each other

float LargestOf(const float* scores, int count, float largest) {
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
      Store(scores + j + v * kLanes, x[v]);
      sum += x[v];
    }
  }
  for (; j < count; j += kLanes) {
    const I32 use = FirstLanes(count - j);
    const F32 weight = (F32)(use & (I32)Exp2(Load(scores + j) - shift));
    Store(scores + j, weight);
    sum += weight;
  }
  for (; j < end; j += kLanes) Store(scores + j, F32{});
  return ReduceAdd(sum);
}

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
    const float sum = WeighRow(scores + i * stride, visible[i] < 0 ? 0 : visible[i], end, shift[i]);
    state.sum[i] = begin ? sum : state.sum[i] * state.correction[i] + sum;
  }
}

float Weight(const float* scores, std::int64_t key) { return scores[key]; }

void Accumulate(const float* weights, std::int64_t stride, const void* packed_values,
                std::int64_t packed_keys, std::int64_t first, int rows, const int* visible, int d_v,
                bool begin, const float* correction, float* sums, std::int64_t sum_stride) {
  for (int c = 0; c < d_v; c += kPanelColumns) {
    const bool wide = d_v - c > kLanes;
    const float* values = static_cast<const float*>(packed_values) + c * packed_keys +
                          first * (wide ? 2 * kLanes : kLanes);
    for (int group = 0; group < rows; group += kGroupRows) {
      const int keys = GroupKeys(visible, rows, group);
      const float* w = weights + group * stride;
      float* to = sums + group * sum_stride + c;
      WithRows(GroupRows(rows, group), [&](auto count) {
        constexpr int kRows = decltype(count)::value;
        if (wide) {
          AccumulatePanel<kRows, 2>(w, stride, values, keys, begin, correction + group, to,
                                    sum_stride);
        } else {
          AccumulatePanel<kRows, 1>(w, stride, values, keys, begin, correction + group, to,
                                    sum_stride);
        }
      });
    }
  }
}

void WriteRow(const float* sums, int d_v, float sum, Element element, std::byte* to) {
  WithElement(element, [&](auto e) {
    using E = decltype(e);
    for (int c = 0; c < d_v; c += kLanes) {
      const F32 x = Load(sums + c) / Splat(sum);
      StoreElements<E>(to + c * E::kBytes, x, d_v - c);
    }
  });
}

}  // namespace

extern const ExactKernels kExact;
const ExactKernels kExact = {kTileRows,     kPanelKeys,   kLanes,           QueryBytes,
                             KeyBytes,      ValueBytes,   PackQueries,      PackKeys,
                             PackValues,    Scores,       MakeAddend,       Add,
                             Softmax,       Weight,       Accumulate,       kStreamStride,
                             StreamQueries, StreamScores, StreamAccumulate, WriteRow};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
