// Rows of tensors as 16-bit fixed point (kernels/sparse_int16.h), read where they lie.
#ifndef ELSA_CPU_KERNELS_SPARSE_QUANTIZE_H_
#define ELSA_CPU_KERNELS_SPARSE_QUANTIZE_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"
#include "elsa/cpu/kernels/sparse_softmax.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

typedef std::int16_t I16 __attribute__((vector_size(4 * kLanes)));
typedef std::int16_t HalfI16 __attribute__((vector_size(2 * kLanes)));

// To the nearest whole number; |x| < 2^22.
ELSA_INLINE I32 Round(F32 x) {
#if defined(__AVX512F__)
  return (I32)_mm512_cvtps_epi32((__m512)x);
#elif defined(__AVX2__)
  return (I32)_mm256_cvtps_epi32((__m256)x);
#else
  F32 whole;
  return NearestInt(x, &whole);
#endif
}

ELSA_INLINE F32 Magnitude(F32 x) { return (F32)((I32)x & SplatInt(0x7fffffff)); }

// Whole numbers within int16 as such.
ELSA_INLINE HalfI16 NarrowHalf(I32 x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m256i y = (__m256i)x;
  return (HalfI16)_mm_packs_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
#else
  return __builtin_convertvector(x, HalfI16);
#endif
}

// Two vectors of whole numbers as 16 bits, in order.
ELSA_INLINE I16 Narrow(I32 a, I32 b) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  return (I16)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)a, (__m256i)b), 0xd8);
#else
  const HalfI16 low = NarrowHalf(a);
  const HalfI16 high = NarrowHalf(b);
  I16 both;
  std::memcpy(&both, &low, sizeof(low));
  std::memcpy(reinterpret_cast<std::byte*>(&both) + sizeof(low), &high, sizeof(high));
  return both;
#endif
}

// The same, by fours alternately from a and b: PairLow and PairHigh of two rows have their
// components in order.
ELSA_INLINE I16 NarrowByFours(I32 a, I32 b) {
#if defined(__AVX512F__)
  return (I16)_mm512_packs_epi32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (I16)_mm256_packs_epi32((__m256i)a, (__m256i)b);
#else
  return Narrow(a, b);
#endif
}

// Calls f(c, x) with the components from c on, zeros behind the last up to `padded`.
template <typename E, typename F>
ELSA_INLINE void ForRow(const SparseRows& r, int row, const F& f) {
  const std::byte* from = r.from + row * r.stride;
  int c = 0;
  for (; c + kLanes <= r.d; c += kLanes) f(c, E::Load(from + c * E::kBytes));
  if (c < r.d) {
    f(c, LoadElements<E>(from + c * E::kBytes, r.d - c));
    c += kLanes;
  }
  for (; c < r.padded; c += kLanes) f(c, F32{});
}

template <typename E>
ELSA_INLINE SparseExtent ExtentOf(const SparseRows& r) {
  SparseExtent extent{0, 0, 0};
  F32 largest{};
  for (int i = 0; i < r.count; ++i) {
    F32 squares{};
    ForRow<E>(r, i, [&](int, F32 x) {
      squares = Fma(x, x, squares);
      largest = Max(largest, Magnitude(x));
    });
    const float square = QuickAdd(squares);
    extent.total += square;
    if (square > extent.largest_square) extent.largest_square = square;
  }
  extent.largest = QuickMax(largest);
  return extent;
}

inline SparseExtent Extent(const SparseRows& rows) {
  return WithElement(rows.element, [&](auto e) { return ExtentOf<decltype(e)>(rows); });
}

inline void QuantizeRows(const SparseRows& rows, std::int16_t* to) {
  const F32 scale = Splat(rows.scale);
  WithElement(rows.element, [&](auto e) {
    for (int i = 0; i < rows.count; ++i) {
      ForRow<decltype(e)>(rows, i, [&](int c, F32 x) {
        const HalfI16 half = NarrowHalf(Round(x * scale));
        std::memcpy(to + c, &half, sizeof(half));
      });
      to += rows.padded;
    }
  });
}

// `padded` is a multiple of 2 * kLanes.
inline void QuantizeValues(const SparseRows& rows, std::int16_t* to) {
  const F32 scale = Splat(rows.scale);
  WithElement(rows.element, [&](auto e) {
    for (int i = 0; i < rows.count; ++i) {
      I32 first{};
      ForRow<decltype(e)>(rows, i, [&](int c, F32 x) {
        const I32 whole = Round(x * scale);
        if (c % (2 * kLanes) == 0) {
          first = whole;
          return;
        }
        const I16 both = NarrowByFours(first, whole);
        std::memcpy(to + c - kLanes, &both, sizeof(both));
      });
      to += rows.padded;
    }
  });
}

// The largest magnitude of a row of binary32 and the sum of its squares.
struct RowSize {
  float largest;
  float square;
};

ELSA_INLINE RowSize SizeOfRow(const float* row, int d, float factor) {
  F32 largest{};
  F32 squares{};
  for (int c = 0; c < d; c += kLanes) {
    const F32 x = Load(row + c) * Splat(factor);
    largest = Max(largest, Magnitude(x));
    squares = Fma(x, x, squares);
  }
  return {QuickMax(largest), QuickAdd(squares)};
}

// Queries to fixed point, and factor[i]: what the integer products of query i are to be multiplied
// by to become scores, apart from the keys' scale. NaN if the query is not finite. `rows` is what
// Pack has made: binary32, packed.
inline void QuantizeQueries(const float* rows, int count, int d, std::int16_t* to, float* factor) {
  for (int i = 0; i < count; ++i) {
    RowSize size = SizeOfRow(rows, d, 1);
    float scale = 1;
    if (!(size.square < 0x1p100f && size.square > 0x1p-100f)) {
      // Relative to the largest, squares neither overflow nor vanish.
      scale = size.largest > 1e-30f ? 1 / size.largest : 0;
      size = SizeOfRow(rows, d, scale);
    }
    const float by_norm = __builtin_sqrtf(size.square) * (1 / kQueryNorm);
    const float by_largest = size.largest * (1 / kRowLargest);
    const float unit = by_norm < by_largest ? by_largest : by_norm;  // NaN stays
    const bool usable = unit > 0;
    factor[i] = usable ? unit / scale : unit;
    const F32 inverse = Splat(scale / unit);
    if (!usable) std::memset(to, 0, static_cast<std::size_t>(d) * sizeof(*to));
    for (int c = 0; usable && c < d; c += kLanes) {
      const HalfI16 half = NarrowHalf(Round(Load(rows + c) * inverse));
      std::memcpy(to + c, &half, sizeof(half));
    }
    rows += d;
    to += d;
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_QUANTIZE_H_
