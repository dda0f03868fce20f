// Merges the sums of the banks and divides outputs by the sum of weights. Source: Sec. IV-C "Output
// Division Module", Sec. IV-D "Parallel Pipeline" (the adder tree).
#ifndef ELSA_FIXED_OUTPUT_DIVIDER_H_
#define ELSA_FIXED_OUTPUT_DIVIDER_H_

#include <cstdint>
#include <span>

#include "elsa/fixed/attention_unit.h"
#include "elsa/fixed/reciprocal_unit.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

class OutputDivider {
 public:
  // `config` must outlive this.
  explicit OutputDivider(const Config& config) : config_(config), reciprocal_(config) {}

  // kInteger: all aligned to the largest exponent by floor, then added exactly. kFloat: added in a
  // tree of neighbours (0+1, 2+3, then pairs of these; an odd one waits), every sum rounded by
  // accumulator_rounding. At least one bank.
  BankSums Merge(std::span<const BankSums> banks) const;

  // 1 / the sum of weights, which is not 0.
  Dyadic Reciprocal(const BankSums& merged) const;
  // An output component times the reciprocal, an exact product rounded once to the format of V and
  // saturated.
  std::int16_t Quotient(const BankSums& merged, std::int64_t component, const Dyadic& reciprocal,
                        bool* saturated = nullptr) const;

 private:
  BankSums MergeFloat(std::span<const BankSums> banks) const;
  BankSums MergeInteger(std::span<const BankSums> banks) const;

  const Config& config_;
  ReciprocalUnit reciprocal_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_OUTPUT_DIVIDER_H_
