#include "elsa/sim/machine_published.h"

#include <algorithm>
#include <string>

#include "elsa/base/error.h"
#include "elsa/base/portable_math.h"
#include "elsa/sim/machine_ideal.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {
namespace {

void CheckPositive(double value, const char* name) {
  if (!(value > 0)) {
    throw Error(ErrorCode::kInvalidArgument, "published figures: " + std::string(name) +
                                                 ": expected a positive number, got " +
                                                 std::to_string(value));
  }
}

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

PublishedRatio GpuOverBase(const PublishedFigures& figures) {
  CheckPositive(figures.gpu_over_base_min, "gpu_over_base_min");
  CheckPositive(figures.gpu_over_base_max, "gpu_over_base_max");
  CheckPositive(figures.gpu_over_conservative, "gpu_over_conservative");
  CheckPositive(figures.conservative_over_ideal, "conservative_over_ideal");
  CheckPositive(figures.base_over_ideal, "base_over_ideal");
  return {figures.gpu_over_base_min,
          figures.gpu_over_conservative * figures.conservative_over_ideal / figures.base_over_ideal,
          figures.gpu_over_base_max};
}

PublishedRatio TpuOverBase(const PublishedFigures& figures) {
  const std::vector<double>& ratios = figures.tpu_over_base;
  if (ratios.empty()) CheckPositive(0, "tpu_over_base");
  double logs = 0;
  for (const double ratio : ratios) {
    CheckPositive(ratio, "tpu_over_base");
    logs += PortableLog(ratio);
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {*low, PortableExp(logs / static_cast<double>(ratios.size())), *high};
}

MachineResult RunAtPeak(std::string_view machine, double peak_flops_per_s, std::int64_t padded_n,
                        const fixed::Job& job) {
  CheckPositive(peak_flops_per_s, "peak_flops_per_s");
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
