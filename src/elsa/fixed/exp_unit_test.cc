#include "elsa/fixed/exp_unit.h"

#include <gtest/gtest.h>

#include <cmath>

#include "elsa/base/random.h"

namespace elsa::fixed {
namespace {

Config With(std::int64_t entries, std::int64_t fraction_bits, std::int64_t exponent_bits = 10) {
  Config config;
  config.exp_table_entries = entries;
  config.float_fraction_bits = fraction_bits;
  config.float_exponent_bits = exponent_bits;
  return config;
}

double Number(const Config& config, const Weight& w) {
  return std::ldexp(w.significand, static_cast<int>(w.exponent - config.float_fraction_bits));
}

TEST(ExpUnit, TableIsTheMiddleOfEachInterval) {
  for (const auto& [entries, bits] : {std::pair{32, 5}, {32, 12}, {2, 1}, {256, 8}, {4096, 1}}) {
    const Config config = With(entries, bits);
    const ExpUnit exp(config);
    ASSERT_EQ(exp.table().size(), static_cast<std::size_t>(entries));
    for (int i = 0; i < entries; ++i) {
      const long double power = std::exp2((i + 0.5L) / entries);
      const long double entry = std::round((power - 1) * std::ldexp(1.0L, bits));
      EXPECT_EQ(exp.table()[i], std::min(entry, std::ldexp(1.0L, bits) - 1));
    }
  }
}

// |2^y - weight| <= half an interval of y and half a unit of the fraction.
TEST(ExpUnit, EveryPowerIsWithinTheDerivedBound) {
  for (const auto& [entries, bits] : {std::pair{32, 5}, {32, 8}, {128, 7}, {4, 3}}) {
    const Config config = With(entries, bits, 6);
    const ExpUnit exp(config);
    double worst = 0;
    for (std::int64_t y = exp.lowest(); y <= exp.highest(); ++y) {
      const Weight weight = exp.Power(y);
      EXPECT_EQ(weight.significand >> bits, 1);
      // The true y lies anywhere in [y, y + 1) units.
      for (const double part : {0.0, 0.5, 1.0}) {
        const double truth = std::exp2((static_cast<double>(y) + part) / entries);
        worst = std::max(worst, std::abs(Number(config, weight) / truth - 1));
      }
    }
    EXPECT_LE(worst, std::exp2(0.5 / entries) - 1 + std::ldexp(0.5, -bits) * 1.02);
    EXPECT_GT(worst, 0.5 * (std::exp2(0.5 / entries) - 1));
  }
}

TEST(ExpUnit, PaperClampLeavesHeadRoomForSums) {
  const ExpUnit exp(Config{});
  EXPECT_EQ(exp.min_exponent(), -510);
  EXPECT_EQ(exp.max_exponent(), 497);
  // 512 of the largest weight times the largest value, doubled by rounding.
  const FloatFormat format{10, 5};
  EXPECT_LE(exp.max_exponent() + 1 + 9 + 5 + 1, format.max_exponent() + 1);
}

TEST(ExpUnit, ANarrowExponentLeavesOneBinade) {
  const ExpUnit exp(With(32, 5, 4));
  EXPECT_EQ(exp.min_exponent(), -6);
  EXPECT_EQ(exp.max_exponent(), -6);
  EXPECT_EQ(exp.Power(exp.Exponent(100000, {1, 20})).exponent, -6);
}

TEST(ExpUnit, ExponentIsTheFloorOfTheProductClamped) {
  const ExpUnit exp(Config{});
  Random random(2);
  for (int trial = 0; trial < 100000; ++trial) {
    const auto dot = static_cast<std::int64_t>(random.Below(1 << 24)) - (1 << 23);
    const ScoreConstant constant{256 + static_cast<std::int64_t>(random.Below(256)),
                                 20 - static_cast<std::int64_t>(random.Below(60))};
    const long double y = std::ldexp(static_cast<long double>(dot * constant.mantissa),
                                     static_cast<int>(constant.exponent + 5));
    const long double low = exp.lowest();
    const long double high = exp.highest();
    ASSERT_EQ(exp.Exponent(dot, constant), std::min(std::max(std::floor(y), low), high));
  }
  EXPECT_EQ(exp.Exponent(0, {300, 4000}), 0);
  EXPECT_EQ(exp.Exponent(-1, {300, 4000}), exp.lowest());
  EXPECT_EQ(exp.Exponent(1, {300, 4000}), exp.highest());
  EXPECT_EQ(exp.Exponent(-1, {300, -4000}), -1);
  EXPECT_EQ(exp.Exponent(1, {300, -4000}), 0);
}

TEST(ExpUnit, MultiplyRoundsAWeightTimesACount) {
  const Config config;
  const ExpUnit exp(config);
  const FloatFormat format{10, 5};
  for (std::int32_t significand = 32; significand < 64; ++significand) {
    for (std::int64_t count = 1; count <= 512; ++count) {
      const Weight product = exp.Multiply({significand, 3}, count);
      const Dyadic expected =
          Decode(format, Encode(format, {significand * count, 3 - 5}, Rounding::kNearestEven));
      ASSERT_EQ(product.significand, expected.mantissa);
      ASSERT_EQ(product.exponent - 5, expected.exponent);
    }
  }
}

}  // namespace
}  // namespace elsa::fixed
