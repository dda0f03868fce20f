#include "elsa/sim/machine_spatten.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <string>

#include "elsa/base/error.h"
#include "elsa/params/derived.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {
namespace {

[[noreturn]] void Fail(const char* what, const char* range, double value) {
  throw Error(ErrorCode::kInvalidArgument, "spatten: " + std::string(what) + ": expected " + range +
                                               ", got " + std::to_string(value));
}

void Check(const SpattenOptions& options) {
  if (!(options.value_keep > 0 && options.value_keep <= 1)) {
    Fail("value_keep", "above 0, at most 1", options.value_keep);
  }
  if (options.comparators < 1) {
    Fail("comparators", "1 or more", static_cast<double>(options.comparators));
  }
  if (options.pass_cycles < 0) {
    Fail("pass_cycles", "0 or more", static_cast<double>(options.pass_cycles));
  }
}

void Begin(std::int64_t keys, SpattenTokens* tokens) {
  if (tokens->alive.empty() && tokens->importance.empty()) {
    tokens->alive.assign(keys, 1);
    tokens->importance.assign(keys, 0.0);
  }
  for (const std::size_t size : {tokens->alive.size(), tokens->importance.size()}) {
    if (size != static_cast<std::size_t>(keys)) {
      throw Error(ErrorCode::kMismatch, "spatten: tokens: expected the head's " +
                                            std::to_string(keys) + ", got " + std::to_string(size));
    }
  }
}

// The living keys that the query sees.
std::vector<std::int64_t> LivingKeys(const fixed::Job& job, std::int64_t query,
                                     const SpattenTokens* tokens) {
  std::vector<std::int64_t> keys;
  const bool self = job.queries == job.keys;
  if (tokens != nullptr && self && tokens->alive[query] == 0) return keys;
  for (std::int64_t j = 0; j < job.Visible(query); ++j) {
    if (tokens == nullptr || tokens->alive[j] != 0) keys.push_back(j);
  }
  return keys;
}

void AddImportance(const std::vector<std::int64_t>& keys, const std::vector<std::int64_t>& scores,
                   double scale, SpattenTokens* tokens) {
  std::vector<double> weights;
  SoftmaxWeights(scores, scale, &weights);
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t a = 0; a < keys.size(); ++a) tokens->importance[keys[a]] += weights[a] / sum;
}

}  // namespace

void PruneTokens(double keep, SpattenTokens* tokens) {
  if (!(keep > 0 && keep <= 1)) Fail("keep", "above 0, at most 1", keep);
  const auto goal =
      static_cast<std::size_t>(std::ceil(keep * static_cast<double>(tokens->alive.size())));
  std::vector<std::size_t> living;
  for (std::size_t j = 0; j < tokens->alive.size(); ++j) {
    if (tokens->alive[j] != 0) living.push_back(j);
  }
  std::stable_sort(living.begin(), living.end(), [&](std::size_t a, std::size_t b) {
    return tokens->importance[a] > tokens->importance[b];
  });
  for (std::size_t rank = goal; rank < living.size(); ++rank) tokens->alive[living[rank]] = 0;
}

std::int64_t QuickSelectCycles(std::vector<std::int64_t> scores, std::int64_t count,
                               const SpattenOptions& options) {
  std::int64_t cycles = 0;
  while (!scores.empty()) {
    const auto size = static_cast<std::int64_t>(scores.size());
    cycles += CeilDiv(size, options.comparators) + options.pass_cycles;
    const std::int64_t pivot = scores[size / 2];
    std::vector<std::int64_t> larger, smaller;
    for (const std::int64_t score : scores) {
      if (score > pivot) larger.push_back(score);
      if (score < pivot) smaller.push_back(score);
    }
    const auto above = static_cast<std::int64_t>(larger.size());
    const std::int64_t down_to_pivot = size - static_cast<std::int64_t>(smaller.size());
    if (count <= above) {
      scores = std::move(larger);
    } else if (count <= down_to_pivot) {
      break;
    } else {
      count -= down_to_pivot;
      scores = std::move(smaller);
    }
  }
  return cycles;
}

MachineResult RunSpatten(const Config& config, const fixed::Job& job, const SpattenOptions& options,
                         SpattenTokens* tokens, fixed::Candidates* kept) {
  Check(options);
  if (tokens != nullptr) Begin(job.keys, tokens);
  const auto multipliers = static_cast<double>(Derive(config).ideal_multipliers);
  const double scale = ScoreScale(job);
  MachineResult result;
  result.machine = "spatten";
  result.model = MachineModel::kSimulated;
  result.heads = 1;
  result.pairs = VisiblePairs(job);
  if (kept != nullptr) *kept = NoCandidates(job.queries, job.keys);

  std::vector<std::int64_t> all, scores;
  for (std::int64_t i = 0; i < job.queries; ++i) {
    const std::vector<std::int64_t> keys = LivingKeys(job, i, tokens);
    if (keys.empty()) continue;
    IntegerScores(job, i, &all);
    scores.clear();
    for (const std::int64_t key : keys) scores.push_back(all[key]);
    if (tokens != nullptr) AddImportance(keys, scores, scale, tokens);

    const auto alive = static_cast<std::int64_t>(keys.size());
    const auto count =
        static_cast<std::int64_t>(std::ceil(options.value_keep * static_cast<double>(alive)));
    const std::int64_t engine = count < alive ? QuickSelectCycles(scores, count, options) : 0;
    result.selection_cycles += static_cast<double>(engine);
    result.scored_pairs += alive;
    result.kept_pairs += count;
    result.cycles += std::max(static_cast<double>(alive * job.d + count * job.d_v) / multipliers,
                              static_cast<double>(engine));
    if (kept == nullptr) continue;
    std::vector<std::int64_t> order(alive);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::int64_t a, std::int64_t b) { return scores[a] > scores[b]; });
    for (std::int64_t rank = 0; rank < count; ++rank) Keep(kept, i, keys[order[rank]]);
  }
  SetTimes(config, &result);
  result.notes = {
      "Scores and weighted sums share ELSA's multipliers, every one busy; the engine works on "
      "another query meanwhile.",
      "Quick-select: " + std::to_string(options.comparators) + " scores per cycle, " +
          std::to_string(options.pass_cycles) + " cycles per pass, pivot in the middle.",
      tokens == nullptr ? "No cascade token pruning: the head stands alone."
                        : "Cascade token pruning over the heads given, in their order.",
      "No head pruning, no progressive quantisation, no fine-tuning; on-chip memory only."};
  return result;
}

}  // namespace elsa::sim
