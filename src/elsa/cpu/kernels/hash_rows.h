// Hashes of rows, one row per lane: every product and sum in the order of reference::Project, so
// that every bit is the same. Source: Sec. III-B, III-C. Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_HASH_ROWS_H_
#define ELSA_CPU_KERNELS_HASH_ROWS_H_

#include "elsa/cpu/kernels/hash_kronecker.h"
#include "elsa/cpu/kernels/load_rows.h"
#include "elsa/cpu/kernels/select.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// Positions of an axis: `count` of them, each with its inputs `in_step` (vectors) after the last
// one's, its outputs `out_step` after.
struct Positions {
  std::int64_t count;
  std::int64_t in_step;
  std::int64_t out_step;
};

// kRows rows of a factor at all positions, their coefficients in registers all the while:
// out[r * inner] = sum over c of a[r][c] * in[c * inner].
template <int kRows, int kCols>
ELSA_INLINE void FactorRows(const float* a, const float* in, float* out, std::int64_t inner,
                            const Positions& positions) {
  F32 weight[kRows][kCols];
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kCols; ++c) weight[r][c] = Splat(a[r * kCols + c]);
  }
#pragma GCC unroll 2
  for (std::int64_t p = 0; p < positions.count; ++p) {
    const float* from = in + p * positions.in_step * kLanes;
    float* to = out + p * positions.out_step * kLanes;
    F32 x[kCols];
    for (int c = 0; c < kCols; ++c) x[c] = Load(from + c * inner * kLanes);
    for (int r = 0; r < kRows; ++r) {
      F32 sum = weight[r][0] * x[0];
      for (int c = 1; c < kCols; ++c) sum = sum + weight[r][c] * x[c];
      Store(to + r * inner * kLanes, sum);
    }
  }
}

// A factor of few columns along the middle axis: in [outer, cols, inner] -> out [outer, rows,
// inner], vectors.
template <int kCols>
void NarrowFactor(const HashFactor& factor, const float* in, std::int64_t outer, std::int64_t inner,
                  float* out) {
  // As many rows at once as leave registers for inputs and sums: 16 registers hold one row's
  // coefficients and take the inputs from memory.
  constexpr int kRows = kRegisters == 32 && kCols <= 4 ? 4 : 1;
  const bool flat = inner == 1;  // then one loop runs over the outer axis
  const Positions positions =
      flat ? Positions{outer, factor.cols, factor.rows} : Positions{inner, 1, 1};
  for (std::int64_t o = 0; o < (flat ? 1 : outer); ++o) {
    const float* from = in + o * factor.cols * inner * kLanes;
    float* to = out + o * factor.rows * inner * kLanes;
    std::int64_t r = 0;
    for (; r + kRows <= factor.rows; r += kRows) {
      FactorRows<kRows, kCols>(factor.values + r * kCols, from, to + r * inner * kLanes, inner,
                               positions);
    }
    for (; r < factor.rows; ++r) {
      FactorRows<1, kCols>(factor.values + r * kCols, from, to + r * inner * kLanes, inner,
                           positions);
    }
  }
}

// kRows rows of a factor of any width at one position, their sums in registers.
template <int kRows>
ELSA_INLINE void WideRows(const float* a, std::int64_t cols, const float* in, float* out,
                          std::int64_t inner) {
  F32 sum[kRows];
  const F32 first = Load(in);
  for (int r = 0; r < kRows; ++r) sum[r] = Splat(a[r * cols]) * first;
  for (std::int64_t c = 1; c < cols; ++c) {
    const F32 x = Load(in + c * inner * kLanes);
    for (int r = 0; r < kRows; ++r) sum[r] = sum[r] + Splat(a[r * cols + c]) * x;
  }
  for (int r = 0; r < kRows; ++r) Store(out + r * inner * kLanes, sum[r]);
}

inline void WideFactor(const HashFactor& factor, const float* in, std::int64_t outer,
                       std::int64_t inner, float* out) {
  constexpr int kRows = kRegisters / 2;
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t i = 0; i < inner; ++i) {
      const float* from = in + (o * factor.cols * inner + i) * kLanes;
      float* to = out + (o * factor.rows * inner + i) * kLanes;
      std::int64_t r = 0;
      for (; r + kRows <= factor.rows; r += kRows) {
        WideRows<kRows>(factor.values + r * factor.cols, factor.cols, from, to + r * inner * kLanes,
                        inner);
      }
      for (; r < factor.rows; ++r) {
        WideRows<1>(factor.values + r * factor.cols, factor.cols, from, to + r * inner * kLanes,
                    inner);
      }
    }
  }
}

inline void ApplyFactor(const HashFactor& factor, const float* in, std::int64_t outer,
                        std::int64_t inner, float* out) {
  switch (factor.cols) {
    case 2:
      return NarrowFactor<2>(factor, in, outer, inner, out);
    case 3:
      return NarrowFactor<3>(factor, in, outer, inner, out);
    case 4:
      return NarrowFactor<4>(factor, in, outer, inner, out);
    case 5:
      return NarrowFactor<5>(factor, in, outer, inner, out);
    case 6:
      return NarrowFactor<6>(factor, in, outer, inner, out);
    case 8:
      return NarrowFactor<8>(factor, in, outer, inner, out);
    default:
      return WideFactor(factor, in, outer, inner, out);
  }
}

// 2^kLevels elements `half` apart, through kLevels levels of butterflies.
template <int kLevels, bool kFlip>
ELSA_INLINE void Butterflies(float* y, std::int64_t first, std::int64_t half, const float* signs) {
  constexpr int kCount = 1 << kLevels;
  F32 v[kCount];
  for (int i = 0; i < kCount; ++i) {
    const std::int64_t row = first + i * half;
    v[i] = Load(y + row * kLanes);
    if (kFlip) v[i] = (F32)((I32)v[i] ^ SplatInt(signs[row] > 0 ? 0 : INT32_MIN));
  }
  for (int level = 1; level < kCount; level *= 2) {
    for (int i = 0; i < kCount; ++i) {
      if ((i & level) != 0) continue;
      const F32 a = v[i];
      v[i] = a + v[i + level];
      v[i + level] = a - v[i + level];
    }
  }
  for (int i = 0; i < kCount; ++i) Store(y + (first + i * half) * kLanes, v[i]);
}

template <int kLevels, bool kFlip>
void ButterflyPass(float* y, std::int64_t size, std::int64_t half, const float* signs) {
  for (std::int64_t o = 0; o < size; o += half << kLevels) {
    for (std::int64_t i = 0; i < half; ++i) {
      Butterflies<kLevels, kFlip>(y, o + i, half, signs);
    }
  }
}

// y becomes H S3 H S2 H S1 y; three levels at a time while they last.
inline void ApplyHadamard(const HashBatchView& batch, std::int64_t size, float* y) {
  for (std::int64_t f = 0; f < batch.factor_count; ++f) {
    const float* signs = batch.factors[f].values;
    if (size >= 8) {
      ButterflyPass<3, true>(y, size, 1, signs);
    } else {
      ButterflyPass<0, true>(y, size, 1, signs);
    }
    std::int64_t half = size >= 8 ? 8 : 1;
    for (; half * 8 <= size; half *= 8) ButterflyPass<3, false>(y, size, half, nullptr);
    for (; half < size; half *= 2) ButterflyPass<1, false>(y, size, half, nullptr);
  }
}

// `count` <= 32 signs of projections: bit i of lane r is projection i of row r.
ELSA_INLINE U32 SignBits(const float* y, std::int64_t count) {
  U32 bits{};
  for (std::int64_t i = count; i-- > 0;) {
    bits = bits + bits - (U32)(Load(y + i * kLanes) >= 0.0f);
  }
  return bits;
}

// The signs of a batch, which begin at bit `first` of the hash, as words of 32 bits.
inline void CollectBits(const float* y, std::int64_t count, std::int64_t first,
                        std::uint32_t* words) {
  for (std::int64_t i = 0; i < count;) {
    const std::int64_t bit = first + i;
    std::uint32_t* to = words + bit / 32 * kLanes;
    if (bit % 64 == 0 && count - i >= 64) {  // two words: two chains of additions side by side
      U32 low{};
      U32 high{};
      for (int r = 32; r-- > 0;) {
        low = low + low - (U32)(Load(y + (i + r) * kLanes) >= 0.0f);
        high = high + high - (U32)(Load(y + (i + r + 32) * kLanes) >= 0.0f);
      }
      std::memcpy(to, &low, sizeof(low));
      std::memcpy(to + kLanes, &high, sizeof(high));
      i += 64;
      continue;
    }
    const std::int64_t room = 32 - bit % 32;
    const std::int64_t run = count - i < room ? count - i : room;
    U32 bits = SignBits(y + i * kLanes, run) << static_cast<std::uint32_t>(bit % 32);
    if (bit % 32 != 0) {
      U32 before;
      std::memcpy(&before, to, sizeof(before));
      bits |= before;
    }
    std::memcpy(to, &bits, sizeof(bits));
    i += run;
  }
}

ELSA_INLINE std::int64_t HashSize(const HashView& hash) {
  return hash.hadamard ? hash.batches[0].factors[0].cols : hash.d;
}

inline std::int64_t HashScratch(const HashView& hash) {
  return (3 * HashSize(hash) + 2 * hash.words()) * kLanes;
}

// Projects x, leaves the values in y or z and returns which.
ELSA_INLINE const float* ProjectBatch(const HashView& hash, const HashBatchView& batch,
                                      const float* x, float* y, float* z) {
  if (hash.hadamard) {
    const std::int64_t size = HashSize(hash);
    std::memcpy(y, x, static_cast<std::size_t>(size * kLanes) * sizeof(float));
    ApplyHadamard(batch, size, y);
    return y;
  }
  std::int64_t outer = hash.d;
  std::int64_t inner = 1;
  const float* from = x;
  float* to = y;
  for (std::int64_t f = batch.factor_count; f-- > 0;) {
    const HashFactor& factor = batch.factors[f];
    outer /= factor.cols;
    ApplyFactor(factor, from, outer, inner, to);
    inner *= factor.rows;
    from = to;
    to = from == y ? z : y;
  }
  return from;
}

// Up to kLanes rows from `first` on.
template <RowType kType>
void HashBlock(const HashView& hash, const RowsView& rows, std::int64_t first, int count,
               const float* origin, float* scratch, std::uint64_t* bits, float* norms) {
  const std::int64_t size = HashSize(hash);
  float* x = scratch;
  float* y = x + size * kLanes;
  float* z = y + size * kLanes;
  auto* words = reinterpret_cast<std::uint32_t*>(z + size * kLanes);
  if (hash.components < size) {
    std::memset(x, 0, static_cast<std::size_t>(size * kLanes) * sizeof(float));
  }
  LoadColumns<kType>(rows, first, count, origin, x, hash);
  if (norms != nullptr) {
    const F32 norm = ColumnNorms(x, hash);
    std::memcpy(norms + first, &norm, static_cast<std::size_t>(count) * sizeof(float));
  }
  std::int64_t bit = 0;
  for (std::int64_t b = 0; b < hash.batch_count; ++b) {
    const HashBatchView& batch = hash.batches[b];
    CollectBits(ProjectBatch(hash, batch, x, y, z), batch.bits, bit, words);
    bit += batch.bits;
  }
  const std::int64_t per_row = hash.words();
  for (int r = 0; r < count; ++r) {
    for (std::int64_t w = 0; w < per_row; ++w) {
      const std::uint32_t* from = words + 2 * w * kLanes + r;
      const std::uint64_t high = 64 * w + 32 < hash.k ? from[kLanes] : 0;
      bits[(first + r) * per_row + w] = from[0] | high << 32;
    }
  }
}

template <RowType kType>
void HashRowsOf(const HashView& hash, const RowsView& rows, const float* origin, float* scratch,
                std::uint64_t* bits, float* norms) {
  for (std::int64_t first = 0; first < rows.count; first += kLanes) {
    const std::int64_t left = rows.count - first;
    HashBlock<kType>(hash, rows, first, static_cast<int>(left < kLanes ? left : kLanes), origin,
                     scratch, bits, norms);
  }
}

inline void HashRows(const HashView& hash, const RowsView& rows, const float* origin,
                     float* scratch, std::uint64_t* bits, float* norms) {
#if defined(__AVX2__)
  if (IsKronecker64(hash)) return KroneckerRows(hash, rows, origin, bits, norms);
#endif
  if (rows.dtype == kRowF16) return HashRowsOf<kRowF16>(hash, rows, origin, scratch, bits, norms);
  if (rows.dtype == kRowBf16) return HashRowsOf<kRowBf16>(hash, rows, origin, scratch, bits, norms);
  HashRowsOf<kRowF32>(hash, rows, origin, scratch, bits, norms);
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_HASH_ROWS_H_
