// Sign-projection hashes: k bits per vector whose Hamming distance estimates an angle.
// Source: Sec. III-B (hash), Sec. III-C (Kronecker product), Sec. IV-E "Choice of Hash Length k".
//
// Every execution must find the same bits, so the arithmetic is part of the definition: binary32,
// each product rounded before it is added, sums from index 0 upwards.
#ifndef ELSA_REFERENCE_HASH_H_
#define ELSA_REFERENCE_HASH_H_

#include <bit>
#include <cstdint>
#include <span>
#include <vector>

#include "elsa/params/plan.h"

namespace elsa::reference {

// Draws a hash of d components into k bits. The same arguments give the same values on every
// platform. Batches of at most d bits each (Sec. IV-E); within a batch the rows are orthonormal,
// except for kGaussian. Shapes of the factors: elsa/params/hash_shape.h.
// Errors: kInvalidArgument if d is outside 1 to 1024 or k outside 1 to 4096.
HashSpec MakeHash(HashKind kind, std::int64_t d, std::int64_t k, std::uint64_t seed);

// The k projections of x whose signs are the hash. T is float; a test counts multiplications with
// its own number type. Source: Sec. III-C, the last factor applied first, as in the paper.
// Shapes: x has d values, projections k. For kHadamard the projections are unscaled.
template <typename T>
void Project(const HashSpec& hash, std::span<const T> x, std::span<T> projections);

// One hash: bit i is bit i % 64 of word i / 64; bits from k on are 0.
using HashBits = std::vector<std::uint64_t>;

// The hash of x: bit i is 1 if projection i is >= 0 (Sec. III-B), 0 if it is negative or NaN.
HashBits HashVector(const HashSpec& hash, std::span<const float> x);

// The number of bits in which two hashes of the same length differ.
inline int HammingDistance(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
  int distance = 0;
  for (std::size_t i = 0; i < a.size(); ++i) distance += std::popcount(a[i] ^ b[i]);
  return distance;
}

// ---- templates ----

namespace internal {

// Applies factor A (rows x cols) along the middle axis of in [outer, cols, inner]:
// out[o][r][i] = sum over c of A[r][c] * in[o][c][i].
template <typename T>
std::vector<T> ApplyFactor(const Matrix& factor, const std::vector<T>& in, std::int64_t outer,
                           std::int64_t inner) {
  std::vector<T> out(outer * factor.rows * inner, T(0));
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t r = 0; r < factor.rows; ++r) {
      T* to = &out[(o * factor.rows + r) * inner];
      for (std::int64_t c = 0; c < factor.cols; ++c) {
        const T a(factor.values[r * factor.cols + c]);
        const T* from = &in[(o * factor.cols + c) * inner];
        for (std::int64_t i = 0; i < inner; ++i) {
          to[i] = c == 0 ? a * from[i] : to[i] + a * from[i];
        }
      }
    }
  }
  return out;
}

// H S3 H S2 H S1 x with S diagonal matrices of signs and H the Hadamard matrix of size D; x is
// followed by zeros up to D.
template <typename T>
std::vector<T> ApplyHadamard(const HashBatch& batch, std::span<const T> x) {
  std::vector<T> y(x.begin(), x.end());
  y.resize(batch.factors[0].cols, T(0));
  for (const Matrix& signs : batch.factors) {
    for (std::size_t i = 0; i < y.size(); ++i) {
      if (signs.values[i] < 0) y[i] = -y[i];
    }
    for (std::size_t half = 1; half < y.size(); half *= 2) {
      for (std::size_t i = 0; i < y.size(); ++i) {
        if ((i & half) != 0) continue;
        const T a = y[i];
        const T b = y[i + half];
        y[i] = a + b;
        y[i + half] = a - b;
      }
    }
  }
  return y;
}

}  // namespace internal

template <typename T>
void Project(const HashSpec& hash, std::span<const T> x, std::span<T> projections) {
  std::int64_t done = 0;
  for (const HashBatch& batch : hash.batches) {
    std::vector<T> y;
    if (hash.kind == HashKind::kHadamard) {
      y = internal::ApplyHadamard(batch, x);
    } else {
      y.assign(x.begin(), x.end());
      std::int64_t outer = hash.d;
      std::int64_t inner = 1;
      for (auto factor = batch.factors.rbegin(); factor != batch.factors.rend(); ++factor) {
        outer /= factor->cols;
        y = internal::ApplyFactor(*factor, y, outer, inner);
        inner *= factor->rows;
      }
    }
    for (std::int64_t i = 0; i < batch.bits; ++i) projections[done + i] = y[i];
    done += batch.bits;
  }
}

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_HASH_H_
