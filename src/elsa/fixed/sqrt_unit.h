// The square root of an integer by "tabulate and multiply": one table, one multiplication.
// Source: Sec. IV-E "Special Functional Units"; the method is Takagi's (the paper's references 36
// and 81): first-order Taylor expansion around the middle of an interval, with the operand modified
// so that one product holds both terms.
//
//   x = m * 4^e, 1 <= m < 4, and c the middle of m's interval:
//   sqrt(m) ~ sqrt(c) + (m - c) / (2 sqrt(c)) = C * (m + c) / 2,   C = 1 / sqrt(c) from the table
//
// Half of the entries divide [1, 2) and half [2, 4), each evenly: the index is whether the highest
// bit of m is 2 or 1, then the bits below it. (m + c) / 2 costs no adder: with h the index's part
// of m and r1 r2 r3... the bits below, its bits are h r1 (not r1) r2 r3...
#ifndef ELSA_FIXED_SQRT_UNIT_H_
#define ELSA_FIXED_SQRT_UNIT_H_

#include <cstdint>
#include <vector>

#include "elsa/params/config.h"

namespace elsa::fixed {

class SqrtUnit {
 public:
  explicit SqrtUnit(const Config& config);

  // sqrt(x) * 2^shift rounded to nearest (even), at most 2^bits - 1; `saturated` says whether it
  // would have been more. 0 <= x < 2^32.
  std::int64_t Root(std::int64_t x, std::int64_t shift, std::int64_t bits,
                    bool* saturated = nullptr) const;

  // 1 / sqrt(c) * 2^sqrt_fraction_bits, [1, 2) first.
  const std::vector<std::int32_t>& table() const { return table_; }

 private:
  std::int64_t index_bits_;  // of each half
  std::int64_t fraction_bits_;
  std::vector<std::int32_t> table_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_SQRT_UNIT_H_
