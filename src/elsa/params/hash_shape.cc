#include "elsa/params/hash_shape.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <string>

#include "elsa/base/error.h"

namespace elsa {
namespace {

// The `count` divisors of `product` that multiply to it with the smallest sum, larger ones first.
std::vector<std::int64_t> BalancedDivisors(std::int64_t product, int count) {
  if (count == 1) return {product};
  std::vector<std::int64_t> best;
  std::int64_t best_sum = std::numeric_limits<std::int64_t>::max();
  for (std::int64_t last = 1; last * last <= product; ++last) {
    if (product % last != 0) continue;
    std::vector<std::int64_t> divisors = BalancedDivisors(product / last, count - 1);
    std::int64_t sum = last;
    for (std::int64_t divisor : divisors) sum += divisor;
    if (divisors.back() < last || sum >= best_sum) continue;
    divisors.push_back(last);
    best = std::move(divisors);
    best_sum = sum;
  }
  return best;
}

std::int64_t FactorMultiplications(const std::vector<FactorShape>& factors) {
  std::int64_t vectors = 1;  // that the factor at hand is applied to, after the division below
  for (const FactorShape& factor : factors) vectors *= factor.cols;
  std::int64_t total = 0;
  for (auto factor = factors.rbegin(); factor != factors.rend(); ++factor) {
    vectors /= factor->cols;
    total += vectors * factor->rows * factor->cols;
    vectors *= factor->rows;
  }
  return total;
}

// Gives factors[index] and all later ones rows, so that all rows multiply to at least `bits`;
// keeps in `best` the cheapest choice seen.
void ChooseRows(std::int64_t bits, std::size_t index, std::vector<FactorShape>& factors,
                std::vector<FactorShape>& best) {
  FactorShape& factor = factors[index];
  if (index + 1 < factors.size()) {
    for (factor.rows = factor.cols; factor.rows >= 1; --factor.rows) {
      ChooseRows(bits, index + 1, factors, best);
    }
    return;
  }
  std::int64_t before = 1;
  for (std::size_t i = 0; i < index; ++i) before *= factors[i].rows;
  factor.rows = (bits + before - 1) / before;
  if (factor.rows > factor.cols) return;
  if (best.empty() || FactorMultiplications(factors) < FactorMultiplications(best)) best = factors;
}

// The order in which InputPositions fills classes: even ones first.
std::int64_t FillingRank(const std::vector<std::int64_t>& columns, std::int64_t position) {
  std::int64_t digit_sum = 0;
  for (auto base = columns.rbegin(); base != columns.rend(); ++base) {
    digit_sum += position % *base;
    position /= *base;
  }
  const std::int64_t position_class = digit_sum % columns[0];
  return position_class % 2 * columns[0] + position_class;
}

}  // namespace

std::vector<BatchShape> HashShapes(HashKind kind, std::int64_t d, std::int64_t k) {
  if (d < 1 || d > kMaxHashDimension || k < 1 || k > kMaxHashBits) {
    throw Error(ErrorCode::kInvalidArgument,
                "hash: expected d of 1 to " + std::to_string(kMaxHashDimension) +
                    " and k of 1 to " + std::to_string(kMaxHashBits) +
                    ", got d = " + std::to_string(d) + ", k = " + std::to_string(k));
  }
  int count = 1;
  if (kind == HashKind::kKronecker2) count = 2;
  if (kind == HashKind::kKronecker3) count = 3;
  if (kind == HashKind::kHadamard) {
    throw Error(ErrorCode::kInvalidArgument,
                "hash: expected a kind made of matrices (kronecker3, kronecker2, dense, "
                "gaussian), got hadamard");
  }
  std::vector<FactorShape> columns;
  for (std::int64_t divisor : BalancedDivisors(d, count)) columns.push_back({0, divisor});
  std::vector<BatchShape> batches;
  for (std::int64_t left = k; left > 0; left -= d) {
    BatchShape batch{std::min(left, d), {}};
    ChooseRows(batch.bits, 0, columns, batch.factors);
    batches.push_back(std::move(batch));
  }
  return batches;
}

std::int64_t Multiplications(const std::vector<BatchShape>& batches) {
  std::int64_t total = 0;
  for (const BatchShape& batch : batches) total += FactorMultiplications(batch.factors);
  return total;
}

std::int64_t MatrixValues(const std::vector<BatchShape>& batches) {
  std::int64_t total = 0;
  for (const BatchShape& batch : batches) {
    for (const FactorShape& factor : batch.factors) total += factor.rows * factor.cols;
  }
  return total;
}

std::vector<std::int64_t> InputPositions(const std::vector<std::int64_t>& columns, std::int64_t d) {
  std::int64_t size = columns.empty() ? 0 : 1;
  for (std::int64_t c : columns) size = c < 1 ? 0 : size * c;
  if (d < 1 || d > size) {
    throw Error(ErrorCode::kInvalidArgument, "hash: expected 1 to " + std::to_string(size) +
                                                 " components, got " + std::to_string(d));
  }
  std::vector<std::int64_t> positions(size);
  std::iota(positions.begin(), positions.end(), 0);
  if (d == size) return positions;
  std::stable_sort(positions.begin(), positions.end(), [&](std::int64_t a, std::int64_t b) {
    return FillingRank(columns, a) < FillingRank(columns, b);
  });
  positions.resize(d);
  std::sort(positions.begin(), positions.end());
  return positions;
}

std::vector<std::int64_t> InputPositions(const HashSpec& hash, std::int64_t d) {
  // The factors of kHadamard are rows of signs, as long as the next power of two.
  if (hash.kind == HashKind::kHadamard) return InputPositions({hash.d}, d);
  std::vector<std::int64_t> columns;
  for (const Matrix& factor : hash.batches.at(0).factors) columns.push_back(factor.cols);
  return InputPositions(columns, d);
}

}  // namespace elsa
