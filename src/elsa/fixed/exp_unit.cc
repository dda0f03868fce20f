#include "elsa/fixed/exp_unit.h"

#include <algorithm>

#include "elsa/base/portable_math.h"
#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

constexpr double kLn2 = 0.693147180559945309417;

}  // namespace

ExpUnit::ExpUnit(const Config& config)
    : index_bits_(Log2(config.exp_table_entries)), fraction_bits_(config.float_fraction_bits) {
  const FloatFormat format{config.float_exponent_bits, config.float_fraction_bits};
  min_exponent_ = format.min_exponent();
  // A weight is below 2^(e+1), a value at most 2^qkv_integer_bits, there are n of them, and sums
  // that are rounded to nearest are at most twice the exact ones: that is below 2^(max + 1).
  const std::int64_t count_bits = BitWidth(static_cast<std::uint64_t>(config.n - 1));
  max_exponent_ =
      std::max(min_exponent_, format.max_exponent() - 1 - config.qkv_integer_bits - count_bits);
  const double entries = static_cast<double>(config.exp_table_entries);
  const double scale = static_cast<double>(std::int64_t{1} << fraction_bits_);
  for (std::int64_t i = 0; i < config.exp_table_entries; ++i) {
    const double power = PortableExp((static_cast<double>(i) + 0.5) / entries * kLn2);
    const double entry = RoundReal((power - 1) * scale, Rounding::kNearestEven);
    // With few fraction bits the last entries would round to 2, which is no fraction.
    table_.push_back(static_cast<std::int32_t>(std::min(entry, scale - 1)));
  }
}

std::int64_t ExpUnit::Exponent(std::int64_t dot, const ScoreConstant& constant) const {
  const std::int64_t product = dot * constant.mantissa;
  const std::int64_t shift = -(constant.exponent + index_bits_);
  if (shift >= 0) {
    return std::clamp(RoundShift(product, shift, Rounding::kFloor), lowest(), highest());
  }
  if (product == 0) return std::clamp<std::int64_t>(0, lowest(), highest());
  // |y| is far below 2^30: what would exceed it after the shift is beyond the clamp.
  const std::int64_t limit = std::int64_t{1} << std::max<std::int64_t>(0, 30 + shift);
  if (product >= limit) return highest();
  if (product <= -limit) return lowest();
  return std::clamp(product * (std::int64_t{1} << -shift), lowest(), highest());
}

Weight ExpUnit::Power(std::int64_t y) const {
  const std::int64_t index = y & (entries() - 1);
  const std::int32_t one = std::int32_t{1} << fraction_bits_;
  return {one + table_[index], static_cast<std::int32_t>(y >> index_bits_)};
}

Weight ExpUnit::Multiply(const Weight& weight, std::int64_t count) const {
  std::int64_t product = weight.significand * count;
  std::int64_t extra = BitWidth(static_cast<std::uint64_t>(product)) - (fraction_bits_ + 1);
  product = RoundShift(product, extra, Rounding::kNearestEven);
  if (BitWidth(static_cast<std::uint64_t>(product)) > fraction_bits_ + 1) {
    product /= 2;
    ++extra;
  }
  return {static_cast<std::int32_t>(product), static_cast<std::int32_t>(weight.exponent + extra)};
}

}  // namespace elsa::fixed
