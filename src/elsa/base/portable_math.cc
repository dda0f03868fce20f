#include "elsa/base/portable_math.h"

#include <algorithm>
#include <cmath>

namespace elsa {
namespace {

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
  return exponent * internal::kLn2High + (2.0 * s * sum + exponent * internal::kLn2Low);
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
