// Which keys the queries of one head keep: the decisions of reference/selection.h bit for bit,
// fast. Source: Sec. III-B to III-D; docs/reference/selection.md.
//
// A KeySketch holds hashes and norms of the keys of one (batch, kv head); the query heads of a GQA
// group share it. A HeadSelection adds one query head's threshold: it turns the table decision
// norm_j * cosine[distance] > t * K_max into one integer per key, "distance <= cut-off", which is
// exact because the product never rises with the distance.
#ifndef ELSA_CPU_SELECTION_H_
#define ELSA_CPU_SELECTION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "elsa/cpu/buffer.h"
#include "elsa/cpu/exact_attention.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kernels/kernel_set.h"
#include "elsa/params/plan.h"

namespace elsa::cpu {

// A plan's hash in the form that kernels take. Made once per call (or kept with a cache).
struct HashProgram;
std::shared_ptr<const HashProgram> MakeHashProgram(const HashSpec& hash, std::int64_t d);

class KeySketch;  // hashes (rows and bit planes) and norms of one (batch, kv head), plain and
                  // centred

// What was decided for one query.
struct QueryCount {
  std::int32_t visible = 0;
  std::int32_t kept = 0;
  bool fallback = false;  // the test kept none; the largest estimate is kept
  bool exact = false;     // sees fewer than dense_below keys: keeps all
};

// The sketch of the keys of (batch, kv_head).
std::shared_ptr<const KeySketch> MakeKeySketch(const Inputs& inputs, const Plan& plan,
                                               std::shared_ptr<const HashProgram> hash,
                                               std::int64_t batch, std::int64_t kv_head,
                                               const KernelSet& kernels);

class HeadSelection {
 public:
  // Cut-offs and filter tables of one query head, as far as all its queries share them. `inputs`,
  // `plan` and `kernels` must outlive this. The head has a finite threshold (not an exact head).
  HeadSelection(const Inputs& inputs, const Plan& plan, std::int64_t layer, std::int64_t batch,
                std::int64_t head, std::shared_ptr<const KeySketch> keys, const KernelSet& kernels);
  ~HeadSelection();
  HeadSelection(const HeadSelection&) = delete;
  HeadSelection& operator=(const HeadSelection&) = delete;

  // 64-bit words of one query's mask: the keys of the batch, rounded up to blocks of 512.
  std::int64_t words() const;

  // Decides queries [first, first + count): bit j % 64 of word j / 64 of masks + (i - first) *
  // words() is 1 if query i keeps key j; words beyond the keys are 0. Complete decisions: only
  // visible keys, with always-kept ones, the fallback, and all visible keys where selection is
  // bypassed (dense_below). Padded queries get zeros. Thread-safe; the result does not depend on
  // how the queries are split into calls. Shapes: masks [count, words()], counts [count].
  void Decide(std::int64_t first, std::int64_t count, std::uint64_t* masks,
              QueryCount* counts) const;

  // The share of the visible pairs that a sample of queries and keys keeps: cheap, deterministic.
  double SampleKeptFraction() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SELECTION_H_
