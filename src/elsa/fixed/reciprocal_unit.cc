#include "elsa/fixed/reciprocal_unit.h"

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {

ReciprocalUnit::ReciprocalUnit(const Config& config)
    : index_bits_(Log2(config.reciprocal_table_entries)),
      fraction_bits_(config.reciprocal_fraction_bits) {
  const double entries = static_cast<double>(config.reciprocal_table_entries);
  const double scale = static_cast<double>(std::int64_t{1} << fraction_bits_);
  // The middle of the sums that share an entry. A float sum has only sum_fraction_bits: with as
  // many as the index has, each sum has an entry of its own and no distance to it.
  const double half_unit =
      config.accumulator == Accumulator::kFloat
          ? 0.5 / static_cast<double>(std::int64_t{1} << config.sum_fraction_bits)
          : 0;
  for (std::int64_t i = 0; i < config.reciprocal_table_entries; ++i) {
    const double middle = 1 + (static_cast<double>(i) + 0.5) / entries - half_unit;
    const double entry = RoundReal((2 / middle - 1) * scale, Rounding::kNearestEven);
    table_.push_back(static_cast<std::int32_t>(entry));
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
