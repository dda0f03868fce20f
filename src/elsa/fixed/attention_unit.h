// One bank's attention: dot product, weight, and the sums that the weight goes into.
// Source: Sec. IV-C "Attention Computation Module", Fig. 8. Candidate by candidate in plain integer
// code: the definition. elsa/fixed/bank_sums.h does the same faster.
//
// Two accumulators (config.accumulator):
//   kFloat    every sum is a custom float; the exact product is added with one rounding.
//   kInteger  all sums of a bank share an exponent, the largest of its weights so far. Products are
//             aligned to it and rounded; when it grows, the sums shift right by floor.
#ifndef ELSA_FIXED_ATTENTION_UNIT_H_
#define ELSA_FIXED_ATTENTION_UNIT_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/fixed/exp_unit.h"
#include "elsa/fixed/float_format.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

// The sums of one bank, or of several merged, for one query.
//   kFloat    `weights` and `outputs` are float codes, with sum_fraction_bits and
//             accumulator_fraction_bits; `exponent` is not used.
//   kInteger  the sum of weights is weights * 2^(exponent - sum_fraction_bits), an output is
//             outputs[c] * 2^(exponent - qkv_fraction_bits - accumulator_fraction_bits).
struct BankSums {
  std::int64_t exponent = 0;
  std::int64_t weights = 0;
  std::vector<std::int64_t> outputs;
  bool operator==(const BankSums&) const = default;
};

inline FloatFormat WeightSumFormat(const Config& config) {
  return {config.float_exponent_bits, config.sum_fraction_bits};
}
inline FloatFormat OutputSumFormat(const Config& config) {
  return {config.float_exponent_bits, config.accumulator_fraction_bits};
}

class AttentionUnit {
 public:
  // `config` must outlive this.
  explicit AttentionUnit(const Config& config);

  // Exact; fits 32 bits (ValidateConfig).
  static std::int64_t Dot(std::span<const std::int16_t> query, std::span<const std::int16_t> key);

  // The sums before the first candidate.
  BankSums Start(std::int64_t d_v) const;
  void Add(const Weight& weight, std::span<const std::int16_t> value, BankSums& sums) const;

 private:
  void AddFloat(const Weight& weight, std::span<const std::int16_t> value, BankSums& sums) const;
  void AddInteger(const Weight& weight, std::span<const std::int16_t> value, BankSums& sums) const;

  const Config& config_;
  std::int64_t min_exponent_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_ATTENTION_UNIT_H_
