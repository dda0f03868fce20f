// The host's side: from floating-point tensors and a plan to the integers and constants of a Job,
// and from output integers back. Source: Sec. IV-B (the host issues commands and passes matrices),
// Sec. IV-E (formats). What the machine cannot do is refused here, in one line.
#ifndef ELSA_FIXED_HOST_H_
#define ELSA_FIXED_HOST_H_

#include <cstdint>
#include <span>

#include "elsa/base/view.h"
#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::fixed {

// What rounding did to one matrix. Sums up over heads by +=.
struct MatrixCounts {
  std::int64_t values = 0;
  std::int64_t saturated = 0;
  double largest_use = 0;  // largest magnitude as a share of the range
  MatrixCounts& operator+=(const MatrixCounts& other);
};
struct HostCounts {
  MatrixCounts query;
  MatrixCounts key;
  MatrixCounts value;
  HostCounts& operator+=(const HostCounts& other);
};

// The job of one (batch, head). Queries are the real ones, keys those that queries see. Without a
// plan, for p = 0 and for exact heads it is exact, and the plan's hash plays no part.
// `config` and `plan` are valid; `layer` and `plan_head` are the plan's.
// Errors: kMismatch if rows or components exceed the machine's, or plan and machine differ in hash
// or remainder; kUnsupported for a scale that is not positive, a bias that is not 0, masks other
// than of keys or causal, and plans with the gap rule, centring, bias in the test or a causal mean
// row; kInvalidArgument for values that are not finite.
Job MakeJob(const Config& config, reference::HeadInputs& inputs, const Plan* plan,
            std::int64_t layer, std::int64_t plan_head, HostCounts* counts = nullptr);

// constant as mantissa * 2^exponent with `bits` significant bits, to nearest (even); positive.
ScoreConstant RoundConstant(double constant, std::int64_t bits);

// Output integers as the numbers they stand for. Shapes: rows [queries, d_v] packed, out the same.
void StoreOutput(const Config& config, const Job& job, std::span<const std::int16_t> rows,
                 const View<float, 2>& out);

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_HOST_H_
