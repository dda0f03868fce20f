#include "elsa/reference/gram_schmidt.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"

namespace elsa::reference {
namespace {

TEST(GramSchmidt, RowsAreOrthonormal) {
  for (std::int64_t cols : {1, 2, 3, 4, 7, 8, 16, 31, 64, 100}) {
    for (std::int64_t rows : {std::int64_t{1}, (cols + 1) / 2, cols}) {
      for (std::uint64_t seed = 0; seed < 20; ++seed) {
        SCOPED_TRACE(testing::Message() << rows << " x " << cols << ", seed " << seed);
        Random random(seed);
        const std::vector<double> m = RandomOrthonormalRows(rows, cols, random);
        ASSERT_EQ(m.size(), static_cast<std::size_t>(rows * cols));
        double worst = 0;
        for (std::int64_t i = 0; i < rows; ++i) {
          for (std::int64_t j = 0; j <= i; ++j) {
            double dot = 0;
            for (std::int64_t c = 0; c < cols; ++c) dot += m[i * cols + c] * m[j * cols + c];
            worst = std::max(worst, std::abs(dot - (i == j ? 1.0 : 0.0)));
          }
        }
        // A row is at least 0.01 long before it is scaled, of about sqrt(cols): each of up to 100
        // projections leaves 2^-53 * sqrt(cols), times 100 by the scaling.
        EXPECT_LT(worst, 1e-11);
      }
    }
  }
}

TEST(GramSchmidt, RowsPointInEveryDirection) {
  // The mean of 2000 unit vectors in 4 dimensions has a length of about 1 / sqrt(2000) = 0.022.
  Random random(5);
  double sum[4] = {0, 0, 0, 0};
  for (int draw = 0; draw < 2000; ++draw) {
    const std::vector<double> m = RandomOrthonormalRows(4, 4, random);
    for (int c = 0; c < 4; ++c) sum[c] += m[12 + c];  // the last row, most constrained
  }
  for (double x : sum) EXPECT_NEAR(x / 2000, 0, 0.06);
}

TEST(GramSchmidt, RefusesMoreRowsThanColumns) {
  Random random(1);
  EXPECT_THROW(RandomOrthonormalRows(5, 4, random), Error);
  EXPECT_THROW(RandomOrthonormalRows(0, 4, random), Error);
}

TEST(GramSchmidt, NormalMatrixHasUnitVariance) {
  Random random(3);
  const std::vector<double> m = RandomNormalMatrix(100, 200, random);
  double sum = 0;
  double square = 0;
  for (double x : m) sum += x;
  for (double x : m) square += x * x;
  EXPECT_NEAR(sum / 20000, 0, 0.03);     // 4 standard errors
  EXPECT_NEAR(square / 20000, 1, 0.04);  // 4 standard errors of a variance: 4 sqrt(2 / 20000)
}

}  // namespace
}  // namespace elsa::reference
