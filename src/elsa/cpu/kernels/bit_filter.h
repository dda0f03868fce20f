// The bit-sliced filter: hamming(query, key) <= cut-off for a block of keys at once, one key per
// bit of a vector. A block has as many keys as a vector has bits.
//
// Counting is done by full adders on bit planes. Planes go in groups of three; what three bits add
// to the distance (sum S of weight 1, carry K of weight 2) is tabulated for the 8 patterns that a
// query can have there. A tree of adders, one per level (weight 1, 2, 4, ...), takes these in.
// Its sums do not start at zero but at the planes of kBits - 1 - cut-off, so that the carry out of
// the last level says: distance > cut-off. On Zen 3 (AVX2, 64 bits) .22 cycles a pair; bytes, .57.
// Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_BIT_FILTER_H_
#define ELSA_CPU_KERNELS_BIT_FILTER_H_

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

inline constexpr std::int64_t kBlockKeys = 32 * kLanes;
inline constexpr std::int64_t kVectorBytes = 4 * kLanes;

// kBits: 32, 64, 128 or 256; shorter hashes are padded with zeros. 3 * kGroups + kRest = kBits.
template <int kBits>
struct FilterShape {
  static constexpr int kGroups = kBits / 3;
  static constexpr int kRest = kBits % 3;
  static constexpr int kLevels = kBits == 32 ? 5 : kBits == 64 ? 6 : kBits == 128 ? 7 : 8;
  static constexpr int kPatterns = kGroups + kRest;  // numbers that describe a query
  static constexpr std::int64_t kTableVectors = 16 * kGroups + 2 * kRest;
  static constexpr std::int64_t kLimitVectors = kLevels + 2;
};

// What an adder takes from below and gives to the level above. Where a full adder is 2 or 3
// instructions (ternary logic, bit select), one plane x. Elsewhere two planes x and y, kept as x
// and x ^ y: two full adders then take 8 instructions together instead of 10.
// Source: Demenkov, Kojevnikov, Kulikov, Yaroslavtsev, "New upper bounds on the Boolean circuit
// complexity of symmetric functions", 2010: their block MDFA.
#if defined(__AVX512F__) || defined(__ARM_NEON)
#define ELSA_PLAIN_ADDERS 1
#endif

#if defined(ELSA_PLAIN_ADDERS)

struct Carry {
  U32 x;
};

// sum += a + b; returns the carry.
ELSA_INLINE U32 FullAdder(U32& sum, U32 a, U32 b) {
#if defined(__AVX512F__)
  const __m512i s = (__m512i)sum;
  const __m512i carry = _mm512_ternarylogic_epi64(s, (__m512i)a, (__m512i)b, 0xe8);
  sum = (U32)_mm512_ternarylogic_epi64(s, (__m512i)a, (__m512i)b, 0x96);
  return (U32)carry;
#else
  const U32 differ = sum ^ a;
  const U32 carry = (U32)vbslq_u32((uint32x4_t)differ, (uint32x4_t)b, (uint32x4_t)a);
  sum = differ ^ b;
  return carry;
#endif
}

ELSA_INLINE Carry Combine(U32& sum, const Carry& a, const Carry& b) {
  return {FullAdder(sum, a.x, b.x)};
}

#else

struct Carry {
  U32 x;
  U32 differ;  // x ^ y
};

ELSA_INLINE U32 FullAdder(U32& sum, U32 a, U32 b) {
  const U32 differ = a ^ b;
  const U32 carry = (differ & sum) | (a & b);
  sum = sum ^ differ;
  return carry;
}

ELSA_INLINE Carry PairOf(U32 x, U32 y) { return {x, x ^ y}; }

ELSA_INLINE Carry Combine(U32& sum, const Carry& a, const Carry& b) {
  const U32 first = sum ^ a.differ;
  const U32 either = a.differ | (a.x ^ sum);
  const Carry carry{first ^ either, either ^ ((b.x ^ first) & ~b.differ)};
  sum = first ^ b.differ;
  return carry;
}

// The carry alone.
ELSA_INLINE U32 LastCarry(U32 sum, const Carry& a) { return a.x ^ (a.differ & (a.x ^ sum)); }

#endif

// One query on one block.
template <int kBits>
class BitCounter {
  using Shape = FilterShape<kBits>;

 public:
  ELSA_INLINE BitCounter(const std::byte* table, const std::byte* limits,
                         const std::uint16_t* patterns)
      : table_(table), limits_(limits), patterns_(patterns) {
    for (int l = 0; l < Shape::kLevels; ++l) sum_[l] = Plane(limits, l);
  }

  // Adds step kStep; steps in order from 0 to kSteps - 1.
  template <int kStep>
  ELSA_INLINE void Add() {
#if defined(ELSA_PLAIN_ADDERS)
    constexpr int g = 2 * kStep;
    if constexpr (g + 1 < Shape::kGroups) {
      Push<1, 3 * kStep>({FullAdder(sum_[0], Sum<g>(), Sum<g + 1>())});
      Push<1, 3 * kStep + 1>({Double<g>()});
      Push<1, 3 * kStep + 2>({Double<g + 1>()});
    } else if constexpr (Shape::kRest == 1) {
      Push<1, 3 * kStep>({FullAdder(sum_[0], Sum<g>(), Rest<0>())});
      Push<1, 3 * kStep + 1>({Double<g>()});
    } else {
      Push<1, 3 * kStep>({FullAdder(sum_[0], Rest<0>(), Rest<1>())});
    }
#else
    constexpr int g = 4 * kStep;
    if constexpr (g + 3 < Shape::kGroups) {
      const Carry low = PairOf(Sum<g>(), Sum<g + 1>());
      Push<1, 3 * kStep>(Combine(sum_[0], low, PairOf(Sum<g + 2>(), Sum<g + 3>())));
      Push<1, 3 * kStep + 1>(PairOf(Double<g>(), Double<g + 1>()));
      Push<1, 3 * kStep + 2>(PairOf(Double<g + 2>(), Double<g + 3>()));
    } else if constexpr (Shape::kRest == 1) {
      const U32 carry = FullAdder(sum_[0], Sum<g>(), Rest<0>());
      Push<1, 3 * kStep>(PairOf(Double<g>(), carry));
    } else {
      const Carry low = PairOf(Sum<g>(), Sum<g + 1>());
      Push<1, 3 * kStep>(Combine(sum_[0], low, PairOf(Rest<0>(), Rest<1>())));
      Push<1, 3 * kStep + 1>(PairOf(Double<g>(), Double<g + 1>()));
    }
#endif
  }

#if defined(ELSA_PLAIN_ADDERS)
  static constexpr int kSteps = Shape::kGroups / 2 + 1;
#else
  static constexpr int kSteps = Shape::kGroups / 4 + 1;
#endif

  // The keys within their cut-offs.
  ELSA_INLINE U32 Kept() const {
    const U32 possible = Plane(limits_, Shape::kLevels);
    const U32 always = Plane(limits_, Shape::kLevels + 1);
#if defined(__AVX512F__)
    return (U32)_mm512_ternarylogic_epi64((__m512i)over_, (__m512i)possible, (__m512i)always, 0xae);
#else
    return (~over_ & possible) | always;
#endif
  }

 private:
  static ELSA_INLINE U32 Plane(const std::byte* from, std::int64_t index) {
    U32 x;
    std::memcpy(&x, from + index * kVectorBytes, sizeof(x));
    return x;
  }
  template <int kGroup>
  ELSA_INLINE U32 Sum() const {
    return Plane(table_ + patterns_[kGroup], 16 * kGroup);
  }
  template <int kGroup>
  ELSA_INLINE U32 Double() const {
    return Plane(table_ + patterns_[kGroup], 16 * kGroup + 1);
  }
  template <int kBit>
  ELSA_INLINE U32 Rest() const {
    return Plane(table_ + patterns_[Shape::kGroups + kBit], 16 * Shape::kGroups + 2 * kBit);
  }

  // Carry number kIndex of those that level kLevel takes.
  template <int kLevel, int kIndex>
  ELSA_INLINE void Push(const Carry& carry) {
#if defined(ELSA_PLAIN_ADDERS)
    if constexpr (kLevel == Shape::kLevels) {
      over_ = carry.x;
      return;
    }
#else
    if constexpr (kLevel == Shape::kLevels - 1) {
      over_ = LastCarry(sum_[kLevel], carry);
      return;
    }
#endif
    if constexpr (kLevel < Shape::kLevels) {
      if constexpr (kIndex % 2 == 0) {
        waiting_[kLevel] = carry;
      } else {
        Push<kLevel + 1, kIndex / 2>(Combine(sum_[kLevel], waiting_[kLevel], carry));
      }
    }
  }

  const std::byte* table_;
  const std::byte* limits_;
  const std::uint16_t* patterns_;
  U32 sum_[Shape::kLevels];
  Carry waiting_[Shape::kLevels];
  U32 over_;
};

// Two queries take turns where registers last: one query's carries form chains.
inline constexpr int kQueriesAtOnce = kRegisters == 32 ? 2 : 1;

template <int kStep, int kBits>
ELSA_INLINE void AddAll(BitCounter<kBits>* counters, int count) {
  if constexpr (kStep < BitCounter<kBits>::kSteps) {
    for (int i = 0; i < count; ++i) counters[i].template Add<kStep>();
    AddAll<kStep + 1>(counters, count);
  }
}

template <int kBits>
void FilterBlockOf(const std::byte* table, const std::byte* limits, const std::uint16_t* patterns,
                   std::int64_t queries, std::uint64_t* masks, std::int64_t stride) {
  constexpr int kPatterns = FilterShape<kBits>::kPatterns;
  std::int64_t q = 0;
  if constexpr (kQueriesAtOnce == 2) {
    for (; q + 2 <= queries; q += 2) {
      BitCounter<kBits> pair[2] = {{table, limits, patterns + q * kPatterns},
                                   {table, limits, patterns + (q + 1) * kPatterns}};
      AddAll<0>(pair, 2);
      for (int i = 0; i < 2; ++i) {
        const U32 kept = pair[i].Kept();
        std::memcpy(masks + (q + i) * stride, &kept, sizeof(kept));
      }
    }
  }
  for (; q < queries; ++q) {
    BitCounter<kBits> counter(table, limits, patterns + q * kPatterns);
    AddAll<0>(&counter, 1);
    const U32 kept = counter.Kept();
    std::memcpy(masks + q * stride, &kept, sizeof(kept));
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_BIT_FILTER_H_
