#include "elsa/fixed/output_divider.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {

BankSums OutputDivider::Merge(std::span<const BankSums> banks) const {
  return config_.accumulator == Accumulator::kFloat ? MergeFloat(banks) : MergeInteger(banks);
}

BankSums OutputDivider::MergeFloat(std::span<const BankSums> banks) const {
  const auto add = [&](const FloatFormat& format, std::int64_t a, std::int64_t b) -> std::int64_t {
    return Add(format, static_cast<FloatCode>(a), Decode(format, static_cast<FloatCode>(b)),
               config_.accumulator_rounding);
  };
  std::vector<BankSums> level(banks.begin(), banks.end());
  while (level.size() > 1) {
    for (std::size_t pair = 0; pair + 1 < level.size(); pair += 2) {
      BankSums& to = level[pair];
      const BankSums& from = level[pair + 1];
      to.weights = add(WeightSumFormat(config_), to.weights, from.weights);
      for (std::size_t c = 0; c < to.outputs.size(); ++c) {
        to.outputs[c] = add(OutputSumFormat(config_), to.outputs[c], from.outputs[c]);
      }
      std::swap(level[pair / 2], to);
    }
    if (level.size() % 2 != 0) std::swap(level[level.size() / 2], level.back());
    level.resize((level.size() + 1) / 2);
  }
  return level[0];
}

BankSums OutputDivider::MergeInteger(std::span<const BankSums> banks) const {
  BankSums merged;
  merged.exponent = banks[0].exponent;
  for (const BankSums& bank : banks) merged.exponent = std::max(merged.exponent, bank.exponent);
  merged.outputs.assign(banks[0].outputs.size(), 0);
  for (const BankSums& bank : banks) {
    const std::int64_t down = merged.exponent - bank.exponent;
    merged.weights += RoundShift(bank.weights, down, Rounding::kFloor);
    for (std::size_t c = 0; c < merged.outputs.size(); ++c) {
      merged.outputs[c] += RoundShift(bank.outputs[c], down, Rounding::kFloor);
    }
  }
  return merged;
}

Dyadic OutputDivider::Reciprocal(const BankSums& merged) const {
  const bool is_float = config_.accumulator == Accumulator::kFloat;
  return reciprocal_.Reciprocal(
      is_float ? Decode(WeightSumFormat(config_), static_cast<FloatCode>(merged.weights))
               : Dyadic{merged.weights, merged.exponent - config_.sum_fraction_bits});
}

std::int16_t OutputDivider::Quotient(const BankSums& merged, std::int64_t component,
                                     const Dyadic& reciprocal, bool* saturated) const {
  const bool is_float = config_.accumulator == Accumulator::kFloat;
  const std::int64_t sum = merged.outputs[component];
  // In units of V's last bit.
  const Dyadic output = is_float ? Decode(OutputSumFormat(config_), static_cast<FloatCode>(sum))
                                 : Dyadic{sum, merged.exponent - config_.qkv_fraction_bits -
                                                   config_.accumulator_fraction_bits};
  const std::int64_t product = output.mantissa * reciprocal.mantissa;
  const std::int64_t up = output.exponent + reciprocal.exponent + config_.qkv_fraction_bits;
  // The result has at most 12 bits: a product shifted up by more than that is 0 or too large.
  const std::int64_t quotient = up <= 0
                                    ? RoundShift(product, -up, config_.output_rounding)
                                    : product * (std::int64_t{1} << std::min<std::int64_t>(up, 12));
  const std::int64_t result =
      Saturate(quotient, config_.qkv_integer_bits + config_.qkv_fraction_bits);
  if (saturated != nullptr) *saturated = result != quotient;
  return static_cast<std::int16_t>(result);
}

}  // namespace elsa::fixed
