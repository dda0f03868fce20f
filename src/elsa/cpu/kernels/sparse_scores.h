// Scores of gathered key rows, binary32: eight rows at a time, whose dot products are reduced
// together by a tree of blends and shuffles.
#ifndef ELSA_CPU_KERNELS_SPARSE_SCORES_H_
#define ELSA_CPU_KERNELS_SPARSE_SCORES_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// Vectors of a query that stay in registers while rows stream past.
inline constexpr int kQueryVectors = kRegisters / 2;

#if defined(__AVX2__)

typedef __m256 Part;  // what is left of a row's products before the tree

// [sum of a's halves | sum of b's halves]
ELSA_INLINE __m256 AddHalves(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_blend_ps(a, b, 0xf0), _mm256_permute2f128_ps(a, b, 0x21));
}
// The same for the halves of both 128-bit lanes.
ELSA_INLINE __m256 AddQuarters(__m256 a, __m256 b) {
  return _mm256_add_ps(_mm256_blend_ps(a, b, 0xcc),
                       _mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 3, 2)));
}

ELSA_INLINE Part PartOf(F32 products) {
#if defined(__AVX512F__)
  const __m512 p = (__m512)products;
  return _mm256_add_ps(_mm512_castps512_ps256(p), _mm512_extractf32x8_ps(p, 1));
#else
  return (Part)products;
#endif
}

// The eight sums of part(0) to part(7), in order, to (or added to) `scores`.
template <bool kAdd, typename PartAt>
ELSA_INLINE void Reduce8(const PartAt& part, float* scores) {
  const __m256 a = AddQuarters(AddHalves(part(0), part(4)), AddHalves(part(1), part(5)));
  const __m256 b = AddQuarters(AddHalves(part(2), part(6)), AddHalves(part(3), part(7)));
  const __m256 sums = _mm256_hadd_ps(a, b);
  _mm256_storeu_ps(scores, kAdd ? _mm256_add_ps(sums, _mm256_loadu_ps(scores)) : sums);
}

#else

typedef F32 Part;

ELSA_INLINE Part PartOf(F32 products) { return products; }

template <bool kAdd, typename PartAt>
ELSA_INLINE void Reduce8(const PartAt& part, float* scores) {
  const auto pair = [&](F32 a, F32 b) {  // [a02 a13 b02 b13]
    return __builtin_shufflevector(a, b, 0, 1, 6, 7) + __builtin_shufflevector(a, b, 2, 3, 4, 5);
  };
  for (int half = 0; half < 8; half += 4) {
    const F32 a = pair(part(half), part(half + 1));
    const F32 b = pair(part(half + 2), part(half + 3));
    F32 sums =
        __builtin_shufflevector(a, b, 0, 2, 4, 6) + __builtin_shufflevector(a, b, 1, 3, 5, 7);
    if (kAdd) sums += Load(scores + half);
    Store(scores + half, sums);
  }
}

#endif

// Components [0, kVectors * kLanes) of `query` and of eight rows.
template <int kVectors, bool kAdd>
ELSA_INLINE void Scores8(const float* key, std::ptrdiff_t pitch, const std::uint16_t* list,
                         const F32* query, float* scores) {
  const auto part = [&](int i) {
    const float* row = key + list[i] * pitch;
    // Two chains: one as long as the row keeps the schedulers full of waiting work.
    constexpr int kHalf = kVectors > 3 ? kVectors / 2 : kVectors;
    F32 products = query[0] * Load(row);
    for (int v = 1; v < kHalf; ++v) products = Fma(query[v], Load(row + v * kLanes), products);
    if constexpr (kHalf < kVectors) {
      F32 second = query[kHalf] * Load(row + kHalf * kLanes);
      for (int v = kHalf + 1; v < kVectors; ++v) {
        second = Fma(query[v], Load(row + v * kLanes), second);
      }
      products += second;
    }
    return PartOf(products);
  };
  Reduce8<kAdd>(part, scores);
}

template <int kVectors, bool kAdd>
ELSA_INLINE void ScoreGroups(const float* query, const float* key, std::ptrdiff_t pitch,
                             const std::uint16_t* list, int from, int to, float* scores) {
  F32 q[kVectors];
  for (int v = 0; v < kVectors; ++v) q[v] = Load(query + v * kLanes);
  for (int j = from; j < to; j += 8) {
    Scores8<kVectors, kAdd>(key, pitch, list + j, q, scores + j);
  }
}

// Candidates [from, to) of one query, from component kFrom on.
template <int kD, int kFrom>
ELSA_INLINE void ScoreRows(const float* query, const float* key, const std::uint16_t* list,
                           int from, int to, float* scores) {
  constexpr int kLeft = (kD - kFrom) / kLanes;
  constexpr int kVectors = kLeft < kQueryVectors ? kLeft : kQueryVectors;
  ScoreGroups<kVectors, (kFrom > 0)>(query + kFrom, key + kFrom, kD, list, from, to, scores);
  constexpr int kNext = kFrom + kVectors * kLanes;
  if constexpr (kNext < kD) ScoreRows<kD, kNext>(query, key, list, from, to, scores);
}

// Any d: 32 components at a time.
ELSA_INLINE void ScoreAnyRows(const float* query, const float* key, int d,
                              const std::uint16_t* list, int from, int to, float* scores) {
  ScoreGroups<32 / kLanes, false>(query, key, d, list, from, to, scores);
  for (int c = 32; c < d; c += 32) {
    ScoreGroups<32 / kLanes, true>(query + c, key + c, d, list, from, to, scores);
  }
}

// Fetches a block of rows into the L2 cache, a part with every call.
class BlockPrefetch {
 public:
  // The block of rows behind the one that begins at `word` and ends at `end`, in `calls` parts.
  ELSA_INLINE BlockPrefetch(const SparseTile& t, const void* rows, std::size_t row_bytes, int end,
                            int block) {
    if (!t.prefetch || end >= t.words) return;
    const int after = end + block < t.words ? end + block : t.words;
    next_ = static_cast<const char*>(rows) + static_cast<std::size_t>(end) * 64 * row_bytes;
    left_ = static_cast<std::size_t>(after - end) * 64 * row_bytes / kLine;
    part_ = left_ / static_cast<std::size_t>(t.queries) + 1;
  }
  ELSA_INLINE void Step() {
    std::size_t lines = part_ < left_ ? part_ : left_;
    left_ -= lines;
    for (; lines > 0; --lines) {
      __builtin_prefetch(next_, 0, 2);
      next_ += kLine;
    }
  }

 private:
  static constexpr std::size_t kLine = 64;
  const char* next_ = nullptr;
  std::size_t left_ = 0;
  std::size_t part_ = 0;
};

template <int kD>                      // 0: any
void ScoreSweep(const SparseTile t) {  // a copy: nothing that is stored can alias it
  const int stride = t.words + 1;
  for (int word = 0; word < t.words; word += t.key_block) {
    const int end = word + t.key_block < t.words ? word + t.key_block : t.words;
    BlockPrefetch prefetch(t, t.key, sizeof(float) * static_cast<std::size_t>(t.d), end,
                           t.key_block);
    for (int i = 0; i < t.queries; ++i) {
      prefetch.Step();
      // Groups of eight belong to the block in which their first candidate lies.
      const int from = (t.start[i * stride + word] + 7) & ~7;
      const int to = (t.start[i * stride + end] + 7) & ~7;
      if (from >= to) continue;
      const float* query = t.query + static_cast<std::ptrdiff_t>(i) * t.d;
      const std::uint16_t* list = t.list + t.offset[i];
      float* scores = t.score + t.offset[i];
      if constexpr (kD == 0) {
        ScoreAnyRows(query, t.key, t.d, list, from, to, scores);
      } else {
        ScoreRows<kD, 0>(query, t.key, list, from, to, scores);
      }
    }
  }
}

inline void Scores(const SparseTile& tile) {
  switch (tile.d) {
    case 32:
      return ScoreSweep<32>(tile);
    case 64:
      return ScoreSweep<64>(tile);
    case 80:
      return ScoreSweep<80>(tile);
    case 96:
      return ScoreSweep<96>(tile);
    case 128:
      return ScoreSweep<128>(tile);
    default:
      return ScoreSweep<0>(tile);
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_SCORES_H_
