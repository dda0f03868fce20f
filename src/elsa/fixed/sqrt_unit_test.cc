#include "elsa/fixed/sqrt_unit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "elsa/fixed/norm_unit.h"

namespace elsa::fixed {
namespace {

Config With(std::int64_t entries, std::int64_t fraction_bits) {
  Config config;
  config.sqrt_table_entries = entries;
  config.sqrt_fraction_bits = fraction_bits;
  return config;
}

TEST(SqrtUnit, TableIsTheReciprocalRootOfEachMiddle) {
  for (const auto& [entries, bits] : {std::pair{32, 10}, {2, 1}, {64, 16}, {4096, 12}}) {
    const SqrtUnit unit(With(entries, bits));
    ASSERT_EQ(unit.table().size(), static_cast<std::size_t>(entries));
    for (int i = 0; i < entries; ++i) {
      const int half = entries / 2;
      const long double middle = (i < half ? 1 : 2) * (1 + (i % half + 0.5L) / half);
      EXPECT_EQ(unit.table()[i], std::round(std::ldexp(1 / std::sqrt(middle), bits)));
    }
  }
}

// Taylor: the root is (1 + r^2 / 8) too large at most, where r = (m - c) / c is at most half an
// interval: 1 / entries. The entry, above 1/2, adds half a unit of its fraction, relative to 1/2.
TEST(SqrtUnit, EveryRootIsWithinTheDerivedBound) {
  for (const auto& [entries, bits] : {std::pair{32, 10}, {32, 16}, {8, 12}, {2, 8}}) {
    const SqrtUnit unit(With(entries, bits));
    const double bound = 1.01 * (1.0 / (8.0 * entries * entries) + std::ldexp(1.0, -bits));
    double worst = 0;
    for (std::int64_t x = 1; x < 1 << 18; ++x) {
      const double root = std::ldexp(static_cast<double>(unit.Root(x, 24, 40)), -24);
      worst = std::max(worst, std::abs(root / std::sqrt(static_cast<double>(x)) - 1));
    }
    EXPECT_LE(worst, bound) << entries << " entries, " << bits << " bits";
    EXPECT_GE(worst, bound / 10);
  }
}

TEST(SqrtUnit, TakesTheWholeRange) {
  const SqrtUnit unit(With(32, 16));
  for (const std::int64_t x : {std::int64_t{1} << 30, (std::int64_t{1} << 31) - 1,
                               (std::int64_t{1} << 32) - 1, std::int64_t{3} << 30}) {
    EXPECT_NEAR(unit.Root(x, 8, 40), std::sqrt(static_cast<double>(x)) * 256, 2000);
  }
  EXPECT_EQ(unit.Root(0, 30, 8), 0);
  EXPECT_EQ(unit.Root(1, -200, 8), 0);
  bool saturated = false;
  EXPECT_EQ(unit.Root(1, 200, 8, &saturated), 255);
  EXPECT_TRUE(saturated);
}

// The operand's modified bits are h r1 (not r1) r2 r3...: what the header says costs no adder.
TEST(SqrtUnit, ModifiedOperandIsTheMeanOfOperandAndMiddle) {
  constexpr int kIndexBits = 4;
  constexpr int kLow = 8;
  for (int x = 0; x < 1 << (kIndexBits + kLow); ++x) {
    const int high = x >> kLow;
    const int r1 = x >> (kLow - 1) & 1;
    const int rest = x & ((1 << (kLow - 1)) - 1);
    const int spliced = (((high << 1 | r1) << 1 | (1 - r1)) << (kLow - 1)) | rest;
    const int middle = (2 * high + 1) << (kLow - 1);
    EXPECT_EQ(spliced, x + middle);  // one more fraction bit than x: twice the mean
  }
}

// Every square that a 1 + 5 + 3 key of 64 components can have, on the paper's 8-bit norms.
TEST(NormUnit, EveryPaperNormIsWithinOneUnit) {
  const Config config;
  const NormUnit unit(config);
  for (std::int64_t square = 0; square <= 64 * 65536; square += square < 100000 ? 1 : 97) {
    const double norm = std::sqrt(static_cast<double>(square));  // in units of 2^-3
    bool saturated = false;
    const std::int64_t got = unit.Norm(square, config.norm_fraction_bits, &saturated);
    if (norm > 256) {
      EXPECT_EQ(got, 255);
      EXPECT_TRUE(saturated);
    } else if (norm < 255) {
      // The unit's relative error of 1.1 * 2^-10 at 255 is 0.28, rounding a half.
      EXPECT_LE(std::abs(static_cast<double>(got) - norm), 0.8) << square;
      EXPECT_FALSE(saturated);
    }
  }
}

TEST(NormUnit, SquareIsExact) {
  const std::vector<std::int16_t> key{-256, 255, 3, 0};
  EXPECT_EQ(NormUnit::Square(key), 65536 + 65025 + 9);
}

}  // namespace
}  // namespace elsa::fixed
