// Sign-projection hashes: k bits per vector whose Hamming distance estimates an angle.
// Source: Sec. III-B (hash), Sec. III-C (Kronecker product), Sec. IV-E "Choice of Hash Length k".
//
// Every execution must find the same bits, so the arithmetic is part of the definition: binary32,
// each product rounded before it is added, sums from index 0 upwards.
#ifndef ELSA_REFERENCE_HASH_H_
#define ELSA_REFERENCE_HASH_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "elsa/params/plan.h"

namespace elsa::reference {

// Draws a hash of d components into k bits. The same arguments give the same values on every
// platform. Batches of at most d bits each (Sec. IV-E); within a batch the rows are orthonormal,
// except for kGaussian, and up to one common factor for kHadamard if d is a power of two (if not,
// its rows are cut and only nearly orthogonal). Shapes of the factors: elsa/params/hash_shape.h.
// Errors: kInvalidArgument if d is outside 1 to 1024 or k outside 1 to 4096.
HashSpec MakeHash(HashKind kind, std::int64_t d, std::int64_t k, std::uint64_t seed);

// The k projections, whose signs are the hash, of `count` vectors at once. T is float; a test
// counts multiplications with its own number type. Source: Sec. III-C, the last factor applied
// first, as in the paper. Shapes: x [d, count], projections [k, count], packed. For kHadamard they
// are unscaled.
template <typename T>
void Project(const HashSpec& hash, std::span<const T> x, std::span<T> projections,
             std::int64_t count = 1);

// One hash after the other, each of ceil(k / 64) words: bit i of a hash is bit i % 64 of its word
// i / 64; bits from k on are 0.
using HashBits = std::vector<std::uint64_t>;

// The hashes of packed vectors: bit i is 1 if projection i is >= 0 (Sec. III-B), 0 if it is
// negative or NaN. Vectors of fewer components than the hash takes are spread among zeros, in the
// positions of InputPositions (elsa/params/hash_shape.h): a machine built for some d runs models of
// a smaller one (Sec. IV-E).
// Shapes: vectors [count, d], d by default the hash's. Errors: as RequireHashTakes.
HashBits HashVectors(const HashSpec& hash, std::span<const float> vectors,
                     std::optional<std::int64_t> d = std::nullopt);

// Errors: kMismatch unless 1 <= d <= hash.d.
void RequireHashTakes(const HashSpec& hash, std::int64_t d);

// The number of one bits. (std::popcount is a library call where the processor is not known to
// have the instruction.)
inline int CountOnes(std::uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555u;
  x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
  return static_cast<int>((x * 0x0101010101010101u) >> 56);
}

// The number of bits in which two hashes of the same length differ.
inline int HammingDistance(std::span<const std::uint64_t> a, std::span<const std::uint64_t> b) {
  int distance = 0;
  for (std::size_t i = 0; i < a.size(); ++i) distance += CountOnes(a[i] ^ b[i]);
  return distance;
}

// ---- templates ----

namespace internal {

// Applies factor A (rows x cols) along the middle axis of in [outer, cols, inner]:
// out[o][r][i] = sum over c of A[r][c] * in[o][c][i].
template <typename T>
std::vector<T> ApplyFactor(const Matrix& factor, const std::vector<T>& in, std::int64_t outer,
                           std::int64_t inner) {
  std::vector<T> out(outer * factor.rows * inner);
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t r = 0; r < factor.rows; ++r) {
      T* to = &out[(o * factor.rows + r) * inner];
      for (std::int64_t c = 0; c < factor.cols; ++c) {
        const T a(factor.values[r * factor.cols + c]);
        const T* from = &in[(o * factor.cols + c) * inner];
        if (c == 0) {
          for (std::int64_t i = 0; i < inner; ++i) to[i] = a * from[i];
        } else {
          for (std::int64_t i = 0; i < inner; ++i) to[i] = to[i] + a * from[i];
        }
      }
    }
  }
  return out;
}

// H S3 H S2 H S1 x with S diagonal matrices of signs and H the Hadamard matrix of size D, for
// `count` columns of x [d, count], which is followed by zeros up to D rows.
template <typename T>
std::vector<T> ApplyHadamard(const HashBatch& batch, std::span<const T> x, std::int64_t count) {
  const std::int64_t size = batch.factors[0].cols;
  std::vector<T> y(x.begin(), x.end());
  y.resize(size * count, T(0));
  for (const Matrix& signs : batch.factors) {
    for (std::int64_t row = 0; row < size; ++row) {
      if (signs.values[row] > 0) continue;
      for (std::int64_t v = 0; v < count; ++v) y[row * count + v] = -y[row * count + v];
    }
    for (std::int64_t half = 1; half < size; half *= 2) {
      for (std::int64_t row = 0; row < size; ++row) {
        if ((row & half) != 0) continue;
        for (std::int64_t v = 0; v < count; ++v) {
          const T a = y[row * count + v];
          const T b = y[(row + half) * count + v];
          y[row * count + v] = a + b;
          y[(row + half) * count + v] = a - b;
        }
      }
    }
  }
  return y;
}

}  // namespace internal

template <typename T>
void Project(const HashSpec& hash, std::span<const T> x, std::span<T> projections,
             std::int64_t count) {
  auto out = projections.begin();
  for (const HashBatch& batch : hash.batches) {
    std::vector<T> y;
    if (hash.kind == HashKind::kHadamard) {
      y = internal::ApplyHadamard(batch, x, count);
    } else {
      y.assign(x.begin(), x.end());
      std::int64_t outer = hash.d;
      std::int64_t inner = count;
      for (auto factor = batch.factors.rbegin(); factor != batch.factors.rend(); ++factor) {
        outer /= factor->cols;
        y = internal::ApplyFactor(*factor, y, outer, inner);
        inner *= factor->rows;
      }
    }
    out = std::copy_n(y.begin(), batch.bits * count, out);
  }
}

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_HASH_H_
