// The reciprocal of a sum of weights: a table indexed by the leading fraction bits.
// Source: Sec. IV-E "Special Functional Units".
#ifndef ELSA_FIXED_RECIPROCAL_UNIT_H_
#define ELSA_FIXED_RECIPROCAL_UNIT_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/float_format.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

class ReciprocalUnit {
 public:
  explicit ReciprocalUnit(const Config& config);

  // 1 / sum; its mantissa has reciprocal_fraction_bits + 1 bits. The sum is positive and has at
  // least log2(reciprocal_table_entries) bits after its highest one.
  Dyadic Reciprocal(const Dyadic& sum) const;

  // The fractions of 2 / x for x at the middle of each interval of [1, 2), in
  // 2^-reciprocal_fraction_bits.
  const std::vector<std::int32_t>& table() const { return table_; }

 private:
  std::int64_t index_bits_;
  std::int64_t fraction_bits_;
  std::vector<std::int32_t> table_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_RECIPROCAL_UNIT_H_
