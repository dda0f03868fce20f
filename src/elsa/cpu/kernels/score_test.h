// Tests on estimated scores, number by number, where no integer cut-off serves: the gap rule and
// the bias in the test. The expressions and their order are those of reference/selection.cc.
// Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_SCORE_TEST_H_
#define ELSA_CPU_KERNELS_SCORE_TEST_H_

#include "elsa/cpu/kernels/load_rows.h"
#include "elsa/cpu/kernels/parts.h"
#include "elsa/cpu/kernels/row_filter.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// Bit i: whether lane i is true (all ones; else 0).
ELSA_INLINE std::uint32_t BitsOf(I32 lanes) {
#if defined(__AVX512F__)
  return _mm512_movepi32_mask((__m512i)lanes);
#elif defined(__AVX2__)
  return static_cast<std::uint32_t>(_mm256_movemask_ps((__m256)lanes));
#elif defined(__SSE2__)
  return static_cast<std::uint32_t>(_mm_movemask_ps((__m128)lanes));
#else
  std::uint32_t bits = 0;
  for (int i = 0; i < kLanes; ++i) bits |= (lanes[i] != 0 ? 1u : 0u) << i;
  return bits;
#endif
}

// Lane i true: bit i.
ELSA_INLINE I32 LanesOf(std::uint64_t bits) {
  I32 bit{};
  for (int i = 0; i < kLanes; ++i) bit[i] = 1 << i;
  return (SplatInt(static_cast<std::int32_t>(bits)) & bit) != 0;
}

// Words of a mask from test(vector number, lanes): the lanes that pass.
template <typename Test>
ELSA_INLINE void MaskWords(std::int64_t count, std::uint64_t* mask, const Test& test) {
  for (std::int64_t first = 0; first < count; first += 64) {
    std::uint64_t bits = 0;
    for (int i = 0; i < 64 && first + i < count; i += kLanes) {
      const std::int64_t left = count - first - i;
      const int here = static_cast<int>(left < kLanes ? left : kLanes);
      const std::uint64_t passed = BitsOf(test(first + i, here));
      bits |= (passed & ((std::uint64_t{1} << here) - 1)) << i;
    }
    mask[first / 64] = bits;
  }
}

// scores[j] = scale * similarities[j] + bias[j], or without the sum if bias is null.
inline void Scores(const float* similarities, float scale, const float* bias, std::int64_t count,
                   float* scores) {
  for (std::int64_t j = 0; j < count; j += kLanes) {
    const std::int64_t left = count - j;
    const int here = static_cast<int>(left < kLanes ? left : kLanes);
    F32 score = Splat(scale) * LoadUpTo(similarities + j, here);
    if (bias != nullptr) score = score + LoadUpTo(bias + j, here);
    StoreUpTo(scores + j, score, here);
  }
}

// Bit j: scale * (similarities[j] - cut) + bias[j] > 0.
inline void BiasTest(const float* similarities, float scale, float cut, const float* bias,
                     std::int64_t count, std::uint64_t* mask) {
  MaskWords(count, mask, [&](std::int64_t j, int here) {
    const F32 above = Splat(scale) * (LoadUpTo(similarities + j, here) - cut);
    return above + LoadUpTo(bias + j, here) > 0.0f;
  });
}

// Bit j: best - scores[j] < limit.
inline void GapTest(const float* scores, float best, float limit, std::int64_t count,
                    std::uint64_t* mask) {
  MaskWords(count, mask, [&](std::int64_t j, int here) {
    return Splat(best) - LoadUpTo(scores + j, here) < limit;
  });
}

// The first of the largest among the values whose bit is set, as a loop that goes on to a later one
// only where it is greater: if the first value is NaN, that. -1 if no bit is set.
inline std::int64_t FirstLargest(const float* values, const std::uint64_t* chosen,
                                 std::int64_t count) {
  std::int64_t first = -1;
  F32 most = Splat(-__builtin_inff());
  for (std::int64_t w = 0; 64 * w < count; ++w) {
    const std::uint64_t bits = chosen[w];
    if (bits == 0) continue;
    if (first < 0) {
      first = 64 * w + __builtin_ctzll(bits);
      if (values[first] != values[first]) return first;
    }
    for (int i = 0; i < 64 && 64 * w + i < count; i += kLanes) {
      const std::int64_t left = count - 64 * w - i;
      const F32 x = LoadUpTo(values + 64 * w + i, static_cast<int>(left < kLanes ? left : kLanes));
      const I32 greater = (x > most) & LanesOf(bits >> i);
      most = (F32)((greater & (I32)x) | (~greater & (I32)most));
    }
  }
  if (first < 0) return -1;
  const float best = ReduceMax(most);
  for (std::int64_t w = first / 64; 64 * w < count; ++w) {
    for (std::uint64_t bits = chosen[w]; bits != 0; bits &= bits - 1) {
      const std::int64_t j = 64 * w + __builtin_ctzll(bits);
      if (values[j] == best) return j;
    }
  }
  return first;
}

// Bit i: byte i of 64 is not 0.
ELSA_INLINE std::uint64_t NonzeroBytes(const std::uint8_t* bytes) {
#if defined(__AVX2__)
  std::uint64_t zeros = 0;
  for (int i = 0; i < 64; i += 32) {
    const __m256i x = _mm256_loadu_si256((const __m256i*)(bytes + i));
    const __m256i zero = _mm256_cmpeq_epi8(x, _mm256_setzero_si256());
    zeros |= std::uint64_t{static_cast<std::uint32_t>(_mm256_movemask_epi8(zero))} << i;
  }
  return ~zeros;
#else
  std::uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) {
    std::uint64_t x;
    std::memcpy(&x, bytes + 8 * i, sizeof(x));
    // The top bit of each byte: whether the byte is not 0.
    x = (((x & 0x7f7f7f7f7f7f7f7f) + 0x7f7f7f7f7f7f7f7f) | x) & 0x8080808080808080;
    bits |= ((x >> 7) * 0x0102040810204080) >> 56 << (8 * i);
  }
  return bits;
#endif
}

// Bit j: mask[j] is not 0.
inline void MaskBits(const std::uint8_t* mask, std::int64_t count, std::uint64_t* bits) {
  std::int64_t first = 0;
  for (; first + 64 <= count; first += 64) bits[first / 64] = NonzeroBytes(mask + first);
  if (first == count) return;
  std::uint8_t part[64] = {};
  std::memcpy(part, mask + first, static_cast<std::size_t>(count - first));
  bits[first / 64] = NonzeroBytes(part);
}

// Values of a row as binary32.
template <RowType kType>
ELSA_INLINE void WidenOf(const std::byte* row, std::int64_t count, float* to) {
  for (std::int64_t j = 0; j < count; j += kLanes) {
    const std::int64_t left = count - j;
    const int here = static_cast<int>(left < kLanes ? left : kLanes);
    StoreUpTo(to + j, LoadValues<kType>(row, j, here), here);
  }
}

inline void WidenRow(const std::byte* row, int dtype, std::int64_t count, float* to) {
  if (dtype == kRowF32) return WidenOf<kRowF32>(row, count, to);
  if (dtype == kRowF16) return WidenOf<kRowF16>(row, count, to);
  WidenOf<kRowBf16>(row, count, to);
}

// Bit j: not values[j] <= limit; NaN passes.
inline void AboveBits(const float* values, float limit, std::int64_t count, std::uint64_t* bits) {
  MaskWords(count, bits,
            [&](std::int64_t j, int here) { return ~(LoadUpTo(values + j, here) <= limit); });
}

// Clears the bits from `end` on, and those that are not in `visible` unless that is null, in
// `words` words. Returns how many ones are left.
inline std::int64_t KeepVisible(std::uint64_t* mask, const std::uint64_t* visible, std::int64_t end,
                                std::int64_t words) {
  const std::int64_t whole = end / 64 < words ? end / 64 : words;
  std::int64_t count = 0;
  for (std::int64_t w = 0; w < whole; ++w) {
    if (visible != nullptr) mask[w] &= visible[w];
    count += CountOnes(mask[w]);
  }
  if (whole == words) return count;
  mask[whole] &= (std::uint64_t{1} << (end % 64)) - 1;
  if (visible != nullptr) mask[whole] &= visible[whole];
  count += CountOnes(mask[whole]);
  for (std::int64_t w = whole + 1; w < words; ++w) mask[w] = 0;
  return count;
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SCORE_TEST_H_
