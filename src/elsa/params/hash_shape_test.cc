#include "elsa/params/hash_shape.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"

namespace elsa {
namespace {

// Counts by doing: contracts one axis of a tensor at a time, one multiplication per inner step.
std::int64_t CountedMultiplications(const std::vector<FactorShape>& factors) {
  std::vector<std::int64_t> extent;
  for (const FactorShape& factor : factors) extent.push_back(factor.cols);
  std::int64_t count = 0;
  for (std::size_t axis = factors.size(); axis-- > 0;) {
    std::int64_t outputs = factors[axis].rows;
    for (std::size_t i = 0; i < extent.size(); ++i) outputs *= i == axis ? 1 : extent[i];
    for (std::int64_t i = 0; i < outputs; ++i) count += factors[axis].cols;
    extent[axis] = factors[axis].rows;
  }
  return count;
}

TEST(HashShape, CostsWhatThePaperSaysAt64) {
  EXPECT_EQ(Multiplications(HashShapes(HashKind::kKronecker3, 64, 64)), 768);
  EXPECT_EQ(Multiplications(HashShapes(HashKind::kKronecker2, 64, 64)), 1024);
  EXPECT_EQ(Multiplications(HashShapes(HashKind::kDense, 64, 64)), 4096);
  EXPECT_EQ(MatrixValues(HashShapes(HashKind::kKronecker3, 64, 64)), 48);
}

TEST(HashShape, FollowsTheClosedFormsForPerfectPowers) {
  for (std::int64_t root = 1; root <= 8; ++root) {
    const std::int64_t cube = root * root * root;
    const std::int64_t square = root * root;
    EXPECT_EQ(Multiplications(HashShapes(HashKind::kKronecker3, cube, cube)), 3 * cube * root);
    EXPECT_EQ(Multiplications(HashShapes(HashKind::kKronecker2, square, square)),
              2 * square * root);
    EXPECT_EQ(MatrixValues(HashShapes(HashKind::kKronecker3, cube, cube)), 3 * square);
  }
}

TEST(HashShape, SplitsDAsEvenlyAsItsDivisorsAllow) {
  using Factors = std::vector<FactorShape>;
  const auto factors = [](HashKind kind, std::int64_t d) {
    return HashShapes(kind, d, d)[0].factors;
  };
  EXPECT_EQ(factors(HashKind::kKronecker3, 32), (Factors{{4, 4}, {4, 4}, {2, 2}}));
  EXPECT_EQ(factors(HashKind::kKronecker3, 80), (Factors{{5, 5}, {4, 4}, {4, 4}}));
  EXPECT_EQ(factors(HashKind::kKronecker3, 128), (Factors{{8, 8}, {4, 4}, {4, 4}}));
  EXPECT_EQ(factors(HashKind::kKronecker2, 96), (Factors{{12, 12}, {8, 8}}));
  EXPECT_EQ(factors(HashKind::kKronecker3, 7), (Factors{{7, 7}, {1, 1}, {1, 1}}));
}

TEST(HashShape, MoreBitsThanComponentsTakeBatches) {
  const auto batches = HashShapes(HashKind::kKronecker3, 32, 72);
  ASSERT_EQ(batches.size(), 3u);
  EXPECT_EQ(batches[0], batches[1]);
  EXPECT_EQ(batches[0].bits, 32);
  EXPECT_EQ(batches[2].bits, 8);
}

TEST(HashShape, IsOrthogonalisableCompleteAndCheapestForAnySize) {
  for (HashKind kind : {HashKind::kKronecker3, HashKind::kKronecker2, HashKind::kDense}) {
    for (std::int64_t d = 1; d <= 30; ++d) {
      for (std::int64_t k = 1; k <= 2 * d + 1; ++k) {
        std::int64_t bits = 0;
        std::int64_t counted = 0;
        for (const BatchShape& batch : HashShapes(kind, d, k)) {
          std::int64_t rows = 1;
          std::int64_t cols = 1;
          for (const FactorShape& factor : batch.factors) {
            EXPECT_LE(factor.rows, factor.cols);
            rows *= factor.rows;
            cols *= factor.cols;
          }
          EXPECT_EQ(cols, d);
          EXPECT_LE(batch.bits, d);
          EXPECT_GE(rows, batch.bits);
          const std::int64_t cost = CountedMultiplications(batch.factors);
          // No factor can lose a row: it would be too few bits, or it was not the cheapest choice.
          for (std::size_t i = 0; i < batch.factors.size(); ++i) {
            const FactorShape& factor = batch.factors[i];
            EXPECT_LT(rows / factor.rows * (factor.rows - 1), batch.bits) << d << " " << k;
          }
          bits += batch.bits;
          counted += cost;
        }
        EXPECT_EQ(bits, k);
        EXPECT_EQ(Multiplications(HashShapes(kind, d, k)), counted) << d << " " << k;
      }
    }
  }
}

TEST(HashShape, PutsTheFewerRowsWhereTheySaveMost) {
  // 48 of 64 bits: three rows in the factor applied first (the last) shrink every later step:
  // 3*4*16 + 4*4*(4*3) + 4*4*(4*3) = 576 multiplications; three rows in the first factor: 704.
  const auto batches = HashShapes(HashKind::kKronecker3, 64, 48);
  EXPECT_EQ(batches[0].factors, (std::vector<FactorShape>{{4, 4}, {4, 4}, {3, 4}}));
  EXPECT_EQ(Multiplications(batches), 576);
}

TEST(HashShape, RefusesHadamardAndSizesOutOfRange) {
  EXPECT_THROW(HashShapes(HashKind::kHadamard, 64, 64), Error);
  EXPECT_THROW(HashShapes(HashKind::kDense, 0, 64), Error);
  EXPECT_THROW(HashShapes(HashKind::kDense, 64, 0), Error);
  EXPECT_THROW(HashShapes(HashKind::kDense, 64, kMaxHashBits + 1), Error);
  EXPECT_THROW(HashShapes(HashKind::kDense, kMaxHashDimension + 1, 64), Error);
}

}  // namespace
}  // namespace elsa
