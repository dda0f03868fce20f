// The exponential: a dot product of integers becomes 2^y as a floating-point weight, by a table for
// the fraction of y and the exponent for the rest. Source: Sec. IV-E "Special Functional Units".
// No maximum is subtracted: the exponent's range takes its place.
#ifndef ELSA_FIXED_EXP_UNIT_H_
#define ELSA_FIXED_EXP_UNIT_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/float_format.h"
#include "elsa/fixed/job.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

// significand * 2^(exponent - float_fraction_bits); the significand has its highest bit at
// float_fraction_bits. Never 0.
struct Weight {
  std::int32_t significand = 0;
  std::int32_t exponent = 0;
  bool operator==(const Weight&) const = default;
};

class ExpUnit {
 public:
  explicit ExpUnit(const Config& config);

  // floor(dot * constant) on the grid of the table's index bits, clamped to
  // [lowest(), highest()]. Units: 2^-log2(exp_table_entries).
  std::int64_t Exponent(std::int64_t dot, const ScoreConstant& constant) const;
  // 2^y for a clamped y.
  Weight Power(std::int64_t y) const;
  Weight operator()(std::int64_t dot, const ScoreConstant& constant) const {
    return Power(Exponent(dot, constant));
  }

  // The weight times a count of keys, rounded to nearest (even).
  Weight Multiply(const Weight& weight, std::int64_t count) const;

  // Integer parts of y are held in [min_exponent, max_exponent]: all weights are above 0, and sums
  // of n weights times values stay in the floating-point range.
  std::int64_t min_exponent() const { return min_exponent_; }
  std::int64_t max_exponent() const { return max_exponent_; }
  std::int64_t lowest() const { return min_exponent_ * entries(); }
  std::int64_t highest() const { return max_exponent_ * entries() + entries() - 1; }
  // The fractions of 2^x at the middle of each interval of x, * 2^float_fraction_bits.
  const std::vector<std::int32_t>& table() const { return table_; }

 private:
  std::int64_t entries() const { return std::int64_t{1} << index_bits_; }

  std::int64_t index_bits_;
  std::int64_t fraction_bits_;
  std::int64_t min_exponent_;
  std::int64_t max_exponent_;
  std::vector<std::int32_t> table_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_EXP_UNIT_H_
