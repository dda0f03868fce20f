#include "elsa/fixed/reciprocal_unit.h"

#include <gtest/gtest.h>

#include <cmath>

namespace elsa::fixed {
namespace {

Config With(std::int64_t entries, std::int64_t fraction_bits) {
  Config config;
  config.accumulator = Accumulator::kInteger;
  config.sum_fraction_bits = 12;
  config.reciprocal_table_entries = entries;
  config.reciprocal_fraction_bits = fraction_bits;
  return config;
}

TEST(ReciprocalUnit, TableIsTheReciprocalOfEachMiddle) {
  for (const auto& [entries, bits] : {std::pair{32, 5}, {32, 8}, {2, 1}, {4096, 1}, {256, 12}}) {
    const ReciprocalUnit unit(With(entries, bits));
    ASSERT_EQ(unit.table().size(), static_cast<std::size_t>(entries));
    for (int i = 0; i < entries; ++i) {
      const long double one = std::ldexp(1.0L, bits);
      const long double entry = std::nearbyint((2 / (1 + (i + 0.5L) / entries) - 1) * one);
      EXPECT_EQ(unit.table()[i], entry);
    }
  }
}

// Five bits of a sum, five bits of index: the paper's reciprocals have no error but their own.
TEST(ReciprocalUnit, EntriesOfFloatSumsAreForTheSumsThatThereAre) {
  for (const std::int64_t sum_bits : {5, 6, 8}) {
    Config config;
    config.sum_fraction_bits = sum_bits;
    config.reciprocal_fraction_bits = 10;
    const ReciprocalUnit unit(config);
    const std::int64_t shared = std::int64_t{1} << (sum_bits - 5);
    for (std::int64_t i = 0; i < 32; ++i) {
      long double middle = 0;
      for (std::int64_t j = 0; j < shared; ++j) {
        middle += (1 + std::ldexp(static_cast<long double>(i * shared + j),
                                  static_cast<int>(-sum_bits))) /
                  shared;
      }
      EXPECT_EQ(unit.table()[i], std::round((2 / middle - 1) * 1024));
    }
  }
}

// Half an interval at 1, and half a unit of an entry that is at least 1.
TEST(ReciprocalUnit, EveryReciprocalIsWithinTheDerivedBound) {
  for (const auto& [entries, bits] : {std::pair{32, 5}, {32, 8}, {64, 8}, {256, 12}}) {
    const ReciprocalUnit unit(With(entries, bits));
    const double bound = 0.5 / entries + std::ldexp(0.5, -bits) * 1.02;
    double worst = 0;
    for (std::int64_t mantissa = 1 << 12; mantissa < 1 << 16; ++mantissa) {
      for (const std::int64_t exponent : {-500, 0, 37}) {
        const Dyadic reciprocal = unit.Reciprocal({mantissa, exponent});
        EXPECT_GE(reciprocal.mantissa, 1 << bits);
        EXPECT_LE(reciprocal.mantissa, 2 << bits);
        const double product = std::ldexp(static_cast<double>(mantissa * reciprocal.mantissa),
                                          static_cast<int>(exponent + reciprocal.exponent));
        worst = std::max(worst, std::abs(product - 1));
      }
    }
    EXPECT_LE(worst, bound) << entries << " entries, " << bits << " bits";
    EXPECT_GE(worst, bound / 3);
  }
}

}  // namespace
}  // namespace elsa::fixed
