// Scores of sparse attention from 8-bit keys and queries: half the bytes of a 16-bit row, and
// instructions of four products. Keys are stored unsigned, 128 more than their value; what that
// adds to a sum of products, 128 times the sum of the query, is the same for every key of a query
// and taken off at the end. Only for targets with such instructions.
#ifndef ELSA_CPU_KERNELS_SPARSE_INT8_H_
#define ELSA_CPU_KERNELS_SPARSE_INT8_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"
#include "elsa/cpu/kernels/sparse_int16.h"
#include "elsa/cpu/kernels/sparse_quantize.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

#if defined(__AVX2__)

// a1 a0 a3 a2 ...
ELSA_INLINE F32 SwapNeighbours(F32 x) {
#if defined(__AVX512F__)
  return (F32)_mm512_permute_ps((__m512)x, 0xb1);
#else
  return (F32)_mm256_permute_ps((__m256)x, 0xb1);
#endif
}

// How large a query is, and so the unit of its components in 8 bits.
struct QuerySize8 {
  F32 largest{};
#if !defined(__AVX512VNNI__)
  F32 largest_pair{};
#endif

  ELSA_INLINE void Add(F32 x) {
    largest = Max(largest, Magnitude(x));
#if !defined(__AVX512VNNI__)
    // Two products are added in 16 bits: 255 times two neighbours of one sign has to fit.
    const F32 above = Max(x, F32{});
    const F32 below = Max(-x, F32{});
    largest_pair = Max(largest_pair, above + SwapNeighbours(above));
    largest_pair = Max(largest_pair, below + SwapNeighbours(below));
#endif
  }
  ELSA_INLINE float Unit() const {
    const float unit = QuickMax(largest) * (1 / 127.0f);
#if !defined(__AVX512VNNI__)
    const float pair = QuickMax(largest_pair) * (1 / 127.4f);  // 128 when each is rounded
    if (pair > unit) return pair;
#endif
    return unit;
  }
};

// Whole numbers within 8 bits as such, each plus `offset`, modulo 256.
ELSA_INLINE void StoreBytes(std::uint8_t* to, I32 x, std::uint8_t offset) {
#if defined(__AVX512F__)
  const __m256i half = (__m256i)NarrowHalf(x);
  const __m256i twice = _mm256_permute4x64_epi64(_mm256_packs_epi16(half, half), 0x08);
  const __m128i bytes = _mm256_castsi256_si128(twice);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to),
                   _mm_add_epi8(bytes, _mm_set1_epi8(static_cast<char>(offset))));
#else
  const __m128i half = (__m128i)NarrowHalf(x);
  const __m128i bytes = _mm_packs_epi16(half, half);
  _mm_storel_epi64(reinterpret_cast<__m128i*>(to),
                   _mm_add_epi8(bytes, _mm_set1_epi8(static_cast<char>(offset))));
#endif
}

// Rows of `padded` bytes, a multiple of 32; rows.padded is not used.
inline void QuantizeKeys8(const SparseRows& rows, int padded, std::uint8_t* to) {
  SparseRows wide = rows;
  wide.padded = padded;
  const F32 scale = Splat(rows.scale);
  WithElement(rows.element, [&](auto e) {
    for (int i = 0; i < rows.count; ++i) {
      ForRow<decltype(e)>(wide, i,
                          [&](int c, F32 x) { StoreBytes(to + c, Round(x * scale), 128); });
      to += padded;
    }
  });
}

// As QuantizeQueries; offset[i] is what is to be added to the integer products of query i.
inline void QuantizeQueries8(const float* rows, int count, int d, int padded, std::int8_t* to,
                             float* factor, float* offset) {
  for (int i = 0; i < count; ++i) {
    QuerySize8 size;
    F32 zero{};  // NaN if an element is not finite
    for (int c = 0; c < d; c += kLanes) {
      const F32 x = Load(rows + c);
      size.Add(x);
      zero += x * Splat(0);
    }
    const float unit = size.Unit();
    const float finite = QuickAdd(zero);
    const bool usable = unit > 1e-30f && finite == 0;
    factor[i] = usable ? unit : finite;
    const F32 inverse = Splat(usable ? 1 / unit : 0.0f);
    std::memset(to, 0, static_cast<std::size_t>(padded));
    I32 sum{};
    for (int c = 0; usable && c < d; c += kLanes) {
      const I32 whole = Round(Load(rows + c) * inverse);
      sum += whole;
      StoreBytes(reinterpret_cast<std::uint8_t*>(to) + c, whole, 0);
    }
    offset[i] = -128 * QuickAdd(ToFloat(sum));
    rows += d;
    to += padded;
  }
}

ELSA_INLINE PairSums AddByteProducts(PairSums sums, __m256i key, __m256i query) {
#if defined(__AVX512VNNI__)
  return _mm256_dpbusd_epi32(sums, key, query);
#else
  const __m256i pairs = _mm256_maddubs_epi16(key, query);
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#endif
}
ELSA_INLINE PairSums FirstByteProducts(__m256i key, __m256i query) {
#if defined(__AVX512VNNI__)
  return _mm256_dpbusd_epi32(_mm256_setzero_si256(), key, query);
#else
  return _mm256_madd_epi16(_mm256_maddubs_epi16(key, query), _mm256_set1_epi16(1));
#endif
}

ELSA_INLINE __m256i LoadBytes(const void* from) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(from));
}

template <int kVectors>
ELSA_INLINE void ScoreRows8(const std::int8_t* query, const std::uint8_t* key, std::size_t pitch,
                            float factor, float offset, const std::uint16_t* list, int from, int to,
                            float* scores) {
  __m256i q[kVectors];
  for (int v = 0; v < kVectors; ++v) q[v] = LoadBytes(query + v * 32);
  for (int j = from; j < to; j += 8) {
    const auto part = [&](int i) {
      const std::uint8_t* row = key + list[j + i] * pitch;
      PairSums sums = FirstByteProducts(LoadBytes(row), q[0]);
      for (int v = 1; v < kVectors; ++v) {
        sums = AddByteProducts(sums, LoadBytes(row + v * 32), q[v]);
      }
      return sums;
    };
    ReduceEight<false>(part, factor, offset, scores + j);
  }
}

template <int kVectors>
void ScoreSweep8(const SparseTile t) {
  const auto pitch = static_cast<std::size_t>(t.d8);
  for (int word = 0; word < t.words; word += t.key_block) {
    const int end = word + t.key_block < t.words ? word + t.key_block : t.words;
    BlockPrefetch prefetch(t, t.key8, pitch, end, t.key_block);
    for (int i = 0; i < t.queries; ++i) {
      prefetch.Step();
      const std::uint16_t* start = t.start + i * (t.words + 1);
      const int from = (start[word] + 7) & ~7;
      const int to = (start[end] + 7) & ~7;
      if (from >= to) continue;
      const float factor = t.query_factor[i];
      ScoreRows8<kVectors>(t.query8 + i * pitch, t.key8, kVectors * 32, factor,
                           t.query_offset[i] * factor, t.list + t.offset[i], from, to,
                           t.score + t.offset[i]);
    }
  }
}

inline void Scores8(const SparseTile& tile) {
  switch (tile.d8 / 32) {
    case 1:
      return ScoreSweep8<1>(tile);
    case 2:
      return ScoreSweep8<2>(tile);
    case 3:
      return ScoreSweep8<3>(tile);
    case 4:
      return ScoreSweep8<4>(tile);
    case 5:
      return ScoreSweep8<5>(tile);
    case 6:
      return ScoreSweep8<6>(tile);
    case 7:
      return ScoreSweep8<7>(tile);
    default:
      return ScoreSweep8<8>(tile);
  }
}

#endif

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_INT8_H_
