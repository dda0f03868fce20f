// Rows of a tensor turned into columns: one row per lane, one vector per component. With the norms,
// since they are sums over the same values. Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_LOAD_ROWS_H_
#define ELSA_CPU_KERNELS_LOAD_ROWS_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/select.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/transpose.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

enum RowType { kRowF32, kRowF16, kRowBf16 };  // the values of DType

// kLanes numbers of 16 bits, exactly.
template <RowType kType>
ELSA_INLINE F32 FromHalves(const std::byte* from) {
  return kType == kRowBf16 ? ElementBf16::Load(from) : ElementF16::Load(from);
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
    if (count == kLanes) return FromHalves<kType>(from);
    std::byte part[2 * kLanes] = {};
    std::memcpy(part, from, 2 * static_cast<std::size_t>(count));
    return FromHalves<kType>(part);
  }
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
                            const float* origin, F32 (&x)[kLanes]) {
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
