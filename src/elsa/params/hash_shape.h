// The shapes of the matrices of a hash of d components into k bits, what they cost, and where they
// take shorter vectors. One rule for every execution: the reference draws its factors in these
// shapes, the hardware counts its multipliers, registers and cycles from them. No values here:
// elsa/params/plan.h holds those.
// Source: Sec. III-C (Kronecker product), Sec. IV-E "Choice of Hash Length k" (batches).
#ifndef ELSA_PARAMS_HASH_SHAPE_H_
#define ELSA_PARAMS_HASH_SHAPE_H_

#include <cstdint>
#include <vector>

#include "elsa/params/plan.h"

namespace elsa {

struct FactorShape {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  bool operator==(const FactorShape&) const = default;
};

// One batch: the first `bits` rows of factors[0] (x) factors[1] (x) ... are its projections.
struct BatchShape {
  std::int64_t bits = 0;
  std::vector<FactorShape> factors;
  bool operator==(const BatchShape&) const = default;
};

// The shapes of a hash: batches of d bits and one for the rest, each with 1 (kDense, kGaussian),
// 2 or 3 factors. Columns multiply to d, as equal as its divisors allow, larger ones first (64 = 4
// x 4 x 4, 32 = 4 x 4 x 2); no factor has more rows than columns, so that its rows can be
// orthogonal; rows multiply to at least the batch's bits at the fewest multiplications.
// Source: Sec. III-C. The paper states square factors only; the rest is our choice.
// Errors: kInvalidArgument if d or k is outside the limits of plan.h, or for kHadamard, which has
// no such matrices.
std::vector<BatchShape> HashShapes(HashKind kind, std::int64_t d, std::int64_t k);

// Multiplications to hash one vector, the last factor applied first as in the paper's equation.
// Source: Sec. III-C: 3 d^(4/3), 2 d^(3/2) or d^2 when all factors are square and k = d.
std::int64_t Multiplications(const std::vector<BatchShape>& batches);

// Values that a hash unit has to hold. Source: Sec. IV-C, 3 d^(2/3) for three square factors.
std::int64_t MatrixValues(const std::vector<BatchShape>& batches);

// Where a hash takes the components of a shorter vector, as when a machine built for d = 64 runs a
// model of d = 32 (Sec. IV-E): component i is x[positions[i]] of A x, all other x are zero.
// `columns` are those of the factors, first factor first; positions ascend, and with d = D, the
// product of the columns, position i is i.
//
// Our choice: spread the components over the columns of every factor. Write a position in digits,
// one per factor; the sum of the digits modulo the columns of the first factor is its class.
// Classes are filled in the order 0, 2, 4, ..., 1, 3, 5, ..., each from its first position on. With
// 32 components in 4 x 4 x 4, x is where the digit sum is even, and theta_bias is .130 (standard
// deviation .003 over seeds) as with a hash of 32 components. In the first 32 positions a first
// factor would have only two of its columns left: .161 (.012), and 1 to 7 points more keys kept at
// p = 1. It costs nothing: the host writes queries and keys into these positions, and their dot
// products stay the same.
// Errors: kInvalidArgument unless columns are positive and 1 <= d <= D.
std::vector<std::int64_t> InputPositions(const std::vector<std::int64_t>& columns, std::int64_t d);

// The same of a valid hash, by the first of its batches, since one x serves all; kHadamard counts
// as one matrix.
std::vector<std::int64_t> InputPositions(const HashSpec& hash, std::int64_t d);

}  // namespace elsa

#endif  // ELSA_PARAMS_HASH_SHAPE_H_
