// Elementary functions from additions, multiplications, divisions and square roots only. The C
// library's differ in the last bit between processors and versions; a plan must not.
// Accuracy: within 4 units in the last place of double over the ranges stated. Not a general libm.
#ifndef ELSA_BASE_PORTABLE_MATH_H_
#define ELSA_BASE_PORTABLE_MATH_H_

#include <bit>
#include <cstdint>
#include <limits>

namespace elsa {

inline constexpr double kPi = 3.14159265358979323846;

// e^x. Below -708 it returns 0, above 709 infinity; NaN gives NaN. Inline: softmax lives in it.
inline double PortableExp(double x) noexcept;

// Natural logarithm of a positive normal number.
double PortableLog(double x) noexcept;

// Cosine of an angle in [0, pi], in radians; absolute error below 1e-15.
double PortableCos(double angle) noexcept;

// The angle in [0, pi] whose cosine is x, for x in [-1, 1] (clamped to it), in radians.
double PortableAcos(double x) noexcept;

// ---- inline ----

namespace internal {
// ln 2 split so that n * kLn2High is exact for |n| < 2^11.
inline constexpr double kLn2High = 0x1.62e42fefa38p-1;
inline constexpr double kLn2Low = 0x1.ef35793c7673p-45;
inline constexpr double kLog2E = 1.44269504088896340736;
}  // namespace internal

inline double PortableExp(double x) noexcept {
  if (x < -708.0) return 0.0;
  if (x > 709.0) return std::numeric_limits<double>::infinity();
  if (x != x) return x;
  // Adding 1.5 * 2^52 and taking it away rounds to the nearest integer.
  constexpr double kRound = 0x1.8p52;
  const double shifted = x * internal::kLog2E + kRound;
  const double n = shifted - kRound;
  const double r = (x - n * internal::kLn2High) - n * internal::kLn2Low;
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

}  // namespace elsa

#endif  // ELSA_BASE_PORTABLE_MATH_H_
