// What selection knows of the keys of one (batch, kv head): hashes, norms, and the filter's tables.
// Source: Sec. III-B, III-D steps 1 and 2.
#ifndef ELSA_CPU_KEY_SKETCH_H_
#define ELSA_CPU_KEY_SKETCH_H_

#include <cstdint>
#include <memory>

#include "elsa/cpu/buffer.h"
#include "elsa/cpu/hash_program.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kernels/kernel_set.h"
#include "elsa/params/plan.h"

namespace elsa::cpu {

// Hashes and norms of rows, perhaps relative to an origin.
class Sketch {
 public:
  // Of `rows` minus `origin` (null: as they are). With `tables`, the filter's tables too, if its
  // hash is short enough for them.
  Sketch(const HashProgram& hash, const RowsView& rows, const float* origin, bool tables,
         const KernelSet& kernels);

  std::int64_t count() const { return count_; }
  const std::uint64_t* bits() const { return bits_; }        // [count, hash.words()]
  const float* norms() const { return norms_; }              // [count]
  const std::uint64_t* endless() const { return endless_; }  // bit j: norm j is not finite
  // The table of keys block * block_keys on; only with `tables`.
  const std::byte* table(std::int64_t block) const { return tables_ + block * table_bytes_; }

 private:
  std::int64_t count_;
  std::int64_t table_bytes_ = 0;
  Buffer buffers_[4];
  std::uint64_t* bits_;
  float* norms_;
  std::uint64_t* endless_;
  std::byte* tables_ = nullptr;
};

// Whether the decisions of a plan on these inputs are integer cut-offs on distances; if not, they
// are tests on scores: the gap rule, or a bias in the test.
inline bool DecidesByDistance(const Plan& plan, const Inputs& inputs) {
  return plan.rule != Rule::kGap && !(plan.bias_in_test && inputs.bias);
}

RowsView RowsOf(const Tensor& tensor, std::int64_t batch, std::int64_t head, std::int64_t first,
                std::int64_t step, std::int64_t count);

class KeySketch {
 public:
  std::shared_ptr<const HashProgram> hash;
  // Of the keys, and of the keys minus their mean; null where no query needs it. The mean is over
  // the keys that some query of the head sees: where masks differ between the heads of a group,
  // `centred` is null and each head makes its own.
  std::shared_ptr<const Sketch> plain;
  std::shared_ptr<const Sketch> centred;
};

std::shared_ptr<const Sketch> MakeCentred(const Inputs& inputs, const Plan& plan,
                                          const HashProgram& hash, std::int64_t batch,
                                          std::int64_t head, const KernelSet& kernels);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KEY_SKETCH_H_
