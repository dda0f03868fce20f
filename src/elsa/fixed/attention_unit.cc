#include "elsa/fixed/attention_unit.h"

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

// value / 2^shift; a negative shift is exact.
std::int64_t Align(std::int64_t value, std::int64_t shift, Rounding mode) {
  return shift >= 0 ? RoundShift(value, shift, mode) : value * (std::int64_t{1} << -shift);
}

}  // namespace

AttentionUnit::AttentionUnit(const Config& config)
    : config_(config), min_exponent_(WeightSumFormat(config).min_exponent()) {}

std::int64_t AttentionUnit::Dot(std::span<const std::int16_t> query,
                                std::span<const std::int16_t> key) {
  std::int64_t sum = 0;
  for (std::size_t c = 0; c < query.size(); ++c) sum += std::int64_t{query[c]} * key[c];
  return sum;
}

BankSums AttentionUnit::Start(std::int64_t d_v) const {
  BankSums sums;
  if (config_.accumulator == Accumulator::kInteger) sums.exponent = min_exponent_;
  sums.outputs.assign(d_v, 0);
  return sums;
}

void AttentionUnit::Add(const Weight& weight, std::span<const std::int16_t> value,
                        BankSums& sums) const {
  if (config_.accumulator == Accumulator::kFloat) {
    AddFloat(weight, value, sums);
  } else {
    AddInteger(weight, value, sums);
  }
}

void AttentionUnit::AddFloat(const Weight& weight, std::span<const std::int16_t> value,
                             BankSums& sums) const {
  const Rounding mode = config_.accumulator_rounding;
  const std::int64_t exponent = weight.exponent - config_.float_fraction_bits;
  sums.weights = fixed::Add(WeightSumFormat(config_), static_cast<FloatCode>(sums.weights),
                            {weight.significand, exponent}, mode);
  const FloatFormat format = OutputSumFormat(config_);
  for (std::size_t c = 0; c < value.size(); ++c) {
    const std::int64_t product = std::int64_t{weight.significand} * value[c];
    sums.outputs[c] = fixed::Add(format, static_cast<FloatCode>(sums.outputs[c]),
                                 {product, exponent - config_.qkv_fraction_bits}, mode);
  }
}

void AttentionUnit::AddInteger(const Weight& weight, std::span<const std::int16_t> value,
                               BankSums& sums) const {
  const Rounding mode = config_.accumulator_rounding;
  const std::int64_t growth = weight.exponent - sums.exponent;
  if (growth > 0) {
    sums.exponent = weight.exponent;
    sums.weights = RoundShift(sums.weights, growth, Rounding::kFloor);
    for (std::int64_t& output : sums.outputs) output = RoundShift(output, growth, Rounding::kFloor);
  }
  const std::int64_t down = config_.float_fraction_bits + sums.exponent - weight.exponent;
  sums.weights += Align(weight.significand, down - config_.sum_fraction_bits, mode);
  for (std::size_t c = 0; c < value.size(); ++c) {
    const std::int64_t product = std::int64_t{weight.significand} * value[c];
    sums.outputs[c] += Align(product, down - config_.accumulator_fraction_bits, mode);
  }
}

}  // namespace elsa::fixed
