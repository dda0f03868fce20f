#include "elsa/sim/attend.h"

#include <utility>

namespace elsa::sim {

Work WorkOf(const fixed::HeadJob& head) {
  const fixed::Job& job = head.job;
  return {.queries = job.queries,
          .keys = job.keys,
          .d = job.d,
          .d_v = job.d_v,
          .causal = job.causal,
          .exact = job.exact,
          .mean_row = job.mean_row,
          .candidates = head.candidates};
}

AttendResult Attend(const Config& config, const reference::AttentionInputs& inputs,
                    const Plan* plan, std::int64_t layer, const View<float, 4>& out,
                    const AttendOptions& options) {
  AttendResult result;
  result.reports.resize(inputs.batch() * inputs.heads());
  fixed::AttendOptions fixed;
  fixed.threads = options.threads;
  fixed.values = options.values;
  fixed.order = [&](const fixed::HeadJob& head) {
    Result run = Simulate(config, WorkOf(head), {options.values, {}});
    result.reports[head.batch * inputs.heads() + head.head] = run.report;
    if (options.observe) options.observe(head, run.report);
    return std::move(run.order);
  };
  result.fixed = fixed::Attend(config, inputs, plan, layer, out, fixed);
  return result;
}

}  // namespace elsa::sim
