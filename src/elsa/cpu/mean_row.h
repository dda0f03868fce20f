// The mean row: mean key, mean value and mean bias over the keys that a query sees. They stand for
// the keys that it drops. docs/reference/mean-row.md.
//
// Sums are double, of blocks of keys where a whole block is seen, key by key else: no key that a
// query does not see takes part, so that none leaks.
#ifndef ELSA_CPU_MEAN_ROW_H_
#define ELSA_CPU_MEAN_ROW_H_

#include <cstdint>
#include <vector>

#include "elsa/cpu/inputs.h"
#include "elsa/cpu/sparse_rows.h"
#include "elsa/cpu/visibility.h"

namespace elsa::cpu {

// What the queries of one (batch, head) share.
class MeanRows {
 public:
  // All must outlive this; `rows` has sums.
  MeanRows(const Inputs& inputs, std::int64_t batch, std::int64_t head, const PackedHead& rows,
           const KernelSet& kernels);

 private:
  friend class MeanCursor;

  Visibility visibility_;
  const PackedHead& rows_;
  const SparseKernels& kernels_;
  bool has_bias_;
  bool shared_;  // the same mask and bias for all queries
};

// The mean rows of one query after another: cheap from a query to the next that sees the same keys
// and a few more behind them.
class MeanCursor {
 public:
  explicit MeanCursor(const MeanRows& rows);

  // Moves to a query that sees at least one key.
  void Seek(std::int64_t query);
  const float* key() const { return mean_.data(); }                      // [padded d]
  const float* value() const { return mean_.data() + rows_.rows_.d(); }  // [padded d_v]
  double bias() const { return mean_bias_; }

 private:
  void Look(std::int64_t query);  // at the mask and the bias
  void Restart();
  void Extend(std::int64_t end);  // takes in the keys from end_ on
  void Add(std::int64_t key);

  const MeanRows& rows_;
  const std::uint64_t* words_ = nullptr;  // which keys are seen; null: all
  const float* bias_ = nullptr;           // of each key; null: none
  std::int64_t end_ = 0;                  // keys below are in the sums
  std::int64_t count_ = 0;
  double bias_sum_ = 0;
  double mean_bias_ = 0;
  std::int64_t mean_of_ = -1;  // the count_ that mean_ is of
  std::vector<double> sums_;
  std::vector<float> mean_;
  std::vector<std::uint64_t> mask_;
  std::vector<float> scratch_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_MEAN_ROW_H_
