#include "elsa/fixed/attention_unit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "elsa/fixed/output_divider.h"
#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

Config Recommended() {
  Config config;
  SetFormats(&config, "recommended");
  return config;
}

TEST(AttentionUnit, DotIsExactAtTheEndsOfTheFormat) {
  const std::vector<std::int16_t> least(64, -256);
  const std::vector<std::int16_t> most(64, 255);
  EXPECT_EQ(AttentionUnit::Dot(least, least), 1 << 22);
  EXPECT_EQ(AttentionUnit::Dot(least, most), -64 * 256 * 255);
}

// Worked by hand: weights 1.5 * 2^3 and 1.25 * 2^5, one value; 5 + 3 fraction bits in, 3 more kept.
TEST(AttentionUnit, IntegerSumsShareTheLargestExponent) {
  const Config config = Recommended();
  const AttentionUnit unit(config);
  BankSums sums = unit.Start(1);
  unit.Add({48, 3}, std::vector<std::int16_t>{101}, sums);
  EXPECT_EQ(sums.exponent, 3);
  EXPECT_EQ(sums.weights, 384);      // 1.5 * 256
  EXPECT_EQ(sums.outputs[0], 1212);  // 48 * 101 / 4
  unit.Add({40, 5}, std::vector<std::int16_t>{-7}, sums);
  EXPECT_EQ(sums.exponent, 5);
  EXPECT_EQ(sums.weights, 96 + 320);     // 384 / 4 + 1.25 * 256
  EXPECT_EQ(sums.outputs[0], 303 - 70);  // floor(1212 / 4) + 40 * -7 / 4
  unit.Add({33, 4}, std::vector<std::int16_t>{3}, sums);
  EXPECT_EQ(sums.exponent, 5);
  EXPECT_EQ(sums.weights, 416 + 132);    // 33 * 8 / 2
  EXPECT_EQ(sums.outputs[0], 233 + 12);  // 99 / 8 and half added: 12.875 cut to 12
}

// The largest sums of the paper's machine: 128 keys of a bank and a mean row, all as large as can
// be. 20 bits with sign hold the outputs, 16 the weights, as the documentation says.
TEST(AttentionUnit, LargestIntegerSumsFitTheirRegisters) {
  const Config config = Recommended();
  const AttentionUnit unit(config);
  BankSums sums = unit.Start(2);
  for (int i = 0; i < 129; ++i) unit.Add({63, 7}, std::vector<std::int16_t>{-256, 255}, sums);
  EXPECT_GE(sums.outputs[0], SmallestSigned(19));
  EXPECT_LE(sums.outputs[1], LargestSigned(19));
  EXPECT_LT(sums.outputs[0], SmallestSigned(18));
  EXPECT_EQ(BitWidth(static_cast<std::uint64_t>(sums.weights)), 16);
}

TEST(OutputDivider, AlignsIntegerBanksByFloor) {
  const Config config = Recommended();
  const OutputDivider divider(config);
  const BankSums banks[] = {{2, 300, {-5, 100}}, {4, 500, {7, -1}}, {-510, 0, {0, 0}}};
  const BankSums merged = divider.Merge(banks);
  EXPECT_EQ(merged.exponent, 4);
  EXPECT_EQ(merged.weights, 75 + 500);
  EXPECT_EQ(merged.outputs, (std::vector<std::int64_t>{-2 + 7, 25 - 1}));
}

// 1 + 1/64 is a tie: (1 + 1/64) + 1/64 loses both, 1 + (1/64 + 1/64) keeps both.
TEST(OutputDivider, AddsFloatBanksAsATreeOfNeighbours) {
  Config config;
  const OutputDivider divider(config);
  const FloatFormat format = WeightSumFormat(config);
  const auto code = [&](std::int64_t mantissa, std::int64_t exponent) -> std::int64_t {
    return Encode(format, {mantissa, exponent}, Rounding::kNearestEven);
  };
  const auto sum = [&](const std::vector<std::int64_t>& codes) {
    std::vector<BankSums> banks;
    for (const std::int64_t c : codes) banks.push_back({0, c, {c}});
    const BankSums merged = divider.Merge(banks);
    EXPECT_EQ(merged.outputs[0], merged.weights);
    return merged.weights;
  };
  const std::int64_t one = code(1, 0);
  const std::int64_t small = code(1, -6);
  EXPECT_EQ(sum({one, small, small}), one);              // (one + small) + small
  EXPECT_EQ(sum({small, small, one}), code(33, -5));     // (small + small) + one
  EXPECT_EQ(sum({one, 0, small, small}), code(33, -5));  // (one + 0) + (small + small)
  EXPECT_EQ(sum({one, small, small, 0}), one);           // (one + small) + (small + 0)
  EXPECT_EQ(sum({0, one, 0, small, small}), one);        // the fifth waits
}

// All outputs of a small range: the quotient is the exact product rounded once.
TEST(OutputDivider, RoundsTheExactProductOnce) {
  const Config config = Recommended();
  const OutputDivider divider(config);
  for (std::int64_t weights = 256; weights < 1024; weights += 37) {
    const Dyadic reciprocal = divider.Reciprocal({5, weights, {}});
    for (std::int64_t sum = -3000; sum < 3000; sum += 7) {
      bool saturated = false;
      const std::int16_t got = divider.Quotient({5, weights, {sum}}, 0, reciprocal, &saturated);
      const double exact = static_cast<double>(sum * reciprocal.mantissa) *
                           std::ldexp(1, static_cast<int>(5 - 3 - 3 + reciprocal.exponent + 3));
      EXPECT_EQ(got,
                Saturate(static_cast<std::int64_t>(RoundReal(exact, config.output_rounding)), 8));
      EXPECT_EQ(saturated, exact >= 255.5 || exact < -256.5);
      // The table's 1/64 and its rounding.
      const double quotient = static_cast<double>(sum) * 32 / static_cast<double>(weights);
      if (!saturated) {
        EXPECT_NEAR(got, quotient, 0.5 + 0.018 * std::abs(quotient));
      }
    }
  }
}

}  // namespace
}  // namespace elsa::fixed
