// Exact attention in products of bfloat16 with sums in binary32: a unit is a pair of numbers, of
// neighbouring components for scores and of neighbouring keys for sums. Layouts are those of
// exact_pack.h in such units. Only where the processor multiplies pairs at full rate; elsewhere 16
// bits are widened while packing, which is as fast (exact.cc chooses).
#ifndef ELSA_CPU_KERNELS_EXACT_BF16_H_
#define ELSA_CPU_KERNELS_EXACT_BF16_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/exact_pack.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/transpose.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// To the nearest 16 bits; the instruction flushes what is below 2^-126.
ELSA_INLINE U16 NearestBf16(F32 x) {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
  return (U16)_mm512_cvtneps_pbh((__m512)x);
#else
  return ToBf16(x);
#endif
}

struct Bf16Pairs {
  static constexpr int kPerUnit = 2;
  static F32 Spread(const float* unit) {
    std::int32_t bits;
    std::memcpy(&bits, unit, sizeof(bits));
    return (F32)SplatInt(bits);
  }
  static F32 MulAdd(F32 a, F32 b, F32 c) {
#if defined(__AVX512BF16__) && defined(__AVX512F__)
    return (F32)_mm512_dpbf16_ps((__m512)c, (__m512bh)(__m512)a, (__m512bh)(__m512)b);
#else
    const U32 high = U32{} + 0xffff0000u;
    c = Fma((F32)((U32)a << 16), (F32)((U32)b << 16), c);
    return Fma((F32)((U32)a & high), (F32)((U32)b & high), c);
#endif
  }
  // In place: weights take the first half of the room of the scores that they come from.
  static void StoreWeights(float* row, int key, F32 weights) {
    const U16 half = NearestBf16(weights);
    std::memcpy(reinterpret_cast<std::uint16_t*>(row) + key, &half, sizeof(half));
  }
  static float Weight(const float* row, std::int64_t key) {
    std::uint16_t half;
    std::memcpy(&half, reinterpret_cast<const std::uint16_t*>(row) + key, sizeof(half));
    const std::uint32_t bits = std::uint32_t{half} << 16;
    float weight;
    std::memcpy(&weight, &bits, sizeof(weight));
    return weight;
  }
};

// Numbers from `low` and `high`, kLanes each, as kLanes pairs of neighbours.
ELSA_INLINE F32 Pairs(F32 low, F32 high) {
  U16 halves[2] = {NearestBf16(low), NearestBf16(high)};
  F32 pairs;
  std::memcpy(&pairs, halves, sizeof(pairs));
  return pairs;
}

// As PackTransposed, in pairs of components.
template <typename E, int kStep>
ELSA_INLINE void PackPairsTransposed(const std::byte* at, std::int64_t stride, int count, int d,
                                     F32 scale, float* to) {
  for (int c = 0; c < d; c += 2 * kLanes) {
    F32 x[kLanes];
    const std::byte* from = at + c * E::kBytes;
    const int low = d - c < kLanes ? d - c : kLanes;
    const int high = d - c - low < kLanes ? d - c - low : kLanes;
    for (int i = 0; i < kLanes; ++i) {
      if (i >= count) {
        x[i] = F32{};
        continue;
      }
      const std::byte* row = from + i * stride;
      x[i] = Pairs(LoadElements<E>(row, low) * scale,
                   LoadElements<E>(row + low * E::kBytes, high) * scale);
    }
    Transpose(x);
    const int units = (low + high + 1) / 2;
    for (int i = 0; i < units; ++i) Store(to + (c / 2 + i) * kStep, x[i]);
  }
}

inline std::int64_t QueryPairBytes(int d) { return QueryBytes((d + 1) / 2); }
inline std::int64_t KeyPairBytes(std::int64_t keys, int d) { return KeyBytes(keys, (d + 1) / 2); }
inline std::int64_t ValuePairBytes(std::int64_t keys, int d_v) {
  return ValueBytes((keys + 1) / 2, d_v);
}

inline void PackQueryPairs(const ElementRows& rows, int count, int d, double scale, void* packed) {
  const F32 factor = Splat(static_cast<float>(scale));
  WithElement(rows.element, [&](auto e) {
    for (int first = 0; first < count; first += kGroupRows) {
      float* to = static_cast<float*>(packed) + std::int64_t{first} * ((d + 1) / 2);
      for (int i = (kGroupRows - 1) / kLanes * kLanes; i >= 0; i -= kLanes) {
        const int left = count - first - i < kGroupRows - i ? count - first - i : kGroupRows - i;
        PackPairsTransposed<decltype(e), kGroupRows>(rows.data + (first + i) * rows.stride,
                                                     rows.stride, left < 0 ? 0 : left, d, factor,
                                                     to + i);
      }
    }
  });
}

inline void PackKeyPairs(const ElementRows& rows, std::int64_t count, int d, void* packed) {
  WithElement(rows.element, [&](auto e) {
    for (std::int64_t first = 0; first < count; first += kPanelKeys) {
      float* to = static_cast<float*>(packed) + first * ((d + 1) / 2);
      for (int i = 0; i < kPanelKeys; i += kLanes) {
        const std::int64_t left = count - first - i;
        PackPairsTransposed<decltype(e), kPanelKeys>(rows.data + (first + i) * rows.stride,
                                                     rows.stride,
                                                     static_cast<int>(left < 0        ? 0
                                                                      : left < kLanes ? left
                                                                                      : kLanes),
                                                     d, Splat(1.0f), to + i);
      }
    }
  });
}

// One vector of columns of two neighbouring keys; the second may be missing.
template <typename E>
ELSA_INLINE F32 ValuePair(const std::byte* from, std::int64_t stride, bool both, int left,
                          I32& finite) {
  const F32 x = LoadElements<E>(from, left);
  const F32 y = both ? LoadElements<E>(from + stride, left) : F32{};
  const I32 good_x = x - x == F32{};
  const I32 good_y = y - y == F32{};
  finite &= good_x & good_y;
  const U32 low = Widen(NearestBf16((F32)((I32)x & good_x)));
  const U32 high = Widen(NearestBf16((F32)((I32)y & good_y)));
  return (F32)(low | (high << 16));
}

inline bool PackValuePairs(const ElementRows& rows, std::int64_t count, int d_v, void* packed) {
  return WithElement(rows.element, [&](auto e) {
    using E = decltype(e);
    I32 finite = SplatInt(-1);
    for (int c = 0; c < d_v; c += kPanelColumns) {
      float* to = static_cast<float*>(packed) + c * ((count + 1) / 2);
      const int end = d_v - c > kLanes ? 2 * kLanes : kLanes;
      for (std::int64_t j = 0; j < count; j += 2) {
        for (int v = 0; v < end; v += kLanes) {
          const std::byte* from = rows.data + j * rows.stride + (c + v) * E::kBytes;
          Store(to, ValuePair<E>(from, rows.stride, j + 1 < count, d_v - c - v, finite));
          to += kLanes;
        }
      }
    }
    return All(finite);
  });
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_EXACT_BF16_H_
