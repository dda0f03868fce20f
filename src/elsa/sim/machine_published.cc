#include "elsa/sim/machine_published.h"

#include <algorithm>
#include <array>
#include <string>

#include "elsa/base/error.h"
#include "elsa/base/portable_math.h"
#include "elsa/sim/machine_ideal.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {
namespace {

MachineResult Everything(std::string_view machine, const fixed::Job& job) {
  MachineResult result;
  result.machine = machine;
  result.heads = 1;
  result.pairs = VisiblePairs(job);
  result.scored_pairs = result.pairs;
  result.kept_pairs = result.pairs;
  return result;
}

}  // namespace

PublishedRatio GpuOverBase(const PaperFigures& figures) {
  return {figures.Value("throughput_over_v100.base_min"),
          figures.Value("throughput_over_v100.conservative") *
              figures.Ratio("latency_over_ideal.conservative", "latency_over_ideal.base"),
          figures.Value("throughput_over_v100.base_max")};
}

PublishedRatio TpuOverBase(const PaperFigures& figures) {
  const std::array ratios{figures.Value("base_over_tpu.squad11"),
                          figures.Value("base_over_tpu.squad20"),
                          figures.Value("base_over_tpu.race")};
  double logs = 0;
  for (const double ratio : ratios) logs += PortableLog(ratio);
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {*low, PortableExp(logs / static_cast<double>(ratios.size())), *high};
}

MachineResult RunAtPeak(std::string_view machine, double peak_flops_per_s, std::int64_t padded_n,
                        const fixed::Job& job) {
  if (padded_n < std::max(job.queries, job.keys)) {
    throw Error(ErrorCode::kInvalidArgument, "padded_n: expected at least the head's " +
                                                 std::to_string(std::max(job.queries, job.keys)) +
                                                 " rows, got " + std::to_string(padded_n));
  }
  MachineResult result = Everything(machine, job);
  result.model = MachineModel::kAnalytic;
  const double padded = static_cast<double>(padded_n);
  result.batch_s = 2 * padded * padded * static_cast<double>(job.d + job.d_v) / peak_flops_per_s;
  result.batch_min_s = result.batch_s;
  result.batch_max_s = result.batch_s;
  result.notes = {
      "A bound: every unit busy in every cycle, memory and softmax free.",
      "Inputs are padded to " + std::to_string(padded_n) + " rows; masked pairs are computed."};
  return result;
}

MachineResult RunAtRatio(std::string_view machine, const PublishedRatio& ratio,
                         const Config& config, const fixed::Job& job) {
  MachineResult result = Everything(machine, job);
  result.model = MachineModel::kPublishedRatio;
  const double base_s = static_cast<double>(BaseCycles(config, job)) /
                        static_cast<double>(config.clock_hz) /
                        static_cast<double>(config.accelerators);
  result.batch_s = base_s * ratio.typical;
  result.batch_min_s = base_s * ratio.low;
  result.batch_max_s = base_s * ratio.high;
  result.notes = {
      "Not measured here: the paper's ratio over ELSA-base times ELSA-base's closed form.",
      "The ratio holds for the paper's models, data sets, padding and software, on average."};
  return result;
}

}  // namespace elsa::sim
