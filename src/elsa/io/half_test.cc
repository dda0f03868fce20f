#include "elsa/io/half.h"

#include <gtest/gtest.h>

#include <cmath>

namespace elsa::io {
namespace {

// The value of a binary float of 16 bits, by the definition of the format, in double.
double Value(int bits, int exponent_bits, int mantissa_bits) {
  const int sign = bits >> 15;
  const int exponent = (bits >> mantissa_bits) & ((1 << exponent_bits) - 1);
  const int mantissa = bits & ((1 << mantissa_bits) - 1);
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  double magnitude = 0;
  if (exponent == (1 << exponent_bits) - 1) {
    magnitude = mantissa == 0 ? INFINITY : NAN;
  } else if (exponent == 0) {
    magnitude = std::ldexp(fraction, 1 - bias);
  } else {
    magnitude = std::ldexp(1 + fraction, exponent - bias);
  }
  return sign != 0 ? -magnitude : magnitude;
}

void ExpectEqual(float got, double expected, int bits) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << bits;
    return;
  }
  EXPECT_EQ(static_cast<double>(got), expected) << bits;
  EXPECT_EQ(std::signbit(got), std::signbit(expected)) << bits;
}

TEST(Half, EveryValueConvertsExactly) {
  for (int bits = 0; bits < 65536; ++bits) {
    ExpectEqual(HalfToFloat(static_cast<std::uint16_t>(bits)), Value(bits, 5, 10), bits);
  }
}

TEST(Bf16, EveryValueConvertsExactly) {
  for (int bits = 0; bits < 65536; ++bits) {
    ExpectEqual(Bf16ToFloat(static_cast<std::uint16_t>(bits)), Value(bits, 8, 7), bits);
  }
}

}  // namespace
}  // namespace elsa::io
