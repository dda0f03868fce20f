#include "elsa/base/portable_math.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace elsa {
namespace {

// The oracle is the C library in long double.
double RelativeError(double got, long double want) {
  return static_cast<double>(std::abs((got - want) / want));
}

TEST(PortableMath, ExpEqualsLongDoubleWithinFourUlp) {
  for (double x = -707.9; x < 708.9; x += 0.0371) {
    EXPECT_LT(RelativeError(PortableExp(x), std::exp(static_cast<long double>(x))), 9e-16) << x;
  }
}

TEST(PortableMath, ExpHandlesTheEnds) {
  EXPECT_EQ(PortableExp(0.0), 1.0);
  EXPECT_EQ(PortableExp(-std::numeric_limits<double>::infinity()), 0.0);
  EXPECT_EQ(PortableExp(std::numeric_limits<double>::infinity()),
            std::numeric_limits<double>::infinity());
  EXPECT_TRUE(std::isnan(PortableExp(std::numeric_limits<double>::quiet_NaN())));
}

TEST(PortableMath, LogEqualsLongDoubleWithinFourUlp) {
  for (double x = 1e-300; x < 1e300; x *= 1.37) {
    EXPECT_LT(RelativeError(PortableLog(x), std::log(static_cast<long double>(x))), 9e-16) << x;
  }
  EXPECT_EQ(PortableLog(1.0), 0.0);
}

TEST(PortableMath, CosAndAcosEqualLongDouble) {
  for (int i = 0; i <= 10000; ++i) {
    const double angle = kPi * i / 10000;
    EXPECT_NEAR(PortableCos(angle), static_cast<double>(std::cos(static_cast<long double>(angle))),
                1e-15);
    const double x = -1 + i / 5000.0;
    EXPECT_NEAR(PortableAcos(x), static_cast<double>(std::acos(static_cast<long double>(x))), 2e-15)
        << x;
  }
  EXPECT_EQ(PortableCos(0.0), 1.0);
  EXPECT_EQ(PortableAcos(1.5), 0.0);
  EXPECT_EQ(PortableAcos(-1.5), kPi);
}

}  // namespace
}  // namespace elsa
