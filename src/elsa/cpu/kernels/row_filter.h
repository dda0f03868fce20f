// Distances of one query to keys whose hashes lie in rows, and what follows from them: the filter
// for any length of hash, and similarities as numbers. Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_ROW_FILTER_H_
#define ELSA_CPU_KERNELS_ROW_FILTER_H_

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

ELSA_INLINE int CountOnes(std::uint64_t x) {
#if defined(__POPCNT__) || defined(__ARM_NEON)
  return __builtin_popcountll(x);
#else
  x -= (x >> 1) & 0x5555555555555555;
  x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
  return static_cast<int>((x * 0x0101010101010101) >> 56);
#endif
}

// kWords = 0: `words` of them.
template <int kWords>
ELSA_INLINE int DistanceOf(const std::uint64_t* query, const std::uint64_t* key,
                           std::int64_t words) {
  int distance = 0;
  for (std::int64_t w = 0; w < (kWords > 0 ? kWords : words); ++w) {
    distance += CountOnes(query[w] ^ key[w]);
  }
  return distance;
}

#if defined(__AVX2__)

// The ones of each of 16 words ^ the repeated query, in order, 16 bits each.
ELSA_INLINE __m256i CountWords(const std::uint64_t* x, __m256i query) {
  const __m256i nibble = _mm256_set1_epi8(15);
  const __m256i ones = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                        1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  __m256i sums[4];  // of 4 words, 64 bits each
  for (int i = 0; i < 4; ++i) {
    const __m256i bits = _mm256_xor_si256(_mm256_loadu_si256((const __m256i*)(x + 4 * i)), query);
    const __m256i low = _mm256_shuffle_epi8(ones, _mm256_and_si256(bits, nibble));
    const __m256i high = _mm256_and_si256(_mm256_srli_epi16(bits, 4), nibble);
    const __m256i bytes = _mm256_add_epi8(low, _mm256_shuffle_epi8(ones, high));
    sums[i] = _mm256_sad_epu8(bytes, _mm256_setzero_si256());
  }
  const __m256i a = _mm256_packus_epi32(sums[0], sums[1]);
  const __m256i b = _mm256_packus_epi32(sums[2], sums[3]);
  // Words 0 1 4 5 8 9 12 13 in the lower half, 2 3 6 7 10 11 14 15 in the upper one.
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi32(a, b),
                                     _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}

ELSA_INLINE __m256i AddPairs(__m256i a, __m256i b) {
  return _mm256_permute4x64_epi64(_mm256_hadd_epi16(a, b), 0xd8);
}

// The distances of 16 keys in order, 16 bits each.
template <int kWords>
ELSA_INLINE __m256i Distances16(const std::uint64_t* keys, __m256i query) {
  const __m256i a = CountWords(keys, query);
  if constexpr (kWords == 1) return a;
  const __m256i ab = AddPairs(a, CountWords(keys + 16, query));
  if constexpr (kWords == 2) return ab;
  const __m256i c = CountWords(keys + 32, query);
  return AddPairs(ab, AddPairs(c, CountWords(keys + 48, query)));
}

template <int kWords>
ELSA_INLINE __m256i Repeat(const std::uint64_t* query) {
  std::uint64_t repeated[4];
  for (int i = 0; i < 4; ++i) repeated[i] = query[i % kWords];
  return _mm256_loadu_si256((const __m256i*)repeated);
}

// The bits of 64 keys.
template <int kWords>
ELSA_INLINE std::uint64_t Filter64(const std::uint64_t* query, const std::uint64_t* keys,
                                   const std::int16_t* cut_offs) {
  const __m256i q = Repeat<kWords>(query);
  std::uint64_t dropped = 0;
  for (int i = 0; i < 64; i += 32) {
    __m256i beyond[2];
    for (int half = 0; half < 2; ++half) {
      const int at = i + 16 * half;
      const __m256i cut = _mm256_loadu_si256((const __m256i*)(cut_offs + at));
      beyond[half] = _mm256_cmpgt_epi16(Distances16<kWords>(keys + at * kWords, q), cut);
    }
    const __m256i bytes = _mm256_permute4x64_epi64(_mm256_packs_epi16(beyond[0], beyond[1]), 0xd8);
    const auto bits = static_cast<std::uint32_t>(_mm256_movemask_epi8(bytes));
    dropped |= std::uint64_t{bits} << i;
  }
  return ~dropped;
}

#elif defined(__ARM_NEON)

// Ones per byte of 2 words ^ query.
ELSA_INLINE uint8x16_t CountBytes(const std::uint64_t* x, uint64x2_t query) {
  return vcntq_u8(vreinterpretq_u8_u64(veorq_u64(vld1q_u64(x), query)));
}

// The bits of 64 keys of one word.
template <int kWords>
ELSA_INLINE std::uint64_t Filter64(const std::uint64_t* query, const std::uint64_t* keys,
                                   const std::int16_t* cut_offs) {
  static_assert(kWords == 1);
  const uint64x2_t q = vdupq_n_u64(query[0]);
  const std::uint16_t weights[8] = {1, 2, 4, 8, 16, 32, 64, 128};
  const uint16x8_t weight = vld1q_u16(weights);
  std::uint64_t bits = 0;
  for (int i = 0; i < 64; i += 8) {
    const uint8x16_t a = vpaddq_u8(CountBytes(keys + i, q), CountBytes(keys + i + 2, q));
    const uint8x16_t b = vpaddq_u8(CountBytes(keys + i + 4, q), CountBytes(keys + i + 6, q));
    const int16x8_t distance = vreinterpretq_s16_u16(vpaddlq_u8(vpaddq_u8(a, b)));
    const uint16x8_t kept = vcleq_s16(distance, vld1q_s16(cut_offs + i));
    bits |= std::uint64_t{vaddvq_u16(vandq_u16(kept, weight))} << i;
  }
  return bits;
}

#endif

template <int kWords>
void FilterRowsOf(const std::uint64_t* query, const std::uint64_t* keys,
                  const std::int16_t* cut_offs, std::int64_t count, std::int64_t words,
                  std::uint64_t* mask) {
  const std::int64_t step = kWords > 0 ? kWords : words;
  std::int64_t first = 0;
#if defined(__AVX512VPOPCNTDQ__)
  if constexpr (kWords == 1) {
    const __m512i q = _mm512_set1_epi64(static_cast<long long>(query[0]));
    for (; first + 64 <= count; first += 64) {
      std::uint64_t bits = 0;
      for (int i = 0; i < 8; ++i) {
        const __m512i x = _mm512_loadu_si512(keys + first + 8 * i);
        const __m512i distance = _mm512_popcnt_epi64(_mm512_xor_si512(x, q));
        const __m128i cut = _mm_loadu_si128((const __m128i*)(cut_offs + first + 8 * i));
        const __mmask8 kept = _mm512_cmple_epi64_mask(distance, _mm512_cvtepi16_epi64(cut));
        bits |= std::uint64_t{kept} << (8 * i);
      }
      mask[first / 64] = bits;
    }
  }
#endif
#if defined(__AVX2__) || defined(__ARM_NEON)
#if defined(__AVX2__)
  constexpr bool kWide = kWords > 0;
#else
  constexpr bool kWide = kWords == 1;
#endif
  if constexpr (kWide) {
    for (; first + 64 <= count; first += 64) {
      mask[first / 64] = Filter64<kWords>(query, keys + first * kWords, cut_offs + first);
    }
  }
#endif
  for (; first < count; first += 64) {
    const std::int64_t here = count - first < 64 ? count - first : 64;
    const std::uint64_t* key = keys + first * step;
    std::uint64_t bits = 0;
    for (std::int64_t j = here; j-- > 0;) {
      const bool kept = DistanceOf<kWords>(query, key + j * step, words) <= cut_offs[first + j];
      bits = bits + bits + (kept ? 1 : 0);
    }
    mask[first / 64] = bits;
  }
}

inline void FilterRows(const std::uint64_t* query, const std::uint64_t* keys,
                       const std::int16_t* cut_offs, std::int64_t count, std::int64_t words,
                       std::uint64_t* mask) {
  if (words == 1) return FilterRowsOf<1>(query, keys, cut_offs, count, words, mask);
  if (words == 2) return FilterRowsOf<2>(query, keys, cut_offs, count, words, mask);
  if (words == 4) return FilterRowsOf<4>(query, keys, cut_offs, count, words, mask);
  FilterRowsOf<0>(query, keys, cut_offs, count, words, mask);
}

ELSA_INLINE F32 Lookup(const float* table, I32 index) {
#if defined(__AVX512F__)
  return (F32)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
  return (F32)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
  F32 x{};
  for (int i = 0; i < kLanes; ++i) x[i] = table[index[i]];
  return x;
#endif
}

template <int kWords>
void SimilaritiesOf(const std::uint64_t* query, const std::uint64_t* keys, const float* norms,
                    const float* cosines, std::int64_t count, std::int64_t words, float* to) {
  const std::int64_t step = kWords > 0 ? kWords : words;
  std::int64_t j = 0;
#if defined(__AVX2__)
  if constexpr (kWords > 0) {
    const __m256i q = Repeat<kWords>(query);
    for (; j + 16 <= count; j += 16) {
      const __m256i distances = Distances16<kWords>(keys + j * kWords, q);
#if defined(__AVX512F__)
      const I32 distance = (I32)_mm512_cvtepu16_epi32(distances);
      Store(to + j, Load(norms + j) * Lookup(cosines, distance));
#else
      const I32 low = (I32)_mm256_cvtepu16_epi32(_mm256_castsi256_si128(distances));
      const I32 high = (I32)_mm256_cvtepu16_epi32(_mm256_extracti128_si256(distances, 1));
      Store(to + j, Load(norms + j) * Lookup(cosines, low));
      Store(to + j + 8, Load(norms + j + 8) * Lookup(cosines, high));
#endif
    }
  }
#endif
  for (; j + kLanes <= count; j += kLanes) {
    std::int32_t distances[kLanes];
    for (int i = 0; i < kLanes; ++i) {
      distances[i] = DistanceOf<kWords>(query, keys + (j + i) * step, words);
    }
    I32 distance;
    std::memcpy(&distance, distances, sizeof(distance));
    Store(to + j, Load(norms + j) * Lookup(cosines, distance));
  }
  for (; j < count; ++j) {
    to[j] = norms[j] * cosines[DistanceOf<kWords>(query, keys + j * step, words)];
  }
}

inline void Similarities(const std::uint64_t* query, const std::uint64_t* keys, const float* norms,
                         const float* cosines, std::int64_t count, std::int64_t words,
                         float* similarities) {
  if (words == 1) {
    return SimilaritiesOf<1>(query, keys, norms, cosines, count, words, similarities);
  }
  if (words == 2) {
    return SimilaritiesOf<2>(query, keys, norms, cosines, count, words, similarities);
  }
  if (words == 4) {
    return SimilaritiesOf<4>(query, keys, norms, cosines, count, words, similarities);
  }
  SimilaritiesOf<0>(query, keys, norms, cosines, count, words, similarities);
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_ROW_FILTER_H_
