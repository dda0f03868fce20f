// Exact attention of a few queries over many keys: every key and value is read once, where it lies,
// in the order of addresses. Nothing is packed: that would take longer than using it.
#ifndef ELSA_CPU_KERNELS_EXACT_STREAM_H_
#define ELSA_CPU_KERNELS_EXACT_STREAM_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/exact_pack.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/transpose.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

inline constexpr std::int64_t kStreamStride = 256;  // of packed queries: the largest d
inline constexpr int kStreamKeys = 32;              // that stay in the first-level cache

// Rows times `scale`, zeros from d on to a multiple of kLanes.
inline void StreamQueries(const ElementRows& rows, int count, int d, double scale, float* packed) {
  WithElement(rows.element, [&](auto e) {
    using E = decltype(e);
    for (int i = 0; i < count; ++i) {
      float* to = packed + i * kStreamStride;
      for (int c = 0; c < d; c += kLanes) {
        Store(to + c, LoadElements<E>(rows.data + i * rows.stride + c * E::kBytes, d - c));
      }
      for (int c = 0; c < d; ++c) to[c] = static_cast<float>(to[c] * scale);
    }
  });
}

// The products of one query and kLanes keys, `count` of which exist.
template <typename E>
ELSA_INLINE F32 DotKeys(const float* query, const std::byte* keys, std::int64_t stride, int count,
                        int d) {
  F32 sum[kLanes];
  const int whole = d / kLanes * kLanes;
#pragma GCC unroll 16
  for (int j = 0; j < kLanes; ++j) {
    if (j >= count) {
      sum[j] = F32{};
      continue;
    }
    const std::byte* key = keys + j * stride;
    // Two sums, or a short row would wait for its additions.
    F32 even{};
    F32 odd{};
    int c = 0;
    for (; c + 2 * kLanes <= whole; c += 2 * kLanes) {
      even = Fma(Load(query + c), E::Load(key + c * E::kBytes), even);
      odd = Fma(Load(query + c + kLanes), E::Load(key + (c + kLanes) * E::kBytes), odd);
    }
    if (c < whole) {
      even = Fma(Load(query + c), E::Load(key + c * E::kBytes), even);
      c += kLanes;
    }
    if (c < d) odd = Fma(Load(query + c), LoadElements<E>(key + c * E::kBytes, d - c), odd);
    sum[j] = even + odd;
  }
  Transpose(sum);
#pragma GCC unroll 4
  for (int half = kLanes / 2; half > 0; half /= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < half; ++i) sum[i] += sum[i + half];
  }
  return sum[0];
}

inline void StreamScores(const float* queries, int rows, const ElementRows& keys, int count, int d,
                         float* scores, std::int64_t stride) {
  WithElement(keys.element, [&](auto e) {
    using E = decltype(e);
    for (int first = 0; first < count; first += kStreamKeys) {
      const int end = count - first < kStreamKeys ? count : first + kStreamKeys;
      for (int i = 0; i < rows; ++i) {
        for (int j = first; j < end; j += kLanes) {
          const std::byte* from = keys.data + j * keys.stride;
          const float* query = queries + i * kStreamStride;
          float* to = scores + i * stride + j;
          if (end - j >= kLanes) {
            Store(to, DotKeys<E>(query, from, keys.stride, kLanes, d));
          } else {
            Store(to, DotKeys<E>(query, from, keys.stride, end - j, d));
          }
        }
      }
    }
  });
}

// sums[0 .. kVectors) += weights x values of keys [0, count) for one query.
template <typename E, int kVectors>
ELSA_INLINE void AddValues(const float* weights, const float* addend, const std::byte* values,
                           std::int64_t stride, int count, int width, float* sums) {
  constexpr float kHidden = -__builtin_inff();
  F32 sum[kVectors];
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) sum[v] = Load(sums + v * kLanes);
  const bool whole = width >= kVectors * kLanes;
  for (int j = 0; j < count; ++j) {
    if (addend != nullptr && addend[j] == kHidden) continue;
    const std::byte* value = values + j * stride;
    const F32 weight = Splat(weights[j]);
    if (whole) {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        sum[v] = Fma(weight, E::Load(value + v * kLanes * E::kBytes), sum[v]);
      }
    } else {
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) {
        const F32 x = LoadElements<E>(value + v * kLanes * E::kBytes, width - v * kLanes);
        sum[v] = Fma(weight, x, sum[v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int v = 0; v < kVectors; ++v) Store(sums + v * kLanes, sum[v]);
}

// The columns of one query's sums, 8 vectors at a time.
template <typename E>
void AddRow(const float* weights, const float* addend, const std::byte* values, std::int64_t stride,
            int count, int d_v, float* sums) {
  for (int c = 0; c < d_v;) {
    const std::byte* from = values + c * E::kBytes;
    const int left = d_v - c;
    int vectors = (left + kLanes - 1) / kLanes;
    if (vectors >= 8) {
      AddValues<E, 8>(weights, addend, from, stride, count, left, sums + c);
      vectors = 8;
    } else if (vectors >= 4) {
      AddValues<E, 4>(weights, addend, from, stride, count, left, sums + c);
      vectors = 4;
    } else if (vectors >= 2) {
      AddValues<E, 2>(weights, addend, from, stride, count, left, sums + c);
      vectors = 2;
    } else {
      AddValues<E, 1>(weights, addend, from, stride, count, left, sums + c);
    }
    c += vectors * kLanes;
  }
}

inline void StreamAccumulate(const float* weights, std::int64_t stride, const float* addends,
                             std::int64_t addend_stride, const ElementRows& values, int rows,
                             const int* visible, int d_v, const float* correction, float* sums,
                             std::int64_t sum_stride) {
  int most = 0;
  for (int i = 0; i < rows; ++i) {
    most = visible[i] > most ? visible[i] : most;
    float* sum = sums + i * sum_stride;
    for (int c = 0; c < d_v; c += kLanes) Store(sum + c, Load(sum + c) * Splat(correction[i]));
  }
  WithElement(values.element, [&](auto e) {
    for (int first = 0; first < most; first += kStreamKeys) {
      for (int i = 0; i < rows; ++i) {
        const int left = visible[i] - first < kStreamKeys ? visible[i] - first : kStreamKeys;
        const float* addend = addends == nullptr ? nullptr : addends + i * addend_stride + first;
        AddRow<decltype(e)>(weights + i * stride + first, addend,
                            values.data + first * values.stride, values.stride, left, d_v,
                            sums + i * sum_stride);
      }
    }
  });
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_EXACT_STREAM_H_
