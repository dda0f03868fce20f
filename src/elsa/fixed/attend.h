// Attention of whole tensors on the machine's values: the same call as reference::Attend, bit by
// bit what the accelerator computes. Source: Sec. IV.
#ifndef ELSA_FIXED_ATTEND_H_
#define ELSA_FIXED_ATTEND_H_

#include <cstdint>
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

// Computes attention for every (batch, head, query). Banks take their candidates by ascending key.
// Rows of padded queries and of queries that see no key are 0. `threads` (0: one per hardware
// thread) never changes the result.
// Shapes: out [batch, heads, n_q, d_v]. Errors: those of ValidateConfig, reference::ValidateInputs,
// reference::ValidatePlanFits and MakeJob; kInvalidArgument if out has another shape.
AttendResult Attend(const Config& config, const reference::AttentionInputs& inputs,
                    const Plan* plan, std::int64_t layer, const View<float, 4>& out,
                    int threads = 0);

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_ATTEND_H_
