#include "elsa/params/hash_shape.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

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

// Walks the digits like an odometer and fills class after class.
std::vector<std::int64_t> PositionsByHand(const std::vector<std::int64_t>& columns,
                                          std::int64_t d) {
  std::vector<std::int64_t> classes;  // of each position
  std::vector<std::int64_t> digits(columns.size(), 0);
  for (bool more = true; more;) {
    std::int64_t sum = 0;
    for (std::int64_t digit : digits) sum += digit;
    classes.push_back(sum % columns[0]);
    std::size_t at = digits.size();
    while (at > 0 && digits[at - 1] + 1 == columns[at - 1]) digits[--at] = 0;
    more = at > 0;
    if (more) ++digits[at - 1];
  }
  std::vector<bool> taken(classes.size(), false);
  for (std::int64_t odd : {0, 1}) {
    for (std::int64_t wanted = odd; wanted < columns[0]; wanted += 2) {
      for (std::size_t p = 0; p < classes.size() && d > 0; ++p) {
        if (classes[p] != wanted) continue;
        taken[p] = true;
        --d;
      }
    }
  }
  std::vector<std::int64_t> positions;
  for (std::size_t p = 0; p < taken.size(); ++p) {
    if (taken[p]) positions.push_back(static_cast<std::int64_t>(p));
  }
  return positions;
}

TEST(InputPositions, FillEvenDigitSumsFirst) {
  using Positions = std::vector<std::int64_t>;
  // Written in digits: 000 013 022 031 103.
  EXPECT_EQ(InputPositions({4, 4, 4}, 5), (Positions{0, 7, 10, 13, 19}));
  EXPECT_EQ(InputPositions({8}, 6), (Positions{0, 1, 2, 3, 4, 6}));
  // Sums modulo 3: 0 in 00, 12, 21; then 2 in 02, 11, 20; then 1, first in 01.
  EXPECT_EQ(InputPositions({3, 3}, 7), (Positions{0, 1, 2, 4, 5, 6, 7}));
  Positions even;
  for (std::int64_t p = 0; p < 64; ++p) {
    if ((p / 16 + p / 4 % 4 + p % 4) % 2 == 0) even.push_back(p);
  }
  EXPECT_EQ(InputPositions({4, 4, 4}, 32), even);
}

TEST(InputPositions, EqualAnOdometerAndAreTheIdentityInFull) {
  for (const std::vector<std::int64_t>& columns : {std::vector<std::int64_t>{4, 4, 4},
                                                   {5, 4, 4},
                                                   {7, 1, 1},
                                                   {4, 3, 2},
                                                   {2, 3},
                                                   {9, 8},
                                                   {12}}) {
    std::int64_t size = 1;
    for (std::int64_t c : columns) size *= c;
    for (std::int64_t d = 1; d <= size; ++d) {
      ASSERT_EQ(InputPositions(columns, d), PositionsByHand(columns, d)) << d << " of " << size;
    }
    const std::vector<std::int64_t> all = InputPositions(columns, size);
    for (std::int64_t p = 0; p < size; ++p) EXPECT_EQ(all[p], p);
  }
}

TEST(InputPositions, UseAllColumnsOfEveryFactorAlikeAtHalfAndQuarter) {
  for (std::int64_t d : {16, 32, 48}) {
    std::vector<std::int64_t> uses(12, 0);
    for (std::int64_t p : InputPositions({4, 4, 4}, d)) {
      for (std::int64_t column : {p / 16, 4 + p / 4 % 4, 8 + p % 4}) ++uses[column];
    }
    EXPECT_EQ(uses, std::vector<std::int64_t>(12, d / 4)) << d;
  }
}

TEST(InputPositions, OfAHashAreThoseOfItsColumns) {
  HashSpec hash{HashKind::kKronecker2, 6, 6, 0, {{6, {{3, 3, {}}, {2, 2, {}}}}}};
  EXPECT_EQ(InputPositions(hash, 3), InputPositions({3, 2}, 3));
  EXPECT_NE(InputPositions(hash, 3), InputPositions({6}, 3));
  // Three rows of 8 signs for 6 components: none of the last two positions.
  hash = {HashKind::kHadamard, 6, 6, 0, {{6, {{1, 8, {}}, {1, 8, {}}, {1, 8, {}}}}}};
  EXPECT_EQ(InputPositions(hash, 4), (std::vector<std::int64_t>{0, 1, 2, 4}));
}

TEST(InputPositions, RefuseMoreComponentsThanColumns) {
  for (std::int64_t d : {-1, 0, 9}) {
    try {
      InputPositions({4, 2}, d);
      ADD_FAILURE() << d;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(error.what(), "hash: expected 1 to 8 components, got " + std::to_string(d));
    }
  }
  EXPECT_THROW(InputPositions(std::vector<std::int64_t>{}, 1), Error);
  EXPECT_THROW(InputPositions({4, -2, -2}, 1), Error);
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
