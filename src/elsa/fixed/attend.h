// Attention of whole tensors on the machine's values: the same call as reference::Attend, bit by
// bit what the accelerator computes. Source: Sec. IV.
#ifndef ELSA_FIXED_ATTEND_H_
#define ELSA_FIXED_ATTEND_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/fixed/head.h"
#include "elsa/fixed/host.h"
#include "elsa/params/config.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::fixed {

// Where values of one head met the ends of the machine's formats, over all batches.
struct FormatStats {
  HostCounts host;
  MachineCounts machine;
  FormatStats& operator+=(const FormatStats& other);
};

struct AttendResult {
  std::vector<reference::HeadStats> heads;  // per head; mass is not measured: 0
  std::vector<FormatStats> formats;         // per head
};

// One job on its way, with the candidates of selection; null if it is exact.
struct HeadJob {
  std::int64_t batch = 0;
  std::int64_t head = 0;
  const Job& job;
  const Candidates* candidates;
};

struct AttendOptions {
  int threads = 0;     // 0: one per hardware thread. Never changes the result
  bool values = true;  // false: selection only; `out` is not touched and may be null
  // Called once per (batch, head), from several threads: the order in which banks take their
  // candidates, for instance a simulator's. Without it, or if it is empty: by ascending key.
  std::function<IssueOrder(const HeadJob&)> order = {};
};

// Computes attention for every (batch, head, query). Rows of padded queries and of queries that see
// no key are 0.
// Shapes: out [batch, heads, n_q, d_v]. Errors: those of ValidateConfig, reference::ValidateInputs,
// reference::ValidatePlanFits and MakeJob; kInvalidArgument if out has another shape.
AttendResult Attend(const Config& config, const reference::AttentionInputs& inputs,
                    const Plan* plan, std::int64_t layer, const View<float, 4>& out,
                    const AttendOptions& options = {});

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_ATTEND_H_
