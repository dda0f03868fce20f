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

  // 1 / sum; its mantissa is in [1, 2] * 2^reciprocal_fraction_bits. The sum is positive and has at
  // least log2(reciprocal_table_entries) bits after its highest one.
  Dyadic Reciprocal(const Dyadic& sum) const;

  // The fractions of 2 / x for x in the middle of the sums in [1, 2) that share an index, in
  // 2^-reciprocal_fraction_bits. The middle of the interval for integer sums, which have bits
  // without end; half a unit of sum_fraction_bits below it for float sums. An entry
  // may be 2^reciprocal_fraction_bits (x = 1), so that it takes one bit more.
  const std::vector<std::int32_t>& table() const { return table_; }

 private:
  std::int64_t index_bits_;
  std::int64_t fraction_bits_;
  std::vector<std::int32_t> table_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_RECIPROCAL_UNIT_H_
