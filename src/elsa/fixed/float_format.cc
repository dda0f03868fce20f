#include "elsa/fixed/float_format.h"

#include <cstdlib>
#include <utility>

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

std::int64_t Width(std::int64_t mantissa) {
  return BitWidth(static_cast<std::uint64_t>(std::abs(mantissa)));
}

}  // namespace

Dyadic Decode(const FloatFormat& format, FloatCode code) {
  const std::int64_t one = std::int64_t{1} << format.fraction_bits;
  const std::int64_t fraction = code & (one - 1);
  const std::int64_t field =
      (code >> format.fraction_bits) & ((std::int64_t{1} << format.exponent_bits) - 1);
  if (field == 0) return {};
  const bool negative = (code >> (format.fraction_bits + format.exponent_bits) & 1) != 0;
  const std::int64_t mantissa = one + fraction;
  return {negative ? -mantissa : mantissa, field - format.bias() - format.fraction_bits};
}

FloatCode Encode(const FloatFormat& format, const Dyadic& value, Rounding mode) {
  if (value.mantissa == 0) return 0;
  std::int64_t mantissa = value.mantissa;
  std::int64_t exponent = value.exponent;
  // Align the highest bit with the hidden one.
  const std::int64_t extra = Width(mantissa) - (format.fraction_bits + 1);
  if (extra > 0) mantissa = RoundShift(mantissa, extra, mode);
  if (extra < 0) mantissa *= std::int64_t{1} << -extra;
  exponent += extra;
  if (Width(mantissa) > format.fraction_bits + 1) {  // rounded up to a power of two
    mantissa /= 2;
    exponent += 1;
  }
  const std::int64_t one = std::int64_t{1} << format.fraction_bits;
  std::int64_t magnitude = std::abs(mantissa);
  std::int64_t field = exponent + format.fraction_bits + format.bias();
  if (field < 1) return 0;
  const std::int64_t largest_field = (std::int64_t{1} << format.exponent_bits) - 1;
  if (field > largest_field) {
    field = largest_field;
    magnitude = 2 * one - 1;
  }
  const std::int64_t sign = mantissa < 0 ? std::int64_t{1} << format.exponent_bits : 0;
  return static_cast<FloatCode>((sign + field) * one + (magnitude - one));
}

FloatCode Add(const FloatFormat& format, FloatCode a, const Dyadic& b, Rounding mode) {
  Dyadic large = Decode(format, a);
  if (b.mantissa == 0) return a;
  if (large.mantissa == 0) return Encode(format, b, mode);
  Dyadic small = b;
  if (Width(large.mantissa) + large.exponent < Width(small.mantissa) + small.exponent) {
    std::swap(large, small);
  }
  // The larger number's highest bit to bit 40: rounding happens above bit 22 then, and whatever of
  // the smaller number would fall below bit 0 only matters as "not zero", with its sign.
  const std::int64_t up = 41 - Width(large.mantissa);
  large.mantissa *= std::int64_t{1} << up;
  large.exponent -= up;
  const std::int64_t down = large.exponent - small.exponent;
  if (down <= 0) {
    large.mantissa += small.mantissa * (std::int64_t{1} << -down);
  } else if (down <= 20) {
    large.mantissa = large.mantissa * (std::int64_t{1} << down) + small.mantissa;
    large.exponent -= down;
  } else {
    large.mantissa += small.mantissa > 0 ? 1 : -1;
  }
  return Encode(format, large, mode);
}

FloatCode Multiply(const FloatFormat& format, FloatCode a, FloatCode b, Rounding mode) {
  const Dyadic x = Decode(format, a);
  const Dyadic y = Decode(format, b);
  return Encode(format, {x.mantissa * y.mantissa, x.exponent + y.exponent}, mode);
}

}  // namespace elsa::fixed
