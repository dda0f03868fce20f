// Rows of a tensor turned into columns: one row per lane, one vector per component. With the norms,
// since they are sums over the same values. Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_LOAD_ROWS_H_
#define ELSA_CPU_KERNELS_LOAD_ROWS_H_

#include "elsa/cpu/kernels/select.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

enum RowType { kRowF32, kRowF16, kRowBf16 };  // the values of DType

ELSA_INLINE U32 WidenHalves(const std::uint16_t* from) {
#if defined(__AVX512F__)
  return (U32)_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__AVX2__)
  return (U32)_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)from));
#else
  U32 x{};
  for (int i = 0; i < kLanes; ++i) x[i] = from[i];
  return x;
#endif
}

// kLanes numbers of 16 bits, exactly.
template <RowType kType>
ELSA_INLINE F32 FromHalves(const std::uint16_t* from) {
  if constexpr (kType == kRowBf16) return (F32)(WidenHalves(from) << 16);
#if defined(__AVX512F__)
  return (F32)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)from));
#elif defined(__F16C__)
  return (F32)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)from));
#elif defined(__ARM_NEON)
  return (F32)vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from)));
#else
  const U32 half = WidenHalves(from);
  const U32 sign = (half & 0x8000u) << 16;
  const U32 rest = (half & 0x7fffu) << 13;
  // Below 2^-14 the value is a whole number of 2^-24: exactly what the subtraction leaves.
  const F32 small = (F32)((half & 0x7fffu) | 0x3f000000u) - 0.5f;
  const U32 is_small = (U32)(rest < (0x400u << 13));
  const U32 is_special = (U32)(rest >= (0x7c00u << 13));
  const U32 normal = rest + ((127u - 15u) << 23) + (is_special & ((255u - 31u - 112u) << 23));
  return (F32)(sign | (is_small & (U32)small) | (~is_small & normal));
#endif
}

// `count` <= kLanes values from element `at` on, zeros after them.
template <RowType kType>
ELSA_INLINE F32 LoadValues(const std::byte* row, std::int64_t at, int count) {
  if constexpr (kType == kRowF32) {
    const std::byte* from = row + 4 * at;
    if (count == kLanes) return Load(reinterpret_cast<const float*>(from));
    float part[kLanes] = {};
    std::memcpy(part, from, 4 * static_cast<std::size_t>(count));
    return Load(part);
  } else {
    const std::byte* from = row + 2 * at;
    if (count == kLanes) return FromHalves<kType>(reinterpret_cast<const std::uint16_t*>(from));
    std::uint16_t part[kLanes] = {};
    std::memcpy(part, from, 2 * static_cast<std::size_t>(count));
    return FromHalves<kType>(part);
  }
}

// Turns kLanes vectors: lane j of x[i] becomes lane i of x[j].
ELSA_INLINE void Transpose(F32* x) {
#if defined(__AVX512F__)
  __m512 a[16];
  for (int i = 0; i < 16; i += 2) {
    a[i] = _mm512_unpacklo_ps((__m512)x[i], (__m512)x[i + 1]);
    a[i + 1] = _mm512_unpackhi_ps((__m512)x[i], (__m512)x[i + 1]);
  }
  __m512 b[16];
  for (int i = 0; i < 16; i += 4) {
    for (int j = 0; j < 2; ++j) {
      const __m512d low = (__m512d)a[i + j];
      const __m512d high = (__m512d)a[i + 2 + j];
      b[i + 2 * j] = (__m512)_mm512_unpacklo_pd(low, high);
      b[i + 2 * j + 1] = (__m512)_mm512_unpackhi_pd(low, high);
    }
  }
  // b[4 g + c]: column c of each 128-bit part, rows 4 g to 4 g + 3.
  for (int c = 0; c < 4; ++c) {
    const __m512 p = _mm512_shuffle_f32x4(b[c], b[4 + c], 0x88);
    const __m512 q = _mm512_shuffle_f32x4(b[c], b[4 + c], 0xdd);
    const __m512 r = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0x88);
    const __m512 s = _mm512_shuffle_f32x4(b[8 + c], b[12 + c], 0xdd);
    x[c] = (F32)_mm512_shuffle_f32x4(p, r, 0x88);
    x[4 + c] = (F32)_mm512_shuffle_f32x4(q, s, 0x88);
    x[8 + c] = (F32)_mm512_shuffle_f32x4(p, r, 0xdd);
    x[12 + c] = (F32)_mm512_shuffle_f32x4(q, s, 0xdd);
  }
#elif defined(__AVX2__)
  __m256 a[8];
  for (int i = 0; i < 8; i += 2) {
    a[i] = _mm256_unpacklo_ps((__m256)x[i], (__m256)x[i + 1]);
    a[i + 1] = _mm256_unpackhi_ps((__m256)x[i], (__m256)x[i + 1]);
  }
  __m256 b[8];
  for (int i = 0; i < 8; i += 4) {
    for (int j = 0; j < 2; ++j) {
      b[i + 2 * j] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0x44);
      b[i + 2 * j + 1] = _mm256_shuffle_ps(a[i + j], a[i + 2 + j], 0xee);
    }
  }
  for (int c = 0; c < 4; ++c) {
    x[c] = (F32)_mm256_permute2f128_ps(b[c], b[4 + c], 0x20);
    x[4 + c] = (F32)_mm256_permute2f128_ps(b[c], b[4 + c], 0x31);
  }
#else
  static_assert(kLanes == 4);
  const F32 a = __builtin_shufflevector(x[0], x[1], 0, 4, 1, 5);
  const F32 b = __builtin_shufflevector(x[0], x[1], 2, 6, 3, 7);
  const F32 c = __builtin_shufflevector(x[2], x[3], 0, 4, 1, 5);
  const F32 d = __builtin_shufflevector(x[2], x[3], 2, 6, 3, 7);
  x[0] = __builtin_shufflevector(a, c, 0, 1, 4, 5);
  x[1] = __builtin_shufflevector(a, c, 2, 3, 6, 7);
  x[2] = __builtin_shufflevector(b, d, 0, 1, 4, 5);
  x[3] = __builtin_shufflevector(b, d, 2, 3, 6, 7);
#endif
}

ELSA_INLINE F32 SquareRoot(F32 x) {
#if defined(__AVX512F__)
  return (F32)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (F32)_mm256_sqrt_ps((__m256)x);
#elif defined(__ARM_NEON)
  return (F32)vsqrtq_f32((float32x4_t)x);
#elif defined(__SSE2__)
  return (F32)_mm_sqrt_ps((__m128)x);
#else
  for (int i = 0; i < kLanes; ++i) x[i] = __builtin_sqrtf(x[i]);
  return x;
#endif
}

// `columns` <= kLanes components of kLanes rows from component c on: x[i] becomes component c + i.
template <RowType kType>
ELSA_INLINE void LoadTurned(const std::byte* const* row, std::int64_t c, int columns,
                            const float* origin, F32* x) {
  for (int i = 0; i < kLanes; ++i) x[i] = LoadValues<kType>(row[i], c, columns);
  if (origin != nullptr) {
    const F32 from = LoadValues<kRowF32>(reinterpret_cast<const std::byte*>(origin), c, columns);
    for (int i = 0; i < kLanes; ++i) x[i] = x[i] - from;
  }
  Transpose(x);
}

// Loads `count` <= kLanes rows, each minus `origin` unless null: component c becomes vector
// hash.positions[c] of x. Lanes from count on repeat the first row.
template <RowType kType>
ELSA_INLINE void LoadColumns(const RowsView& rows, std::int64_t first, int count,
                             const float* origin, float* x, const HashView& hash) {
  constexpr std::int64_t kSize = kType == kRowF32 ? 4 : 2;
  const std::byte* row[kLanes];
  for (int i = 0; i < kLanes; ++i) {
    row[i] = rows.data + (first + (i < count ? i : 0)) * rows.stride * kSize;
  }
  const std::int32_t* positions = hash.positions;
  std::int64_t c = 0;
  for (; c + kLanes <= hash.components; c += kLanes) {
    F32 values[kLanes];
    LoadTurned<kType>(row, c, kLanes, origin, values);
    if (positions == nullptr) {
      for (int i = 0; i < kLanes; ++i) Store(x + (c + i) * kLanes, values[i]);
    } else {
      for (int i = 0; i < kLanes; ++i) Store(x + positions[c + i] * kLanes, values[i]);
    }
  }
  if (c == hash.components) return;
  const int columns = static_cast<int>(hash.components - c);
  F32 values[kLanes];
  LoadTurned<kType>(row, c, columns, origin, values);
  for (int i = 0; i < columns; ++i) {
    Store(x + (positions == nullptr ? c + i : positions[c + i]) * kLanes, values[i]);
  }
}

// The norms of what LoadColumns wrote, as reference::Norm: 16 running sums, then halves onto
// halves.
ELSA_INLINE F32 ColumnNorms(const float* x, const HashView& hash) {
  const std::int32_t* positions = hash.positions;
  const auto sum_of = [&](std::int64_t s) {
    F32 sum{};
    for (std::int64_t c = s; c < hash.components; c += 16) {
      const F32 value = Load(x + (positions == nullptr ? c : positions[c]) * kLanes);
      sum = sum + value * value;
    }
    return sum;
  };
  F32 sums[8];
  for (int i = 0; i < 8; ++i) {
    const F32 low = sum_of(i);
    sums[i] = low + sum_of(i + 8);
  }
  for (int half = 4; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
  }
  return SquareRoot(sums[0]);
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_LOAD_ROWS_H_
