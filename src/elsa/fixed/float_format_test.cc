#include "elsa/fixed/float_format.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "elsa/base/random.h"

namespace elsa::fixed {
namespace {

constexpr Rounding kModes[] = {Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kFloor,
                               Rounding::kTowardZero};

long double Number(const Dyadic& x) {
  return std::ldexp(static_cast<long double>(x.mantissa), static_cast<int>(x.exponent));
}

// The definition without arithmetic on bits: of all multiples of the unit in the number's binade,
// the one that the mode says; then the limits. Exact in long double for the formats of this test.
long double Expected(const FloatFormat& format, long double x, Rounding mode) {
  if (x == 0) return 0;
  const int exponent = std::ilogb(x);
  const long double unit = std::ldexp(1.0L, exponent - static_cast<int>(format.fraction_bits));
  const long double scaled = x / unit;
  long double rounded = std::floor(scaled);
  const long double low = scaled - rounded;
  if (mode == Rounding::kNearestEven) {
    rounded += low > 0.5L || (low == 0.5L && std::fmod(rounded, 2.0L) != 0) ? 1 : 0;
  } else if (mode == Rounding::kNearestUp) {
    rounded += low >= 0.5L ? 1 : 0;
  } else if (mode == Rounding::kTowardZero) {
    rounded = std::trunc(scaled);
  }
  const long double result = rounded * unit;
  const auto fraction_bits = static_cast<int>(format.fraction_bits);
  const long double largest = (2 - std::ldexp(1.0L, -fraction_bits)) *
                              std::ldexp(1.0L, static_cast<int>(format.max_exponent()));
  if (std::abs(result) > largest) return std::copysign(largest, result);
  if (std::abs(result) < std::ldexp(1.0L, static_cast<int>(format.min_exponent()))) return 0;
  return result;
}

TEST(FloatFormat, HasTheRangeOfItsExponentBits) {
  const FloatFormat paper{10, 5};
  EXPECT_EQ(paper.bias(), 511);
  EXPECT_EQ(paper.min_exponent(), -510);
  EXPECT_EQ(paper.max_exponent(), 512);
}

TEST(FloatFormat, EncodeUndoesDecodeForEveryCode) {
  for (const FloatFormat format : {FloatFormat{4, 3}, FloatFormat{5, 1}, FloatFormat{10, 5}}) {
    const auto magnitude_bits = format.exponent_bits + format.fraction_bits;
    for (FloatCode code = 0; code < FloatCode{2} << magnitude_bits; ++code) {
      const Dyadic number = Decode(format, code);
      const bool zero = (code >> format.fraction_bits & ((1 << format.exponent_bits) - 1)) == 0;
      EXPECT_EQ(number.mantissa == 0, zero);
      EXPECT_EQ(Encode(format, number, Rounding::kNearestEven), zero ? 0 : code);
    }
  }
}

TEST(FloatFormat, CodesOfAscendingMagnitudeStandForAscendingNumbers) {
  const FloatFormat format{4, 3};
  for (FloatCode code = 8; code + 1 < 128; ++code) {
    EXPECT_LT(Number(Decode(format, code)), Number(Decode(format, code + 1)));
    EXPECT_EQ(Number(Decode(format, code | 128)), -Number(Decode(format, code)));
  }
  EXPECT_EQ(Number(Decode(format, 127)), 1.875L * 256);
  EXPECT_EQ(Number(Decode(format, 8)), std::ldexp(1.0L, -6));
}

// All pairs of 1 + 4 + 3 bits, all modes: one exact rounding.
TEST(FloatFormat, AddsAndMultipliesEveryPairWithOneRounding) {
  const FloatFormat format{4, 3};
  for (const Rounding mode : kModes) {
    for (FloatCode a = 0; a < 256; ++a) {
      for (FloatCode b = 0; b < 256; ++b) {
        const long double x = Number(Decode(format, a));
        const long double y = Number(Decode(format, b));
        ASSERT_EQ(Number(Decode(format, Add(format, a, Decode(format, b), mode))),
                  Expected(format, x + y, mode))
            << a << " + " << b;
        ASSERT_EQ(Number(Decode(format, Multiply(format, a, b, mode))),
                  Expected(format, x * y, mode))
            << a << " * " << b;
      }
    }
  }
}

// Wide formats, wider addends, exponents so close that 64 bits of long double hold the sum.
TEST(FloatFormat, AddsRandomPairsWithOneRounding) {
  Random random(11);
  for (int trial = 0; trial < 200000; ++trial) {
    const FloatFormat format{10, 1 + static_cast<std::int64_t>(random.Below(16))};
    const Rounding mode = kModes[random.Below(4)];
    const auto fraction = static_cast<FloatCode>(random.Below(1u << format.fraction_bits));
    const FloatCode code = static_cast<FloatCode>(
        (random.Below(2) << 10 | (480 + random.Below(20))) << format.fraction_bits | fraction);
    const Dyadic b{static_cast<std::int64_t>(random.Below(1 << 24)) - (1 << 23),
                   -24 - static_cast<std::int64_t>(random.Below(25))};
    const long double sum = Number(Decode(format, code)) + Number(b);
    ASSERT_EQ(Number(Decode(format, Add(format, code, b, mode))), Expected(format, sum, mode))
        << "trial " << trial;
  }
}

// Numbers so far apart that the sum has hundreds of bits: the smaller one only breaks ties and
// decides directed roundings.
TEST(FloatFormat, AddSeesATermThatIsFarTooSmall) {
  const FloatFormat format{10, 5};
  const FloatCode one = Encode(format, {1, 0}, Rounding::kNearestEven);
  const Dyadic tiny{1, -400};
  const Dyadic minus_tiny{-1, -400};
  const auto sum = [&](const Dyadic& b, Rounding mode) {
    return Number(Decode(format, Add(format, one, b, mode)));
  };
  for (const Rounding mode : kModes) EXPECT_EQ(sum(tiny, mode), 1);
  EXPECT_EQ(sum(minus_tiny, Rounding::kNearestEven), 1);
  EXPECT_EQ(sum(minus_tiny, Rounding::kNearestUp), 1);
  EXPECT_EQ(sum(minus_tiny, Rounding::kFloor), 1 - 1.0L / 64);
  EXPECT_EQ(sum(minus_tiny, Rounding::kTowardZero), 1 - 1.0L / 64);
  // 1 + 1/64 is a tie; a speck of the accumulator's side decides it.
  const FloatCode speck = Encode(format, tiny, Rounding::kNearestEven);
  EXPECT_EQ(Number(Decode(format, Add(format, speck, {65, -6}, Rounding::kNearestEven))),
            1 + 1.0L / 32);
  EXPECT_EQ(Number(Decode(format, Add(format, 0, {65, -6}, Rounding::kNearestEven))), 1);
}

TEST(FloatFormat, SaturatesAndFlushes) {
  const FloatFormat format{4, 3};
  EXPECT_EQ(Encode(format, {1, 9}, Rounding::kNearestEven), 127u);
  EXPECT_EQ(Encode(format, {-1, 900}, Rounding::kNearestEven), 255u);
  EXPECT_EQ(Encode(format, {31, 4}, Rounding::kNearestEven), 127u);  // 496 rounds to 512
  EXPECT_EQ(Encode(format, {1, -7}, Rounding::kNearestEven), 0u);
  EXPECT_EQ(Encode(format, {-1, -700}, Rounding::kFloor), 0u);
}

}  // namespace
}  // namespace elsa::fixed
