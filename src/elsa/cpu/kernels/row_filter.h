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
  FilterRowsOf<0>(query, keys, cut_offs, count, words, mask);
}

ELSA_INLINE F32 Lookup(const float* table, I32 index) {
#if defined(__AVX512F__)
  return (F32)_mm512_i32gather_ps((__m512i)index, table, 4);
#elif defined(__AVX2__)
  return (F32)_mm256_i32gather_ps(table, (__m256i)index, 4);
#else
  F32 x;
  for (int i = 0; i < kLanes; ++i) x[i] = table[index[i]];
  return x;
#endif
}

template <int kWords>
void SimilaritiesOf(const std::uint64_t* query, const std::uint64_t* keys, const float* norms,
                    const float* cosines, std::int64_t count, std::int64_t words, float* to) {
  const std::int64_t step = kWords > 0 ? kWords : words;
  std::int64_t j = 0;
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
  SimilaritiesOf<0>(query, keys, norms, cosines, count, words, similarities);
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_ROW_FILTER_H_
