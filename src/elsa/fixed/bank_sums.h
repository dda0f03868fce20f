// The sums of one bank, as AttentionUnit computes them, but a whole row of values at a time in
// loops that compilers turn into vector code. The same bits, which bank_sums_test.cc proves.
#ifndef ELSA_FIXED_BANK_SUMS_H_
#define ELSA_FIXED_BANK_SUMS_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/attention_unit.h"
#include "elsa/fixed/exp_unit.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

// AttentionUnit::Dot of two rows of `count` components.
inline std::int32_t FastDot(const std::int16_t* a, const std::int16_t* b, std::int64_t count) {
  std::int32_t sum = 0;
  for (std::int64_t c = 0; c < count; ++c) sum += std::int32_t{a[c]} * std::int32_t{b[c]};
  return sum;
}

class FastBankSums {
 public:
  FastBankSums(const Config& config, std::int64_t d_v);

  void Start();
  // `value` has d_v components.
  void Add(const Weight& weight, const std::int16_t* value);
  void CopyTo(BankSums& sums) const;

 private:
  bool NeedsOdd(std::int64_t exponent);
  void AddFloat(const Weight& weight, const std::int16_t* value);
  void AddInteger(const Weight& weight, const std::int16_t* value);

  bool is_float_;
  Rounding rounding_;
  std::int64_t weight_bits_;  // fraction bits of: a weight,
  std::int64_t value_integer_bits_;
  std::int64_t value_bits_;  // a value V,
  FloatFormat sum_format_;   // the sum of weights (kInteger: only its fraction bits count)
  FloatFormat output_format_;

  // kFloat: numbers of the two formats, which double holds exactly.
  std::int64_t lowest_exponent_ = 0;  // of the weights so far
  double weight_sum_ = 0;
  std::vector<double> sums_;
  // kInteger: as in BankSums.
  std::int64_t exponent_ = 0;
  std::int64_t weights_ = 0;
  std::vector<std::int32_t> outputs_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_BANK_SUMS_H_
