// How integers lose their low bits and are held within a width. Source: Sec. IV-E. The modes are
// those of elsa/params/config.h. Everything here is exact: no floating point decides.
#ifndef ELSA_FIXED_ROUNDING_H_
#define ELSA_FIXED_ROUNDING_H_

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "elsa/params/config.h"

namespace elsa::fixed {

// value / 2^shift as an integer, for any shift >= 0.
inline std::int64_t RoundShift(std::int64_t value, std::int64_t shift, Rounding mode) {
  if (shift == 0) return value;
  const bool negative = value < 0;
  if (shift > 63) {  // at most half a unit away from 0, and then negative: even and up are both 0
    return mode == Rounding::kFloor && negative ? -1 : 0;
  }
  const std::int64_t floor = value >> shift;
  const std::uint64_t half = std::uint64_t{1} << (shift - 1);
  const std::uint64_t low = static_cast<std::uint64_t>(value) & (2 * half - 1);
  switch (mode) {
    case Rounding::kNearestEven:
      return floor + ((low > half || (low == half && (floor & 1) != 0)) ? 1 : 0);
    case Rounding::kNearestUp:
      return floor + (low >= half ? 1 : 0);
    case Rounding::kFloor:
      return floor;
    case Rounding::kTowardZero:
      return floor + (negative && low != 0 ? 1 : 0);
  }
  return floor;
}

// A real number as an integer, still as a double: exact for any finite value.
inline double RoundReal(double value, Rounding mode) {
  const double floor = std::floor(value);
  const double low = value - floor;  // not exact just below 0, where every mode still is right
  switch (mode) {
    case Rounding::kNearestEven:
      return floor + (low > 0.5 || (low == 0.5 && std::fmod(floor, 2) != 0) ? 1 : 0);
    case Rounding::kNearestUp:
      return floor + (low >= 0.5 ? 1 : 0);
    case Rounding::kFloor:
      return floor;
    case Rounding::kTowardZero:
      return floor + (value < 0 && low != 0 ? 1 : 0);
  }
  return floor;
}

// The largest and smallest integer of one sign bit and `bits` bits, two's complement.
inline std::int64_t LargestSigned(std::int64_t bits) { return (std::int64_t{1} << bits) - 1; }
inline std::int64_t SmallestSigned(std::int64_t bits) { return -(std::int64_t{1} << bits); }

// The nearest integer of one sign bit and `bits` bits.
inline std::int64_t Saturate(std::int64_t value, std::int64_t bits) {
  return std::clamp(value, SmallestSigned(bits), LargestSigned(bits));
}

// The number of bits up to and including the highest one; 0 for 0.
inline std::int64_t BitWidth(std::uint64_t value) {
  std::int64_t width = 0;
  for (; value != 0; value >>= 1) ++width;
  return width;
}

// log2 of a power of two.
inline std::int64_t Log2(std::int64_t power) {
  return BitWidth(static_cast<std::uint64_t>(power)) - 1;
}

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_ROUNDING_H_
