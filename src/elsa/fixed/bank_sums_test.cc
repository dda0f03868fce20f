#include "elsa/fixed/bank_sums.h"

#include <gtest/gtest.h>

#include <span>

#include "elsa/base/random.h"
#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

Config RandomConfig(Random& random) {
  const auto between = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random.Below(high - low + 1));
  };
  Config config;
  config.accumulator = between(0, 1) != 0 ? Accumulator::kInteger : Accumulator::kFloat;
  config.accumulator_rounding = static_cast<Rounding>(between(0, 3));
  config.qkv_integer_bits = between(0, 6);
  config.qkv_fraction_bits = between(1, 5);
  config.float_exponent_bits = between(4, 10);
  config.float_fraction_bits = between(1, 12);
  const bool is_float = config.accumulator == Accumulator::kFloat;
  config.accumulator_fraction_bits = between(1, is_float ? 16 : 9);
  config.sum_fraction_bits = between(5, 16);
  ValidateConfig(config);
  return config;
}

// Weights of all sizes; every second run in the middle of the range, so that sums add up.
Weight RandomWeight(const ExpUnit& exp, const Config& config, bool narrow, Random& random) {
  std::int64_t low = exp.min_exponent();
  std::int64_t high = exp.max_exponent() + 9;  // as a mean row's weight may be
  if (narrow) {
    low = (low + high) / 2;
    high = std::min(high, low + 8);
  }
  const std::int64_t one = std::int64_t{1} << config.float_fraction_bits;
  return {static_cast<std::int32_t>(one + random.Below(one)),
          static_cast<std::int32_t>(low + random.Below(high - low + 1))};
}

TEST(FastBankSums, EqualTheAttentionUnitBitByBit) {
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const Config config = RandomConfig(random);
    const ExpUnit exp(config);
    const AttentionUnit unit(config);
    const std::int64_t bits = config.qkv_integer_bits + config.qkv_fraction_bits;
    const std::int64_t d_v = 1 + static_cast<std::int64_t>(random.Below(40));
    FastBankSums fast(config, d_v);
    fast.Start();
    BankSums expected = unit.Start(d_v);
    BankSums got;
    // A bank's keys and the mean row.
    const std::uint64_t candidates = random.Below(config.n / config.banks + 2);
    for (std::uint64_t i = 0; i < candidates; ++i) {
      std::vector<std::int16_t> value(d_v);
      for (std::int16_t& v : value) {
        v = static_cast<std::int16_t>(random.Below(2 << bits) - (1u << bits));
      }
      const Weight weight = RandomWeight(exp, config, seed % 2 == 0, random);
      unit.Add(weight, value, expected);
      fast.Add(weight, value.data());
      fast.CopyTo(got);
      ASSERT_EQ(got.exponent, expected.exponent);
      ASSERT_EQ(got.weights, expected.weights);
      ASSERT_EQ(got.outputs, expected.outputs) << "candidate " << i;
    }
  }
}

TEST(FastBankSums, StartForgetsTheLastQuery) {
  for (const Accumulator accumulator : {Accumulator::kFloat, Accumulator::kInteger}) {
    Config config;
    config.accumulator = accumulator;
    FastBankSums sums(config, 2);
    const std::vector<std::int16_t> value{100, -3};
    sums.Start();
    sums.Add({40, 7}, value.data());
    sums.Start();
    BankSums got;
    sums.CopyTo(got);
    EXPECT_EQ(got, AttentionUnit(config).Start(2));
  }
}

TEST(FastDot, EqualsTheAttentionUnit) {
  Random random(3);
  for (std::int64_t d = 1; d <= 64; ++d) {
    std::vector<std::int16_t> a(d);
    std::vector<std::int16_t> b(d);
    for (std::int16_t& x : a) x = static_cast<std::int16_t>(random.Below(4096) - 2048);
    for (std::int16_t& x : b) x = static_cast<std::int16_t>(random.Below(4096) - 2048);
    EXPECT_EQ(FastDot(a.data(), b.data(), d), AttentionUnit::Dot(a, b));
  }
}

}  // namespace
}  // namespace elsa::fixed
