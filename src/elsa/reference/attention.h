// Attention in plain code: exact, and ELSA's softmax over the kept keys. Source: Sec. II-A, Sec.
// III, Fig. 8. The meaning that every other execution is compared with; not a fast path.
//
// Selection is binary32 (similarity.h); scores, softmax and sums are double, so that the exact mode
// is the fp64 oracle for binary32 inputs.
#ifndef ELSA_REFERENCE_ATTENTION_H_
#define ELSA_REFERENCE_ATTENTION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::reference {

struct AttendOptions {
  int threads = 0;            // 0: one per hardware thread. Never changes the result.
  bool measure_mass = false;  // also compute the softmax mass of the kept keys (costs exact scores)
  // The control: each query keeps as many keys as the plan's rule selects, drawn at random from
  // those it sees. Shows whether a metric tests attention at all.
  std::optional<std::uint64_t> random_keys_seed = std::nullopt;
};

// Counts of one head over all batches; padding is not counted.
struct HeadStats {
  std::int64_t queries = 0;
  std::int64_t empty_queries = 0;     // see no key: output 0
  std::int64_t fallback_queries = 0;  // the test kept none of the keys seen
  std::int64_t exact_queries = 0;     // selection bypassed: p = 0, exact head or dense_below
  std::int64_t pairs = 0;             // (query, visible key)
  std::int64_t kept = 0;              // of these, computed
  double mass_kept_sum = 0;           // over queries that see a key; 0 unless measured

  double kept_fraction() const {
    return pairs > 0 ? static_cast<double>(kept) / static_cast<double>(pairs) : 1;
  }
  // Mean over queries of the softmax weight on kept keys; 1 if no query sees a key.
  double mass_kept() const {
    const std::int64_t seeing = queries - empty_queries;
    return seeing > 0 ? mass_kept_sum / static_cast<double>(seeing) : 1;
  }
  HeadStats& operator+=(const HeadStats& other);
};

// Computes attention for every (batch, head, query) and returns the counts per head.
// Without a plan, with p = 0 or a null threshold, and for queries that see fewer than
// plan->dense_below keys: exact. Rows of padded queries and of queries that see no key are 0.
// Source: Sec. III-D, III-E; the mean row: docs/reference/mean-row.md.
// Shapes: out [batch, heads, n_q, d_v]. Errors: those of ValidateInputs and ValidatePlanFits, and
// kInvalidArgument if out has another shape.
std::vector<HeadStats> Attend(const AttentionInputs& inputs, const Plan* plan, std::int64_t layer,
                              const View<float, 4>& out, const AttendOptions& options = {});
std::vector<HeadStats> Attend(const AttentionInputs& inputs, const Plan* plan, std::int64_t layer,
                              const View<double, 4>& out, const AttendOptions& options = {});

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_ATTENTION_H_
