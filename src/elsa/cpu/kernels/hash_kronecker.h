// Hashes of 64 components by three 4x4 factors, the paper's, one row at a time in registers. The
// order of products and sums is that of hash_rows.h, and so are the bits. Source: Sec. III-C.
#ifndef ELSA_CPU_KERNELS_HASH_KRONECKER_H_
#define ELSA_CPU_KERNELS_HASH_KRONECKER_H_

#include "elsa/cpu/kernels/load_rows.h"
#include "elsa/cpu/kernels/select.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

#if defined(__AVX2__)

// Whether KroneckerRows computes this hash.
inline bool IsKronecker64(const HashView& hash) {
  if (hash.hadamard || hash.d != 64 || hash.k != 64 || hash.components != 64 ||
      hash.positions != nullptr || hash.batch_count != 1 || hash.batches[0].factor_count != 3) {
    return false;
  }
  for (int f = 0; f < 3; ++f) {
    const HashFactor& factor = hash.batches[0].factors[f];
    if (factor.rows != 4 || factor.cols != 4) return false;
  }
  return true;
}

inline constexpr int kRowVectors = 64 / kLanes;

// A factor's columns as vectors of weights: for the axis whose neighbours lie kStep apart, element
// e of vector [part][c] is the weight of input c in output e / kStep, where `part` counts the
// vectors that the four outputs take.
template <int kStep>
struct FactorColumns {
  static constexpr int kParts = 4 * kStep <= kLanes ? 1 : 4 * kStep / kLanes;
  F32 weight[kParts][4];

  ELSA_INLINE explicit FactorColumns(const HashFactor& factor) {
    alignas(64) float values[kLanes];
    for (int part = 0; part < kParts; ++part) {
      for (int c = 0; c < 4; ++c) {
#pragma GCC unroll 16
        for (int e = 0; e < kLanes; ++e) {
          values[e] = factor.values[(part * kLanes + e) / kStep % 4 * 4 + c];
        }
        weight[part][c] = Load(values);
      }
    }
  }
};

ELSA_INLINE F32 WeighFour(const F32 (&weight)[4], F32 a, F32 b, F32 c, F32 d) {
  F32 sum = weight[0] * a;
  sum = sum + weight[1] * b;
  sum = sum + weight[2] * c;
  return sum + weight[3] * d;
}

// Along the last axis: the four elements of every 128 bits.
ELSA_INLINE F32 ApplyLast(const FactorColumns<1>& factor, F32 x) {
#if defined(__AVX512F__)
  const __m512 y = (__m512)x;
  return WeighFour(factor.weight[0], (F32)_mm512_permute_ps(y, 0x00),
                   (F32)_mm512_permute_ps(y, 0x55), (F32)_mm512_permute_ps(y, 0xaa),
                   (F32)_mm512_permute_ps(y, 0xff));
#else
  const __m256 y = (__m256)x;
  return WeighFour(factor.weight[0], (F32)_mm256_permute_ps(y, 0x00),
                   (F32)_mm256_permute_ps(y, 0x55), (F32)_mm256_permute_ps(y, 0xaa),
                   (F32)_mm256_permute_ps(y, 0xff));
#endif
}

// Along the middle axis: four times 128 bits, 16 components.
ELSA_INLINE void ApplyMiddle(const FactorColumns<4>& factor, F32* x) {
#if defined(__AVX512F__)
  const __m512 y = (__m512)x[0];
  x[0] = WeighFour(factor.weight[0], (F32)_mm512_shuffle_f32x4(y, y, 0x00),
                   (F32)_mm512_shuffle_f32x4(y, y, 0x55), (F32)_mm512_shuffle_f32x4(y, y, 0xaa),
                   (F32)_mm512_shuffle_f32x4(y, y, 0xff));
#else
  const __m256 y = (__m256)x[0];
  const __m256 z = (__m256)x[1];
  const F32 a = (F32)_mm256_permute2f128_ps(y, y, 0x00);
  const F32 b = (F32)_mm256_permute2f128_ps(y, y, 0x11);
  const F32 c = (F32)_mm256_permute2f128_ps(z, z, 0x00);
  const F32 d = (F32)_mm256_permute2f128_ps(z, z, 0x11);
  x[0] = WeighFour(factor.weight[0], a, b, c, d);
  x[1] = WeighFour(factor.weight[1], a, b, c, d);
#endif
}

// Bit i: x[i] >= 0.
ELSA_INLINE std::uint64_t NotNegative(F32 x) {
#if defined(__AVX512F__)
  return _mm512_cmp_ps_mask((__m512)x, _mm512_setzero_ps(), _CMP_GE_OQ);
#else
  const __m256 yes = _mm256_cmp_ps((__m256)x, _mm256_setzero_ps(), _CMP_GE_OQ);
  return static_cast<std::uint32_t>(_mm256_movemask_ps(yes));
#endif
}

template <RowType kType>
void KroneckerRowsOf(const HashView& hash, const RowsView& rows, const float* origin,
                     std::uint64_t* bits, float* norms) {
  constexpr std::int64_t kSize = kType == kRowF32 ? 4 : 2;
  constexpr int kBlock = 16 / kLanes;  // vectors of 16 components
  const HashFactor* factors = hash.batches[0].factors;
  const FactorColumns<1> last(factors[2]);
  const FactorColumns<4> middle(factors[1]);
  F32 first[4][4];
  for (int r = 0; r < 4; ++r) {
    for (int c = 0; c < 4; ++c) first[r][c] = Splat(factors[0].values[r * 4 + c]);
  }
  for (std::int64_t i = 0; i < rows.count; ++i) {
    const std::byte* row = rows.data + i * rows.stride * kSize;
    F32 x[kRowVectors];
    for (int v = 0; v < kRowVectors; ++v) {
      x[v] = LoadValues<kType>(row, v * kLanes, kLanes);
      if (origin != nullptr) x[v] = x[v] - Load(origin + v * kLanes);
    }
    if (norms != nullptr) {
      // As reference::Norm: 16 running sums, then halves onto halves.
      F32 sums[kBlock];
      for (int b = 0; b < kBlock; ++b) {
        sums[b] = x[b] * x[b];
        for (int v = b + kBlock; v < kRowVectors; v += kBlock) sums[b] = sums[b] + x[v] * x[v];
      }
      if (kBlock == 2) sums[0] = sums[0] + sums[kBlock - 1];
      norms[i] = __builtin_sqrtf(ReduceAdd(sums[0]));
    }
    for (int v = 0; v < kRowVectors; ++v) x[v] = ApplyLast(last, x[v]);
    for (int v = 0; v < kRowVectors; v += kBlock) ApplyMiddle(middle, x + v);
    std::uint64_t signs = 0;
    for (int b = 0; b < kBlock; ++b) {
      for (int r = 0; r < 4; ++r) {
        const F32 y =
            WeighFour(first[r], x[b], x[b + kBlock], x[b + 2 * kBlock], x[b + 3 * kBlock]);
        signs |= NotNegative(y) << (16 * r + kLanes * b);
      }
    }
    bits[i] = signs;
  }
}

inline void KroneckerRows(const HashView& hash, const RowsView& rows, const float* origin,
                          std::uint64_t* bits, float* norms) {
  if (rows.dtype == kRowF16) return KroneckerRowsOf<kRowF16>(hash, rows, origin, bits, norms);
  if (rows.dtype == kRowBf16) return KroneckerRowsOf<kRowBf16>(hash, rows, origin, bits, norms);
  KroneckerRowsOf<kRowF32>(hash, rows, origin, bits, norms);
}

#endif

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_HASH_KRONECKER_H_
