#include "elsa/base/random.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace elsa {
namespace {

TEST(Random, IsTheSplitMix64SequenceOfItsSeed) {
  // First outputs of SplitMix64 for seed 1234567, as published with the algorithm.
  Random random(1234567);
  EXPECT_EQ(random.Next(), 6457827717110365317u);
  EXPECT_EQ(random.Next(), 3203168211198807973u);
  EXPECT_EQ(random.Next(), 9817491932198370423u);
}

TEST(Random, NormalHasTheMomentsOfTheStandardNormal) {
  Random random(7);
  constexpr int kDraws = 400000;
  double sum = 0;
  double square = 0;
  double fourth = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = random.Normal();
    sum += x;
    square += x * x;
    fourth += x * x * x * x;
  }
  // Five standard errors of each moment.
  EXPECT_NEAR(sum / kDraws, 0, 5 / std::sqrt(kDraws));
  EXPECT_NEAR(square / kDraws, 1, 5 * std::sqrt(2.0 / kDraws));
  EXPECT_NEAR(fourth / kDraws, 3, 5 * std::sqrt(96.0 / kDraws));
}

TEST(Random, BelowIsUniform) {
  Random random(9);
  std::array<int, 7> count{};
  for (int i = 0; i < 70000; ++i) ++count[random.Below(7)];
  for (int c : count) EXPECT_NEAR(c, 10000, 5 * std::sqrt(10000.0 * 6 / 7));
}

}  // namespace
}  // namespace elsa
