// Elementary functions from additions, multiplications, divisions and square roots only. The C
// library's differ in the last bit between processors and versions; a plan must not.
// Accuracy: within 4 units in the last place of double over the ranges stated. Not a general libm.
#ifndef ELSA_BASE_PORTABLE_MATH_H_
#define ELSA_BASE_PORTABLE_MATH_H_

namespace elsa {

inline constexpr double kPi = 3.14159265358979323846;

// e^x. Below -708 it returns 0, above 709 infinity; NaN gives NaN.
double PortableExp(double x) noexcept;

// Natural logarithm of a positive normal number.
double PortableLog(double x) noexcept;

// Cosine of an angle in [0, pi], in radians; absolute error below 1e-15.
double PortableCos(double angle) noexcept;

// The angle in [0, pi] whose cosine is x, for x in [-1, 1] (clamped to it), in radians.
double PortableAcos(double x) noexcept;

}  // namespace elsa

#endif  // ELSA_BASE_PORTABLE_MATH_H_
