// Rows of tensors as packed binary32, and sums of them.
#ifndef ELSA_CPU_KERNELS_SPARSE_ROWS_H_
#define ELSA_CPU_KERNELS_SPARSE_ROWS_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

template <typename E>
ELSA_INLINE void PackRows(const SparseRows& r) {
  const F32 scale = Splat(r.scale);
  for (int i = 0; i < r.count; ++i) {
    const std::byte* from = r.from + i * r.stride;
    float* to = r.to + static_cast<std::ptrdiff_t>(i) * r.padded;
    int c = 0;
    for (; c < r.d; c += kLanes) {
      Store(to + c, LoadElements<E>(from + c * E::kBytes, r.d - c) * scale);
    }
    for (; c < r.padded; c += kLanes) Store(to + c, F32{});
  }
}

inline void Pack(const SparseRows& rows) {
  WithElement(rows.element, [&](auto element) { PackRows<decltype(element)>(rows); });
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
