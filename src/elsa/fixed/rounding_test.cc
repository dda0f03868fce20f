#include "elsa/fixed/rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace elsa::fixed {
namespace {

constexpr Rounding kModes[] = {Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kFloor,
                               Rounding::kTowardZero};

// By long double, exact for the small integers below.
std::int64_t Expected(long double x, Rounding mode) {
  const long double floor = std::floor(x);
  switch (mode) {
    case Rounding::kNearestEven: {
      const long double low = x - floor;
      const bool odd = std::fmod(floor, 2.0L) != 0;
      return static_cast<std::int64_t>(low > 0.5L || (low == 0.5L && odd) ? floor + 1 : floor);
    }
    case Rounding::kNearestUp:
      return static_cast<std::int64_t>(std::floor(x + 0.5L));
    case Rounding::kFloor:
      return static_cast<std::int64_t>(floor);
    case Rounding::kTowardZero:
      return static_cast<std::int64_t>(std::trunc(x));
  }
  return 0;
}

TEST(RoundShift, IsRightForAllNumbersOfTwelveBits) {
  for (const Rounding mode : kModes) {
    for (std::int64_t shift = 0; shift <= 14; ++shift) {
      for (std::int64_t value = -2048; value <= 2047; ++value) {
        const long double x = std::ldexp(static_cast<long double>(value), -static_cast<int>(shift));
        ASSERT_EQ(RoundShift(value, shift, mode), Expected(x, mode)) << value << " >> " << shift;
        ASSERT_EQ(static_cast<std::int64_t>(RoundReal(static_cast<double>(x), mode)),
                  Expected(x, mode));
      }
    }
  }
}

TEST(RoundShift, TakesAnyShiftOfAnyInteger) {
  constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
  constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const Rounding mode : kModes) {
    for (const std::int64_t shift : {62, 63, 64, 65, 1000}) {
      for (const std::int64_t value :
           {kLeast, kLeast + 1, std::int64_t{-1}, std::int64_t{0}, std::int64_t{1}, kMost}) {
        const long double x = std::ldexp(static_cast<long double>(value), -static_cast<int>(shift));
        EXPECT_EQ(RoundShift(value, shift, mode), Expected(x, mode)) << value << " >> " << shift;
      }
    }
  }
}

TEST(RoundReal, RoundsNumbersNextToZeroAndToTies) {
  const double tiny = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(RoundReal(-tiny, Rounding::kNearestEven), 0);
  EXPECT_EQ(RoundReal(-tiny, Rounding::kNearestUp), 0);
  EXPECT_EQ(RoundReal(-tiny, Rounding::kTowardZero), 0);
  EXPECT_EQ(RoundReal(-tiny, Rounding::kFloor), -1);
  EXPECT_EQ(RoundReal(std::nextafter(-0.5, 0), Rounding::kNearestEven), 0);
  EXPECT_EQ(RoundReal(std::nextafter(-0.5, -1), Rounding::kNearestUp), -1);
  EXPECT_EQ(RoundReal(std::nextafter(0.5, 0), Rounding::kNearestUp), 0);
}

TEST(Saturate, HoldsTwosComplement) {
  EXPECT_EQ(Saturate(300, 8), 255);
  EXPECT_EQ(Saturate(-300, 8), -256);
  EXPECT_EQ(Saturate(-256, 8), -256);
  EXPECT_EQ(Saturate(17, 8), 17);
}

TEST(BitWidth, CountsUpToTheHighestBit) {
  EXPECT_EQ(BitWidth(0), 0);
  EXPECT_EQ(BitWidth(1), 1);
  EXPECT_EQ(BitWidth(255), 8);
  EXPECT_EQ(BitWidth(256), 9);
  EXPECT_EQ(BitWidth(~std::uint64_t{0}), 64);
  EXPECT_EQ(Log2(32), 5);
}

}  // namespace
}  // namespace elsa::fixed
