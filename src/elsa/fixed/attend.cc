#include "elsa/fixed/attend.h"

#include "elsa/base/parallel_for.h"
#include "elsa/reference/hash.h"

namespace elsa::fixed {
namespace {

reference::HeadStats CountsOf(const Job& job, const Candidates* candidates) {
  reference::HeadStats stats;
  stats.queries = job.queries;
  for (std::int64_t query = 0; query < job.queries; ++query) {
    const std::int64_t visible = job.Visible(query);
    stats.pairs += visible;
    if (visible == 0) {
      ++stats.empty_queries;
    } else if (candidates == nullptr) {
      ++stats.exact_queries;
      stats.kept += visible;
    } else {
      const bool fallback = candidates->fallback[query] >= 0;
      stats.exact_queries += visible < job.exact_below ? 1 : 0;
      stats.fallback_queries += fallback ? 1 : 0;
      stats.kept += fallback ? 1 : 0;
      for (std::int64_t word = 0; word < candidates->words; ++word) {
        stats.kept += reference::CountOnes(candidates->bits[query * candidates->words + word]);
      }
    }
  }
  return stats;
}

}  // namespace

FormatStats& FormatStats::operator+=(const FormatStats& other) {
  host += other.host;
  machine += other.machine;
  return *this;
}

AttendResult Attend(const Config& config, const reference::AttentionInputs& inputs,
                    const Plan* plan, std::int64_t layer, const View<float, 4>& out,
                    const AttendOptions& options) {
  ValidateConfig(config);
  reference::ValidateInputs(inputs);
  if (plan != nullptr) reference::ValidatePlanFits(*plan, layer, inputs);
  if (options.values) {
    reference::RequireShape(
        "out", out.shape,
        {inputs.batch(), inputs.heads(), inputs.query.shape[2], inputs.value.shape[3]});
  }
  const std::int64_t heads = inputs.heads();
  const std::int64_t items = inputs.batch() * heads;
  std::vector<reference::HeadStats> stats(items);
  std::vector<FormatStats> formats(items);
  ParallelFor(items, options.threads, [&](std::int64_t item) {
    const std::int64_t batch = item / heads;
    const std::int64_t head = item % heads;
    reference::HeadInputs rows(inputs, batch, head);
    FormatStats& format = formats[item];
    const Job job = MakeJob(config, rows, plan, layer, head, &format.host);
    Candidates selected;
    if (!job.exact) selected = SelectCandidates(config, job, &format.machine);
    const Candidates* candidates = job.exact ? nullptr : &selected;
    stats[item] = CountsOf(job, candidates);
    IssueOrder order;
    if (options.order) order = options.order({batch, head, job, candidates});
    if (!options.values) return;
    const HeadOutput output =
        Attend(config, job, candidates, order.begin.empty() ? nullptr : &order);
    format.machine += output.counts;
    const View<float, 2> to = out[batch][head];
    StoreOutput(config, job, output.rows, to);
    for (std::int64_t i = job.queries; i < to.shape[0]; ++i) {
      for (std::int64_t c = 0; c < to.shape[1]; ++c) to(i, c) = 0;
    }
  });
  AttendResult result{std::vector<reference::HeadStats>(heads), std::vector<FormatStats>(heads)};
  for (std::int64_t item = 0; item < items; ++item) {
    result.heads[item % heads] += stats[item];
    result.formats[item % heads] += formats[item];
  }
  return result;
}

}  // namespace elsa::fixed
