// The custom floating point of the machine: one sign bit, an exponent field, a fraction.
// Source: Sec. IV-E "Number Representation" (1 + 10 + 5 bits). These integer functions are its
// definition; the fast sums of elsa/fixed/bank_sums.h are tested against them.
//
// Our choice where the paper is silent: bias 2^(e-1) - 1, an exponent field of 0 is the value 0,
// all other fields are ordinary numbers. No subnormals, infinities or NaN: what is too large
// becomes the largest number, what is too small becomes 0.
#ifndef ELSA_FIXED_FLOAT_FORMAT_H_
#define ELSA_FIXED_FLOAT_FORMAT_H_

#include <cstdint>

#include "elsa/params/config.h"

namespace elsa::fixed {

struct FloatFormat {
  std::int64_t exponent_bits = 0;
  std::int64_t fraction_bits = 0;

  std::int64_t bias() const { return (std::int64_t{1} << (exponent_bits - 1)) - 1; }
  std::int64_t min_exponent() const { return 1 - bias(); }
  std::int64_t max_exponent() const { return (std::int64_t{1} << exponent_bits) - 1 - bias(); }
};

// sign << (exponent_bits + fraction_bits) | field << fraction_bits | fraction. Zero is 0.
using FloatCode = std::uint32_t;

// The number mantissa * 2^exponent.
struct Dyadic {
  std::int64_t mantissa = 0;
  std::int64_t exponent = 0;
};

// The number that a code stands for: its mantissa has fraction_bits + 1 bits and the sign.
Dyadic Decode(const FloatFormat& format, FloatCode code);

// The nearest code by `mode`: rounded to the fraction as if exponents had no limits, then saturated
// or flushed to 0.
FloatCode Encode(const FloatFormat& format, const Dyadic& value, Rounding mode);

// a + b with one rounding. |b.mantissa| < 2^30.
FloatCode Add(const FloatFormat& format, FloatCode a, const Dyadic& b, Rounding mode);

// a * b with one rounding.
FloatCode Multiply(const FloatFormat& format, FloatCode a, FloatCode b, Rounding mode);

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_FLOAT_FORMAT_H_
