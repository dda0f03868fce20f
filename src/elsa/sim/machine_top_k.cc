#include "elsa/sim/machine_top_k.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "elsa/sim/machine_scores.h"

namespace elsa::sim {
namespace {

// How many of the keys, best first, the goal needs. `weights` by key.
std::int64_t CountNeeded(const std::vector<std::int32_t>& best_first,
                         const std::vector<double>& weights, const fixed::Candidates* candidates,
                         std::int64_t query, TopKGoal goal) {
  if (candidates == nullptr && goal == TopKGoal::kEqualCount) return best_first.size();
  // Both sums run best first, so that equal sets have equal sums.
  double elsa_mass = 0;
  std::int64_t elsa_count = 0;
  for (const std::int32_t key : best_first) {
    if (candidates != nullptr && !Uses(*candidates, query, key)) continue;
    elsa_mass += weights[key];
    ++elsa_count;
  }
  if (goal == TopKGoal::kEqualCount) return elsa_count;
  // As many keys as ELSA's always suffice; rounding must not ask for more.
  double mass = 0;
  std::int64_t count = 0;
  while (count < elsa_count && mass < elsa_mass) mass += weights[best_first[count++]];
  return count;
}

}  // namespace

MachineResult RunTopK(const Config& config, const fixed::Job& job,
                      const fixed::Candidates* candidates, TopKGoal goal, fixed::Candidates* kept) {
  MachineResult result;
  result.machine = goal == TopKGoal::kEqualMass ? "top-k" : "top-k-count";
  result.model = MachineModel::kAnalytic;
  result.heads = 1;
  result.pairs = VisiblePairs(job);
  if (kept != nullptr) *kept = NoCandidates(job.queries, job.keys);

  const double scale = ScoreScale(job);
  const std::int64_t division = CeilDiv(job.d_v, config.division_multipliers);
  std::vector<std::int64_t> scores;
  std::vector<double> weights;
  std::vector<std::int32_t> best_first;
  for (std::int64_t i = 0; i < job.queries; ++i) {
    IntegerScores(job, i, &scores);
    SoftmaxWeights(scores, scale, &weights);
    best_first.resize(scores.size());
    std::iota(best_first.begin(), best_first.end(), 0);
    std::stable_sort(best_first.begin(), best_first.end(),
                     [&](std::int32_t a, std::int32_t b) { return scores[a] > scores[b]; });
    const std::int64_t count = CountNeeded(best_first, weights, candidates, i, goal);
    result.kept_pairs += count;
    result.cycles += static_cast<double>(std::max(CeilDiv(count, config.banks), division));
    if (kept == nullptr) continue;
    for (std::int64_t rank = 0; rank < count; ++rank) Keep(kept, i, best_first[rank]);
  }
  result.scored_pairs = result.kept_pairs;
  SetTimes(config, &result);
  result.notes = {"A bound, not a machine: selection is perfect and takes no time.",
                  goal == TopKGoal::kEqualMass
                      ? "Per query the fewest keys that hold as much softmax mass as ELSA's."
                      : "Per query the best keys, as many as ELSA keeps.",
                  "Kept keys are spread evenly over the banks."};
  return result;
}

}  // namespace elsa::sim
