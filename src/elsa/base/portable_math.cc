#include "elsa/base/portable_math.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace elsa {
namespace {

// ln 2 split so that n * kLn2High is exact for |n| < 2^11.
constexpr double kLn2High = 0x1.62e42fefa38p-1;
constexpr double kLn2Low = 0x1.ef35793c7673p-45;
constexpr double kLog2E = 1.44269504088896340736;

// atan(x) for x >= 0: three half-angle steps bring x below tan(pi/32), then the Taylor series.
double Atan(double x) {
  if (x > 1.0) return kPi / 2 - Atan(1.0 / x);
  double y = x;
  for (int i = 0; i < 3; ++i) y = y / (1.0 + std::sqrt(1.0 + y * y));
  const double z = y * y;
  double sum = 0;
  for (int n = 8; n >= 0; --n) sum = (n % 2 == 0 ? 1.0 : -1.0) / (2 * n + 1) + z * sum;
  return 8.0 * y * sum;
}

}  // namespace

double PortableExp(double x) noexcept {
  if (x < -708.0) return 0.0;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  if (x != x) return x;
  // 1.5 * 2^52 rounds to the nearest integer, and leaves that integer in the low bits.
  constexpr double kRound = 0x1.8p52;
  const double shifted = x * kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * kLn2High) - n * kLn2Low;
  // Taylor: |r| <= ln(2)/2, so the first term left out is below 2e-19.
  double sum = 1.0 / 87178291200.0;
  sum = sum * r + 1.0 / 6227020800.0;
  sum = sum * r + 1.0 / 479001600.0;
  sum = sum * r + 1.0 / 39916800.0;
  sum = sum * r + 1.0 / 3628800.0;
  sum = sum * r + 1.0 / 362880.0;
  sum = sum * r + 1.0 / 40320.0;
  sum = sum * r + 1.0 / 5040.0;
  sum = sum * r + 1.0 / 720.0;
  sum = sum * r + 1.0 / 120.0;
  sum = sum * r + 1.0 / 24.0;
  sum = sum * r + 1.0 / 6.0;
  sum = sum * r + 0.5;
  sum = sum * r + 1.0;
  sum = sum * r + 1.0;
  // Multiply by 2^n by adding n to the exponent: sum is in [0.7, 1.42], the result stays normal
  // or rounds up to infinity's neighbour, since n is in [-1022, 1023].
  const auto exponent = static_cast<std::int64_t>(n);
  return sum * std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

double PortableLog(double x) noexcept {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // exact: m in [0.5, 1)
  if (m < 0.70710678118654752440) {
    m *= 2;
    --exponent;
  }
  const double s = (m - 1.0) / (m + 1.0);  // |s| <= 0.1716
  const double z = s * s;
  double sum = 0;
  for (int n = 11; n >= 0; --n) sum = 1.0 / (2 * n + 1) + z * sum;
  return exponent * kLn2High + (2.0 * s * sum + exponent * kLn2Low);
}

double PortableCos(double angle) noexcept {
  if (angle > kPi / 2) return -PortableCos(kPi - angle);
  if (angle > kPi / 4) {  // sine of the complement
    const double r = kPi / 2 - angle;
    const double z = r * r;
    double sum = 1;
    for (int n = 9; n >= 1; --n) sum = 1.0 - z / ((2.0 * n) * (2.0 * n + 1.0)) * sum;
    return r * sum;
  }
  const double z = angle * angle;
  double sum = 1;
  for (int n = 9; n >= 1; --n) sum = 1.0 - z / ((2.0 * n - 1.0) * (2.0 * n)) * sum;
  return sum;
}

double PortableAcos(double x) noexcept {
  const double c = std::clamp(x, -1.0, 1.0);
  if (c == -1.0) return kPi;
  return 2.0 * Atan(std::sqrt((1.0 - c) / (1.0 + c)));
}

}  // namespace elsa
