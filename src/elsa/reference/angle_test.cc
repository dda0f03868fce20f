#include "elsa/reference/angle.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "elsa/base/error.h"
#include "elsa/base/random.h"
#include "elsa/reference/hash.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

double MeasuredBias(HashKind kind, std::int64_t d, std::int64_t k) {
  return MeasureThetaBias(MakeHash(kind, d, k, 1));
}

// Source: Sec. III-B: 0.127 at d = k = 64.
TEST(ThetaBias, Is127MilliradiansForOrthogonalHashesOf64Bits) {
  for (HashKind kind :
       {HashKind::kDense, HashKind::kKronecker3, HashKind::kKronecker2, HashKind::kHadamard}) {
    const double bias = MeasuredBias(kind, 64, 64);
    EXPECT_GE(bias, 0.124) << Name(kind);
    EXPECT_LE(bias, 0.130) << Name(kind);
  }
}

TEST(ThetaBias, IsLargerForAGaussianHash) {
  const double bias = MeasuredBias(HashKind::kGaussian, 64, 64);
  EXPECT_GE(bias, 0.163);
  EXPECT_LE(bias, 0.169);
}

TEST(ThetaBias, GrowsWithFewerBits) {
  // Measured independently: .129 at d = 32, k = 64 and .179 at d = k = 32. The standard error of
  // an 80th percentile of 50000 values of spread s is about s / 160: .001; and drawing another hash
  // moves it by about as much again. 0.006 is four of both.
  EXPECT_NEAR(MeasuredBias(HashKind::kKronecker3, 32, 64), 0.129, 0.006);
  EXPECT_NEAR(MeasuredBias(HashKind::kKronecker3, 32, 32), 0.179, 0.006);
}

TEST(ThetaBias, IsThePercentileOfSignedErrors) {
  // An own loop over other pairs: agreement within both sampling errors.
  const HashSpec hash = MakeHash(HashKind::kDense, 16, 32, 3);
  Random random(77);
  std::vector<double> errors;
  for (int pair = 0; pair < 50000; ++pair) {
    std::vector<float> a(16);
    std::vector<float> b(16);
    double ab = 0;
    double aa = 0;
    double bb = 0;
    for (int c = 0; c < 16; ++c) {
      a[c] = static_cast<float>(random.Normal());
      b[c] = static_cast<float>(random.Normal());
      ab += a[c] * b[c];
      aa += a[c] * a[c];
      bb += b[c] * b[c];
    }
    const int distance = HammingDistance(HashVectors(hash, a), HashVectors(hash, b));
    errors.push_back(M_PI / 32 * distance - std::acos(ab / std::sqrt(aa * bb)));
  }
  std::sort(errors.begin(), errors.end());
  EXPECT_NEAR(MeasureThetaBias(hash), errors[40000], 0.006);
}

TEST(ThetaBias, IsReproducible) {
  const HashSpec hash = MakeHash(HashKind::kKronecker3, 32, 32, 1);
  EXPECT_EQ(MeasureThetaBias(hash, 32, 500, 4), MeasureThetaBias(hash, 32, 500, 4));
  EXPECT_NE(MeasureThetaBias(hash, 32, 500, 4), MeasureThetaBias(hash, 32, 500, 5));
  EXPECT_EQ(MeasureThetaBias(hash), MeasureThetaBias(hash, 32, 50000, 1));
  EXPECT_THROW(MeasureThetaBias(hash, 32, 0), Error);
}

// Percentile of the signed errors of vectors of 32 components, with their columns of the explicit
// matrix of a 64 x 64 hash; double, own random numbers.
double BiasOf32ByHand(const HashSpec& hash, int pairs) {
  std::vector<std::vector<double>> matrix;
  for (const auto& row : ExplicitMatrix(hash, hash.batches.at(0))) {
    matrix.emplace_back();
    for (std::int64_t p : PositionsOf32In64(hash.kind)) matrix.back().push_back(row[p]);
  }
  const auto dot = [](const std::vector<double>& x, const std::vector<double>& y) {
    double sum = 0;
    for (int c = 0; c < 32; ++c) sum += x[c] * y[c];
    return sum;
  };
  Random random(78);
  std::vector<double> errors;
  std::vector<double> a(32);
  std::vector<double> b(32);
  for (int pair = 0; pair < pairs; ++pair) {
    for (double& x : a) x = random.Normal();
    for (double& x : b) x = random.Normal();
    int distance = 0;
    for (const auto& row : matrix) distance += (dot(row, a) >= 0) != (dot(row, b) >= 0) ? 1 : 0;
    errors.push_back(M_PI / 64 * distance -
                     std::acos(dot(a, b) / std::sqrt(dot(a, a) * dot(b, b))));
  }
  std::sort(errors.begin(), errors.end());
  return errors[pairs * 8 / 10];
}

TEST(ThetaBias, OfHalfTheComponentsThatTheHashTakesIsThatOfAFullHash) {
  // 64 rows of half the length. Measured in numpy, 30000 pairs each for 24 draws: .127 (.0012 from
  // draw to draw) for a dense hash, .130 (.0036) for three factors of which each keeps all of its
  // columns. If the first factor kept two, it would be .162 (.014). The mean of 8 draws within 4
  // deviations of such a mean, the measured one's own error included: 4 * sqrt(1/8 + 1/24).
  const struct {
    HashKind kind;
    double mean;
    double bound;
  } cases[] = {{HashKind::kDense, 0.127, 1.64 * 0.0012},
               {HashKind::kKronecker3, 0.130, 1.64 * 0.0036}};
  for (const auto& c : cases) {
    double mean = 0;
    for (std::uint64_t seed = 1; seed <= 8; ++seed) {
      const HashSpec hash = MakeHash(c.kind, 64, 64, seed);
      const double bias = MeasureThetaBias(hash, 32, 30000);
      mean += bias / 8;
      // Other pairs: errors spread by .16, so that an 80th percentile (density .28 / spread there)
      // of 30000 and of 5000 has a standard error of .0013 and .0032; this is 4 of both together.
      EXPECT_NEAR(bias, BiasOf32ByHand(hash, 5000), 0.014) << Name(c.kind) << " seed " << seed;
    }
    EXPECT_NEAR(mean, c.mean, c.bound) << Name(c.kind);
  }
}

TEST(ThetaBias, RefusesVectorsThatTheHashDoesNotTake) {
  const HashSpec hash = MakeHash(HashKind::kDense, 8, 8, 1);
  for (std::int64_t d : {-1, 0, 9}) {
    try {
      MeasureThetaBias(hash, d);
      ADD_FAILURE() << d;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kMismatch);
      EXPECT_EQ(error.what(),
                "hash: expected vectors of 1 to 8 components, got " + std::to_string(d));
    }
  }
}

TEST(CosineTable, EqualsTheCosineOfTheClampedAngle) {
  for (std::int64_t k : {1, 2, 16, 64, 100, 256}) {
    for (double bias : {-0.3, 0.0, 0.05, 0.127, 0.6}) {
      SCOPED_TRACE(testing::Message() << "k " << k << " bias " << bias);
      const std::vector<float> table = CosineTable(k, bias);
      ASSERT_EQ(table.size(), static_cast<std::size_t>(k + 1));
      for (std::int64_t i = 0; i <= k; ++i) {
        const double angle =
            std::min(M_PI, std::max(0.0, M_PI * static_cast<double>(i) / k - bias));
        EXPECT_NEAR(table[i], std::cos(angle), 0x1p-24);  // half a unit in the last place of 1
        EXPECT_LE(table[i], table[i > 0 ? i - 1 : 0]);
      }
    }
  }
}

TEST(CosineTable, IsFlatWhereTheClampHolds) {
  // pi/64 * 2 = 0.098 is below 0.127, pi/64 * 3 = 0.147 is above it.
  const std::vector<float> table = CosineTable(64, 0.127);
  EXPECT_EQ(table[0], 1.0f);
  EXPECT_EQ(table[1], 1.0f);
  EXPECT_EQ(table[2], 1.0f);
  EXPECT_LT(table[3], 1.0f);
}

TEST(EstimatedAngle, IsClampedAtBothEnds) {
  EXPECT_EQ(EstimatedAngle(64, 0.127, 0), 0.0);
  EXPECT_DOUBLE_EQ(EstimatedAngle(64, -0.5, 64), M_PI);
  EXPECT_DOUBLE_EQ(EstimatedAngle(64, 0.127, 32), M_PI / 2 - 0.127);
}

TEST(TrueAngle, HasClosedForms) {
  const float x[] = {1, 0, 0};
  const float y[] = {0, -2, 0};
  const float diagonal[] = {3, 3, 0};
  const float opposite[] = {-5, 0, 0};
  const float zero[] = {0, 0, 0};
  EXPECT_NEAR(TrueAngle(x, y, 3), M_PI / 2, 1e-15);
  EXPECT_NEAR(TrueAngle(x, diagonal, 3), M_PI / 4, 1e-15);
  EXPECT_NEAR(TrueAngle(x, opposite, 3), M_PI, 1e-15);
  EXPECT_NEAR(TrueAngle(x, x, 3), 0, 1e-15);
  EXPECT_NEAR(TrueAngle(x, zero, 3), M_PI / 2, 1e-15);
}

TEST(Percentile, EqualsCountingInSortedValues) {
  Random random(6);
  for (std::size_t count : {1u, 2u, 5u, 10u, 99u, 100u, 1001u}) {
    for (double percentile : {0.0, 0.1, 0.5, 0.8, 1.0}) {
      std::vector<double> values(count);
      for (double& value : values) value = std::floor(20 * random.Uniform());  // with ties
      std::vector<double> sorted = values;
      std::sort(sorted.begin(), sorted.end());
      const double got = Percentile(values, percentile);
      // The smallest value that at least the share do not exceed.
      double want = sorted.back();
      for (auto value = sorted.rbegin(); value != sorted.rend(); ++value) {
        const auto not_above =
            std::upper_bound(sorted.begin(), sorted.end(), *value) - sorted.begin();
        if (static_cast<double>(not_above) >= percentile * static_cast<double>(count))
          want = *value;
      }
      EXPECT_EQ(got, want) << count << " " << percentile;
    }
  }
}

}  // namespace
}  // namespace elsa::reference
