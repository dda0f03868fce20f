// Rows of tensors as packed binary32, and sums of them.
#ifndef ELSA_CPU_KERNELS_SPARSE_ROWS_H_
#define ELSA_CPU_KERNELS_SPARSE_ROWS_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

typedef std::uint16_t Half16 __attribute__((vector_size(2 * kLanes)));

ELSA_INLINE Half16 LoadHalf(const std::byte* from) {
  Half16 x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}

ELSA_INLINE F32 WidenBf16(Half16 x) { return (F32)(__builtin_convertvector(x, U32) << 16); }

ELSA_INLINE F32 WidenF16(Half16 x) {
#if defined(__AVX512F__)
  return (F32)_mm512_cvtph_ps((__m256i)x);
#elif defined(__F16C__)
  return (F32)_mm256_cvtph_ps((__m128i)x);
#else
  // Moved to binary32's place the exponent is 112 too small: a multiplication mends that, exactly,
  // for subnormal numbers too. Infinity and NaN get the largest exponent.
  const U32 bits = __builtin_convertvector(x, U32);
  const U32 magnitude = (bits & 0x7fffu) << 13;
  const F32 value = (F32)magnitude * Splat(0x1p112f);
  const U32 special = (U32)(magnitude >= (0x7c00u << 13)) & 0x7f800000u;
  return (F32)((U32)value | special | ((bits & 0x8000u) << 16));
#endif
}

// DType::kF32 0, kF16 1, kBf16 2.
template <int kDType>
ELSA_INLINE F32 LoadElements(const std::byte* from) {
  if constexpr (kDType == 0) return Load(reinterpret_cast<const float*>(from));
  if constexpr (kDType == 1) return WidenF16(LoadHalf(from));
  return WidenBf16(LoadHalf(from));
}

template <int kDType>
void PackRows(const SparseRows& r) {
  constexpr int kSize = kDType == 0 ? 4 : 2;
  const F32 scale = Splat(r.scale);
  const int whole = r.d / kLanes * kLanes;
  for (int i = 0; i < r.count; ++i) {
    const std::byte* from = r.from + i * r.stride;
    float* to = r.to + static_cast<std::ptrdiff_t>(i) * r.padded;
    int c = 0;
    for (; c < whole; c += kLanes) Store(to + c, LoadElements<kDType>(from + c * kSize) * scale);
    if (c < r.d) {
      alignas(64) std::byte part[kLanes * kSize] = {};
      std::memcpy(part, from + c * kSize, static_cast<std::size_t>(r.d - c) * kSize);
      Store(to + c, LoadElements<kDType>(part) * scale);
      c += kLanes;
    }
    for (; c < r.padded; c += kLanes) Store(to + c, F32{});
  }
}

inline void Pack(const SparseRows& rows) {
  if (rows.dtype == 0) return PackRows<0>(rows);
  if (rows.dtype == 1) return PackRows<1>(rows);
  PackRows<2>(rows);
}

inline void AddRows(const float* rows, int count, int d, double* sum) {
  for (int i = 0; i < count; ++i) {
    for (int c = 0; c < d; ++c) sum[c] += static_cast<double>(rows[c]);
    rows += d;
  }
}

inline void ScaleSums(const double* from, double factor, int count, float* to) {
  for (int c = 0; c < count; ++c) to[c] = static_cast<float>(from[c] * factor);
}

inline void ScaleRow(const float* from, float factor, int count, float* to) {
  for (int c = 0; c < count; ++c) to[c] = from[c] * factor;
}

inline float Dot(const float* a, const float* b, int count) {
  F32 sum{};
  for (int c = 0; c < count; c += kLanes) sum = Fma(Load(a + c), Load(b + c), sum);
  return ReduceAdd(sum);
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_ROWS_H_
