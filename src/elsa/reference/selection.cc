#include "elsa/reference/selection.h"

#include <cmath>

namespace elsa::reference {
namespace {

// Writes the keys that pass the test, those without a finite norm and those always kept. Every key
// is written and only the kept ones stay: a branch per key costs more.
template <typename Test>
void KeepIf(const QueryEstimate& estimate, const AlwaysKeep& always, const Test& passes,
            std::vector<std::int32_t>& kept) {
  const auto visible = static_cast<std::int64_t>(estimate.keys.size());
  kept.resize(estimate.keys.size());
  std::size_t count = 0;
  for (std::size_t v = 0; v < estimate.keys.size(); ++v) {
    kept[count] = estimate.keys[v];
    // In this order: the first is nearly always false, the second is hard to predict.
    const bool keep = !std::isfinite(estimate.key_norms[v]) ||
                      always.Holds(static_cast<std::int64_t>(v), visible) || passes(v);
    count += keep ? 1 : 0;
  }
  kept.resize(count);
}

}  // namespace

float EstimatedScore(const QueryEstimate& estimate, std::size_t v) {
  const float score = estimate.query_scale * estimate.similarities[v];
  return estimate.bias.empty() ? score : score + estimate.bias[v];
}

std::size_t LargestEstimate(const QueryEstimate& estimate) {
  const auto value = [&](std::size_t v) {
    return estimate.bias.empty() ? estimate.similarities[v] : EstimatedScore(estimate, v);
  };
  std::size_t best = 0;
  for (std::size_t v = 1; v < estimate.keys.size(); ++v) {
    if (value(v) > value(best)) best = v;
  }
  return best;
}

float BestEstimatedScore(const QueryEstimate& estimate) {
  bool found = false;
  float best = 0;
  for (std::size_t v = 0; v < estimate.keys.size(); ++v) {
    if (!std::isfinite(estimate.key_norms[v])) continue;
    const float score = EstimatedScore(estimate, v);
    if (!found || score > best) best = score;
    found = true;
  }
  return best;
}

void Select(const QueryEstimate& estimate, Rule rule, double threshold, Selection& out,
            const AlwaysKeep& always) {
  const auto limit = static_cast<float>(threshold);
  const float cut = limit * estimate.key_norm_max;
  const std::vector<float>& similarities = estimate.similarities;
  if (rule == Rule::kGap) {
    const float best = BestEstimatedScore(estimate);
    const auto near = [&](std::size_t v) { return best - EstimatedScore(estimate, v) < limit; };
    KeepIf(estimate, always, near, out.kept);
  } else if (estimate.bias.empty()) {
    const auto above = [&](std::size_t v) { return similarities[v] > cut; };
    KeepIf(estimate, always, above, out.kept);
  } else {
    const auto above = [&](std::size_t v) {
      return estimate.query_scale * (similarities[v] - cut) + estimate.bias[v] > 0;
    };
    KeepIf(estimate, always, above, out.kept);
  }
  out.fallback = out.kept.empty() && !estimate.keys.empty();
  if (out.fallback) out.kept.push_back(estimate.keys[LargestEstimate(estimate)]);
}

double CutOff(const QueryEstimate& estimate, Rule rule, double threshold) {
  const auto limit = static_cast<float>(threshold);
  if (rule == Rule::kGap) return BestEstimatedScore(estimate) - limit;
  return limit * estimate.key_norm_max;
}

}  // namespace elsa::reference
