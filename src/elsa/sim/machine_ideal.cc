#include "elsa/sim/machine_ideal.h"

#include <algorithm>

#include "elsa/params/derived.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {

MachineResult RunIdeal(const Config& config, const fixed::Job& job) {
  MachineResult result;
  result.machine = "ideal";
  result.model = MachineModel::kAnalytic;
  result.heads = 1;
  result.pairs = VisiblePairs(job);
  result.scored_pairs = result.pairs;
  result.kept_pairs = result.pairs;
  result.cycles = static_cast<double>(result.pairs * (job.d + job.d_v)) /
                  static_cast<double>(Derive(config).ideal_multipliers);
  SetTimes(config, &result);
  result.notes = {"Every multiplier is busy in every cycle; exponential and division are free.",
                  "Causal heads compute visible pairs only."};
  return result;
}

std::int64_t BaseCycles(const Config& config, const fixed::Job& job) {
  const std::int64_t division = CeilDiv(job.d_v, config.division_multipliers);
  std::int64_t cycles = 0;
  for (std::int64_t i = 0; i < job.queries; ++i) {
    cycles += std::max(CeilDiv(job.Visible(i), config.banks), division);
  }
  return cycles;
}

}  // namespace elsa::sim
