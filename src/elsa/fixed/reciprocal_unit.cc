#include "elsa/fixed/reciprocal_unit.h"

#include <algorithm>

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {

ReciprocalUnit::ReciprocalUnit(const Config& config)
    : index_bits_(Log2(config.reciprocal_table_entries)),
      fraction_bits_(config.reciprocal_fraction_bits) {
  const double entries = static_cast<double>(config.reciprocal_table_entries);
  const double scale = static_cast<double>(std::int64_t{1} << fraction_bits_);
  for (std::int64_t i = 0; i < config.reciprocal_table_entries; ++i) {
    const double middle = 1 + (static_cast<double>(i) + 0.5) / entries;
    const double entry = RoundReal((2 / middle - 1) * scale, Rounding::kNearestEven);
    // With few fraction bits the first entries would round to 2, which is no fraction.
    table_.push_back(static_cast<std::int32_t>(std::min(entry, scale - 1)));
  }
}

Dyadic ReciprocalUnit::Reciprocal(const Dyadic& sum) const {
  // sum = 1.x * 2^(highest + exponent), 1 / sum = (2 / 1.x) * 2^(-1 - highest - exponent).
  const std::int64_t highest = BitWidth(static_cast<std::uint64_t>(sum.mantissa)) - 1;
  const std::int64_t index =
      (sum.mantissa >> (highest - index_bits_)) & ((std::int64_t{1} << index_bits_) - 1);
  return {(std::int64_t{1} << fraction_bits_) + table_[index],
          -1 - highest - sum.exponent - fraction_bits_};
}

}  // namespace elsa::fixed
