// Rows of tensors as packed binary32, and sums of them.
#ifndef ELSA_CPU_KERNELS_SPARSE_ROWS_H_
#define ELSA_CPU_KERNELS_SPARSE_ROWS_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

template <typename E>
ELSA_INLINE void PackRows(const SparseRows& r, float* to) {
  const F32 scale = Splat(r.scale);
  for (int i = 0; i < r.count; ++i) {
    const std::byte* from = r.from + i * r.stride;
    int c = 0;
    for (; c + kLanes <= r.d; c += kLanes) Store(to + c, E::Load(from + c * E::kBytes) * scale);
    for (; c < r.d; c += kLanes) {
      Store(to + c, LoadElements<E>(from + c * E::kBytes, r.d - c) * scale);
    }
    for (; c < r.padded; c += kLanes) Store(to + c, F32{});
    to += r.padded;
  }
}

inline void Pack(const SparseRows& rows, float* to) {
  WithElement(rows.element, [&](auto element) { PackRows<decltype(element)>(rows, to); });
}

// sum[0, kLanes) += x
ELSA_INLINE void AddToDoubles(double* sum, F32 x) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  const __m128 part[2] = {_mm256_castps256_ps128((__m256)x), _mm256_extractf128_ps((__m256)x, 1)};
  for (int i = 0; i < 2; ++i) {
    const __m256d whole = _mm256_loadu_pd(sum + 4 * i);
    _mm256_storeu_pd(sum + 4 * i, _mm256_add_pd(whole, _mm256_cvtps_pd(part[i])));
  }
#else
  for (int i = 0; i < kLanes; ++i) sum[i] += static_cast<double>(x[i]);
#endif
}

// kRows rows are added in binary32, these sums in double.
template <typename E, int kRows>
ELSA_INLINE void AddSomeRows(const SparseRows& r, int first, double* sum) {
  const std::byte* from = r.from + first * r.stride;
  int c = 0;
  for (; c + kLanes <= r.d; c += kLanes) {
    F32 some = E::Load(from + c * E::kBytes);
    for (int i = 1; i < kRows; ++i) some += E::Load(from + i * r.stride + c * E::kBytes);
    AddToDoubles(sum + c, some);
  }
  if (c < r.d) {
    F32 some = LoadElements<E>(from + c * E::kBytes, r.d - c);
    for (int i = 1; i < kRows; ++i) {
      some += LoadElements<E>(from + i * r.stride + c * E::kBytes, r.d - c);
    }
    AddToDoubles(sum + c, some);
  }
}

inline void AddRows(const SparseRows& rows, double* sum) {
  WithElement(rows.element, [&](auto element) {
    using E = decltype(element);
    int i = 0;
    for (; i + 8 <= rows.count; i += 8) AddSomeRows<E, 8>(rows, i, sum);
    for (; i < rows.count; ++i) AddSomeRows<E, 1>(rows, i, sum);
  });
}

inline void ScaleSums(const double* from, double factor, int count, float* to) {
  for (int c = 0; c < count; ++c) to[c] = static_cast<float>(from[c] * factor);
}

inline void ScaleRow(const float* from, float factor, int count, float* to) {
  for (int c = 0; c < count; ++c) to[c] = from[c] * factor;
}

inline void StoreRow(const float* from, float factor, int count, Element element, std::byte* to) {
  WithElement(element, [&](auto e) {
    using E = decltype(e);
    for (int c = 0; c < count; c += kLanes) {
      StoreElements<E>(to + c * E::kBytes, Load(from + c) * Splat(factor), count - c);
    }
  });
}

inline float Dot(const float* a, const float* b, int count) {
  F32 sum{};
  for (int c = 0; c < count; c += kLanes) sum = Fma(Load(a + c), Load(b + c), sum);
  return ReduceAdd(sum);
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_ROWS_H_
