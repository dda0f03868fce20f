#include "elsa/fixed/sqrt_unit.h"

#include <cmath>

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {

SqrtUnit::SqrtUnit(const Config& config)
    : index_bits_(Log2(config.sqrt_table_entries) - 1), fraction_bits_(config.sqrt_fraction_bits) {
  const std::int64_t half = config.sqrt_table_entries / 2;
  const double scale = static_cast<double>(std::int64_t{1} << fraction_bits_);
  for (const double start : {1.0, 2.0}) {
    for (std::int64_t i = 0; i < half; ++i) {
      const double middle =
          start * (1 + (static_cast<double>(i) + 0.5) / static_cast<double>(half));
      const double entry = RoundReal(scale / std::sqrt(middle), Rounding::kNearestEven);
      table_.push_back(static_cast<std::int32_t>(entry));
    }
  }
}

std::int64_t SqrtUnit::Root(std::int64_t x, std::int64_t shift, std::int64_t bits,
                            bool* saturated) const {
  if (saturated != nullptr) *saturated = false;
  if (x == 0) return 0;
  // m = operand / 2^30 and x = m * 4^(15 - pairs): the highest bit comes to 30 or 31.
  const std::int64_t pairs = (32 - BitWidth(static_cast<std::uint64_t>(x))) / 2;
  const std::int64_t operand = x << (2 * pairs);
  const std::int64_t upper = operand >> 31;  // whether m >= 2
  const std::int64_t low_bits = 30 + upper - index_bits_;
  const std::int64_t leading = operand >> low_bits;  // 1 and the index
  const std::int64_t middle = (2 * leading + 1) << (low_bits - 1);
  const std::int64_t entry =
      table_[leading + (upper << index_bits_) - (std::int64_t{1} << index_bits_)];
  // C * (operand + middle) = sqrt(m) * 2^(fraction_bits + 31).
  const std::int64_t product = entry * (operand + middle);
  const std::int64_t down = fraction_bits_ + 31 - (15 - pairs) - shift;
  const std::int64_t largest = (std::int64_t{1} << bits) - 1;
  // The product has more than 31 bits, so that without a shift it is too large for any norm.
  const std::int64_t root =
      down > 0 ? RoundShift(product, down, Rounding::kNearestEven) : largest + 1;
  if (root <= largest) return root;
  if (saturated != nullptr) *saturated = true;
  return largest;
}

}  // namespace elsa::fixed
