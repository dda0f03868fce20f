// Sparse attention on 16-bit fixed point: scores and weighted sums by multiply-add of pairs, twice
// the products of an instruction of binary32 and half the bytes of a row.
//
// Keys have one scale per head, queries one each, so that norms are bounded: by Cauchy-Schwarz no
// sum of products can overflow 32 bits. Weights are relative to the largest and
// have 14 bits, values 12: 32 products of the largest fit, then sums go on in binary32.
#ifndef ELSA_CPU_KERNELS_SPARSE_INT16_H_
#define ELSA_CPU_KERNELS_SPARSE_INT16_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"
#include "elsa/cpu/kernels/sparse_quantize.h"
#include "elsa/cpu/kernels/sparse_scores.h"
#include "elsa/cpu/kernels/sparse_softmax.h"
#include "elsa/cpu/kernels/sparse_values.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// Row `index` of rows of `pitch` components.
ELSA_INLINE const std::byte* RowBytes(const std::int16_t* rows, std::ptrdiff_t pitch, int index) {
  return reinterpret_cast<const std::byte*>(rows) + index * (pitch * 2);
}

ELSA_INLINE I16 LoadI16(const std::byte* from) {
  I16 x;
  std::memcpy(&x, from, sizeof(x));
#if defined(__AVX2__) && !defined(__AVX512F__)
  asm("" : "+x"(x));  // one load for both uses: loads are the limit
#endif
  return x;
}

ELSA_INLINE I16 LoadI16(const std::int16_t* from) {
  return LoadI16(reinterpret_cast<const std::byte*>(from));
}

ELSA_INLINE F32 ToFloat(I32 x) { return __builtin_convertvector(x, F32); }

// sums[i] + a[2i] * b[2i] + a[2i + 1] * b[2i + 1]
ELSA_INLINE I32 AddPairProducts(I32 sums, I16 a, I16 b) {
#if defined(__AVX512VNNI__)
  return (I32)_mm512_dpwssd_epi32((__m512i)sums, (__m512i)a, (__m512i)b);
#elif defined(__AVX512F__)
  return sums + (I32)_mm512_madd_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return sums + (I32)_mm256_madd_epi16((__m256i)a, (__m256i)b);
#elif defined(__ARM_NEON)
  const int16x8_t x = (int16x8_t)a;
  const int16x8_t y = (int16x8_t)b;
  const int32x4_t low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
  const int32x4_t high = vmull_s16(vget_high_s16(x), vget_high_s16(y));
  return sums + (I32)vpaddq_s32(low, high);
#elif defined(__SSE2__)
  return sums + (I32)_mm_madd_epi16((__m128i)a, (__m128i)b);
#else
  for (int i = 0; i < kLanes; ++i) sums[i] += a[2 * i] * b[2 * i] + a[2 * i + 1] * b[2 * i + 1];
  return sums;
#endif
}

// a0 b0 a1 b1 a2 b2 a3 b3 of every 128 bits; High: a4 b4 ... a7 b7.
ELSA_INLINE I16 PairLow(I16 a, I16 b) {
#if defined(__AVX512F__)
  return (I16)_mm512_unpacklo_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (I16)_mm256_unpacklo_epi16((__m256i)a, (__m256i)b);
#else
  return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
#endif
}
ELSA_INLINE I16 PairHigh(I16 a, I16 b) {
#if defined(__AVX512F__)
  return (I16)_mm512_unpackhi_epi16((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (I16)_mm256_unpackhi_epi16((__m256i)a, (__m256i)b);
#else
  return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#endif
}

// ---- scores ----

#if defined(__AVX2__)

// 256 bits on every such target: as fast as 512 here, without a fold.
inline constexpr int kScoreLanes = 16;
typedef __m256i PairSums;

ELSA_INLINE __m256i ScoreVector(const std::int16_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}
ELSA_INLINE PairSums AddScoreProducts(PairSums sums, __m256i a, __m256i b) {
#if defined(__AVX512VNNI__)
  return _mm256_dpwssd_epi32(sums, a, b);
#else
  return _mm256_add_epi32(sums, _mm256_madd_epi16(a, b));
#endif
}
ELSA_INLINE PairSums FirstScoreProducts(__m256i a, __m256i b) { return _mm256_madd_epi16(a, b); }

ELSA_INLINE __m256i AddIntHalves(__m256i a, __m256i b) {
  return _mm256_add_epi32(_mm256_blend_epi32(a, b, 0xf0), _mm256_permute2x128_si256(a, b, 0x21));
}
ELSA_INLINE __m256i AddIntQuarters(__m256i a, __m256i b) {
  const __m256 cross =
      _mm256_shuffle_ps(_mm256_castsi256_ps(a), _mm256_castsi256_ps(b), _MM_SHUFFLE(1, 0, 3, 2));
  return _mm256_add_epi32(_mm256_blend_epi32(a, b, 0xcc), _mm256_castps_si256(cross));
}

// The eight sums of part(0) to part(7) times factor, plus offset, to (or added to) `scores`.
template <bool kAdd, typename PartAt>
ELSA_INLINE void ReduceEight(const PartAt& part, float factor, float offset, float* scores) {
  const __m256i a = AddIntQuarters(AddIntHalves(part(0), part(4)), AddIntHalves(part(1), part(5)));
  const __m256i b = AddIntQuarters(AddIntHalves(part(2), part(6)), AddIntHalves(part(3), part(7)));
  const __m256 sums = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_hadd_epi32(a, b)),
                                      _mm256_set1_ps(factor), _mm256_set1_ps(offset));
  _mm256_storeu_ps(scores, kAdd ? _mm256_add_ps(sums, _mm256_loadu_ps(scores)) : sums);
}

#else

inline constexpr int kScoreLanes = 2 * kLanes;
typedef I32 PairSums;

ELSA_INLINE I16 ScoreVector(const std::int16_t* from) { return LoadI16(from); }
ELSA_INLINE PairSums AddScoreProducts(PairSums sums, I16 a, I16 b) {
  return AddPairProducts(sums, a, b);
}
ELSA_INLINE PairSums FirstScoreProducts(I16 a, I16 b) { return AddPairProducts(I32{}, a, b); }

template <bool kAdd, typename PartAt>
ELSA_INLINE void ReduceEight(const PartAt& part, float factor, float offset, float* scores) {
  const auto pair = [&](I32 a, I32 b) {
    return __builtin_shufflevector(a, b, 0, 1, 6, 7) + __builtin_shufflevector(a, b, 2, 3, 4, 5);
  };
  for (int half = 0; half < 8; half += 4) {
    const I32 a = pair(part(half), part(half + 1));
    const I32 b = pair(part(half + 2), part(half + 3));
    const I32 whole =
        __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
    F32 sums = ToFloat(whole) * Splat(factor) + Splat(offset);
    if (kAdd) sums += Load(scores + half);
    Store(scores + half, sums);
  }
}

#endif

template <int kVectors, bool kAdd>
ELSA_INLINE void ScoreGroups16(const std::int16_t* query, const std::int16_t* key,
                               std::ptrdiff_t pitch, float factor, const std::uint16_t* list,
                               int from, int to, float* scores) {
  decltype(ScoreVector(query)) q[kVectors];
  for (int v = 0; v < kVectors; ++v) q[v] = ScoreVector(query + v * kScoreLanes);
  for (int j = from; j < to; j += 8) {
    const auto part = [&](int i) {
      const std::int16_t* row = key + list[j + i] * pitch;
      PairSums sums = FirstScoreProducts(q[0], ScoreVector(row));
      for (int v = 1; v < kVectors; ++v) {
        sums = AddScoreProducts(sums, q[v], ScoreVector(row + v * kScoreLanes));
      }
      return sums;
    };
    ReduceEight<kAdd>(part, factor, 0, scores + j);
  }
}

template <int kD, int kFrom>
ELSA_INLINE void ScoreRows16(const std::int16_t* query, const std::int16_t* key, float factor,
                             const std::uint16_t* list, int from, int to, float* scores) {
  constexpr int kLeft = (kD - kFrom) / kScoreLanes;
  constexpr int kVectors = kLeft < 8 ? kLeft : 8;
  ScoreGroups16<kVectors, (kFrom > 0)>(query + kFrom, key + kFrom, kD, factor, list, from, to,
                                       scores);
  constexpr int kNext = kFrom + kVectors * kScoreLanes;
  if constexpr (kNext < kD) ScoreRows16<kD, kNext>(query, key, factor, list, from, to, scores);
}

ELSA_INLINE void ScoreAnyRows16(const std::int16_t* query, const std::int16_t* key, int d,
                                float factor, const std::uint16_t* list, int from, int to,
                                float* scores) {
  ScoreGroups16<32 / kScoreLanes, false>(query, key, d, factor, list, from, to, scores);
  for (int c = 32; c < d; c += 32) {
    ScoreGroups16<32 / kScoreLanes, true>(query + c, key + c, d, factor, list, from, to, scores);
  }
}

template <int kD>  // 0: any
void ScoreSweep16(const SparseTile t) {
  const int stride = t.words + 1;
  for (int word = 0; word < t.words; word += t.key_block) {
    const int end = word + t.key_block < t.words ? word + t.key_block : t.words;
    BlockPrefetch prefetch(t, t.key16, 2 * static_cast<std::size_t>(t.d), end, t.key_block);
    for (int i = 0; i < t.queries; ++i) {
      prefetch.Step();
      const int from = (t.start[i * stride + word] + 7) & ~7;
      const int to = (t.start[i * stride + end] + 7) & ~7;
      if (from >= to) continue;
      const std::int16_t* query = t.query16 + static_cast<std::ptrdiff_t>(i) * t.d;
      const std::uint16_t* list = t.list + t.offset[i];
      float* scores = t.score + t.offset[i];
      const float factor = t.query_factor[i];
      if constexpr (kD == 0) {
        ScoreAnyRows16(query, t.key16, t.d, factor, list, from, to, scores);
      } else {
        ScoreRows16<kD, 0>(query, t.key16, factor, list, from, to, scores);
      }
    }
  }
}

inline void Scores16(const SparseTile& tile) {
  switch (tile.d) {
    case 32:
      return ScoreSweep16<32>(tile);
    case 64:
      return ScoreSweep16<64>(tile);
    case 80:
      return ScoreSweep16<80>(tile);
    case 96:
      return ScoreSweep16<96>(tile);
    case 128:
      return ScoreSweep16<128>(tile);
    default:
      return ScoreSweep16<0>(tile);
  }
}

// ---- softmax ----

// Scores become weights of 16 bits, in the same memory, packed; zeros behind the last up to the
// next multiple of 2 * kLanes. Returns the sum before rounding.
ELSA_INLINE float Weights16(float* scores, int count, float largest) {
  const F32 shift = Splat(largest);
  const F32 one = Splat(kWeightOne);
  auto* to = reinterpret_cast<std::byte*>(scores);
  F32 sum[2] = {};
  for (int j = 0; j < count; j += 2 * kLanes) {
    F32 weight[2] = {Load(scores + j) - shift, Load(scores + j + kLanes) - shift};
    Exp2(weight);
    if (j + 2 * kLanes > count) {
      weight[0] = Choose(LanesBelow(count - j), weight[0], F32{});
      weight[1] = Choose(LanesBelow(count - j - kLanes), weight[1], F32{});
    }
    sum[0] += weight[0];
    sum[1] += weight[1];
    const I16 packed = Narrow(Round(weight[0] * one), Round(weight[1] * one));
    std::memcpy(to + static_cast<std::ptrdiff_t>(j) * 2, &packed, sizeof(packed));
  }
  return QuickAdd(sum[0] + sum[1]);
}

inline void Softmax16(const SparseTile& t) {
  SoftmaxSweep(
      t, [](float* scores, int count, float largest) { return Weights16(scores, count, largest); });
}

// ---- values ----

template <int kVectors>  // of 2 * kLanes components
ELSA_INLINE void AddValues16(const std::int16_t* value, std::ptrdiff_t pitch,
                             const std::uint16_t* list, const std::int16_t* weights, int from,
                             int to, float* out) {
  I32 sums[2 * kVectors] = {};
  for (int j = from; j < to; j += 2) {
    const std::byte* a = RowBytes(value, pitch, list[j]);
    const std::byte* b = RowBytes(value, pitch, list[j + 1]);
    std::int32_t pair;
    std::memcpy(&pair, weights + j, sizeof(pair));
    const I16 both = (I16)SplatInt(pair);
    for (int v = 0; v < kVectors; ++v) {
      const I16 x = LoadI16(a + 4 * v * kLanes);
      const I16 y = LoadI16(b + 4 * v * kLanes);
      sums[2 * v] = AddPairProducts(sums[2 * v], both, PairLow(x, y));
      sums[2 * v + 1] = AddPairProducts(sums[2 * v + 1], both, PairHigh(x, y));
    }
  }
  for (int v = 0; v < 2 * kVectors; ++v) {
    Store(out + v * kLanes, Load(out + v * kLanes) + ToFloat(sums[v]));
  }
}

template <int kD>  // 0: any
void ValueSweep16(const SparseTile t) {
  constexpr int kVectors = PassVectors((kD == 0 ? 32 : kD) / kLanes / 2, kRegisters * 3 / 8);
  const int stride = t.words + 1;
  const int d_v = kD == 0 ? t.d_v : kD;
  for (int word = 0; word < t.words; word += t.value_block) {
    const int end = word + t.value_block < t.words ? word + t.value_block : t.words;
    BlockPrefetch prefetch(t, t.value16, 2 * static_cast<std::size_t>(t.d_v), end, t.value_block);
    float* out = t.out;
    const std::uint16_t* start = t.start;
    for (int i = 0; i < t.queries; ++i) {
      prefetch.Step();
      // Pairs belong to the block in which their first candidate lies.
      const int from = (start[word] + 1) & ~1;
      const int to = (start[end] + 1) & ~1;
      const std::uint16_t* list = t.list + t.offset[i];
      const auto* weights = reinterpret_cast<const std::int16_t*>(t.score + t.offset[i]);
      const int step = t.weights[i] < kSafeWeights ? to - from : kWeightsAtOnce;
      for (int first = from; first < to; first += step) {
        const int last = first + step < to ? first + step : to;
        for (int c = 0; c < d_v; c += 2 * kVectors * kLanes) {
          AddValues16<kVectors>(t.value16 + c, d_v, list, weights, first, last, out + c);
        }
      }
      out += d_v;
      start += stride;
    }
  }
}

inline void Values16(const SparseTile& tile) {
  switch (tile.d_v) {
    case 32:
      return ValueSweep16<32>(tile);
    case 64:
      return ValueSweep16<64>(tile);
#if !defined(__AVX512F__)
    case 80:
      return ValueSweep16<80>(tile);
#endif
    case 96:
      return ValueSweep16<96>(tile);
    case 128:
      return ValueSweep16<128>(tile);
    default:
      return ValueSweep16<0>(tile);
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_INT16_H_
