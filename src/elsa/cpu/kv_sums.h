// The sum of the cached rows of one slab, for the mean row, kept up to date as rows come and go.
#ifndef ELSA_CPU_KV_SUMS_H_
#define ELSA_CPU_KV_SUMS_H_

#include <cstdint>
#include <vector>

#include "elsa/cpu/kernels/decode.h"

namespace elsa::cpu {

// Sums in double of keys and values, one after the other and padded as the rows are. Every addition
// and subtraction rounds, and what a large row left behind in the low bits stays when it leaves: a
// bound of that error is kept too. Sums are good while it is at most 2^-26 of their largest
// component, an eighth of what binary32 resolves; otherwise they are made anew.
class KvSums {
 public:
  explicit KvSums(std::int64_t components) : sums_(components, 0.0) {}

  void Clear();
  // Rows [first, first + count).
  void Add(const DecodeRows& rows, std::int64_t first, std::int64_t count) {
    Update(rows, first, count, 1);
  }
  void Remove(const DecodeRows& rows, std::int64_t first, std::int64_t count) {
    Update(rows, first, count, -1);
  }
  // Whether the error bound holds; not if a row that is gone was not finite.
  bool Good() const;
  const double* data() const { return sums_.data(); }

 private:
  void Update(const DecodeRows& rows, std::int64_t first, std::int64_t count, double sign);

  std::vector<double> sums_;
  double error_ = 0;      // of every component, at most
  bool removed_ = false;  // rows have left since Clear
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KV_SUMS_H_
