#include "elsa/reference/calibration.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/base/parallel_for.h"
#include "elsa/base/portable_math.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::reference {
namespace {

// The tested quantity in equal bins. Our choice: a bin is 1/2048 of the largest key norm for
// thresholds, 1/128 of a score for gaps; what lies outside the range is far from any threshold.
struct BinRange {
  double low;
  double width;
  std::int64_t bins;

  double Edge(std::int64_t bin) const { return low + width * static_cast<double>(bin); }
  std::int64_t Bin(double value) const {
    const double bin = std::floor((value - low) / width);
    return static_cast<std::int64_t>(std::clamp(bin, 0.0, static_cast<double>(bins - 1)));
  }
};
constexpr BinRange kThresholdRange{-2, 1.0 / 2048, 8192};
constexpr BinRange kGapRange{0, 1.0 / 128, 8192};
constexpr BinRange kAngleErrorRange{-kPi, kPi / 4096, 8192};

const BinRange& RangeOf(Rule rule) { return rule == Rule::kGap ? kGapRange : kThresholdRange; }

void RequireOptions(const Plan& plan, std::int64_t layers, std::int64_t heads) {
  if (layers < 1 || heads < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "calibration: expected 1 or more layers and heads, got " + std::to_string(layers) +
                    " and " + std::to_string(heads));
  }
  // A plan with its thresholds still open is valid if it is valid with every head exact.
  Plan probe = plan;
  probe.thresholds.assign(layers, std::vector<double>(heads, kExactHead));
  probe.calibration.clear();
  ValidatePlan(probe);
}

// What the test compares with the threshold, for visible key number v; a larger value is kept for
// thresholds, a smaller one for gaps.
double TestedQuantity(const QueryEstimate& e, Rule rule, float best, std::size_t v) {
  if (rule == Rule::kGap) return best - EstimatedScore(e, v);
  const double norm_max = e.key_norm_max;
  double u = e.similarities[v] / norm_max;
  if (!e.bias.empty()) u += e.bias[v] / (static_cast<double>(e.query_scale) * norm_max);
  return u;
}

// Sec. III-E: of the keys whose weight exceeds p/n the one with the smallest weight, or the one
// with the largest weight if there is none; the first on a tie.
std::size_t ThresholdKey(const std::vector<double>& weights, double p) {
  const double relevant = p / static_cast<double>(weights.size());
  std::size_t smallest = weights.size();
  std::size_t largest = 0;
  for (std::size_t v = 0; v < weights.size(); ++v) {
    if (weights[v] > weights[largest]) largest = v;
    if (weights[v] > relevant && (smallest == weights.size() || weights[v] < weights[smallest])) {
      smallest = v;
    }
  }
  return smallest < weights.size() ? smallest : largest;
}

// q . k of the paper's rule, of the centred key if the estimate is; plus the bias in units of the
// unscaled score if it is in the test.
double RawScore(const AttentionInputs& inputs, const SimilarityEstimator& estimator,
                const QueryEstimate& e, std::int64_t batch, std::int64_t head, std::int64_t query,
                std::size_t v) {
  const std::vector<float> key = estimator.KeyVector(e.keys[v], e.centred);
  double dot = 0;
  for (std::size_t c = 0; c < key.size(); ++c) {
    dot += static_cast<double>(inputs.query(batch, head, query, c)) * key[c];
  }
  if (!e.bias.empty()) dot += e.bias[v] / inputs.scale;
  return dot;
}

}  // namespace

Calibrator::Calibrator(Plan plan, std::int64_t layers, std::int64_t heads)
    : plan_(std::move(plan)), heads_(heads) {
  RequireOptions(plan_, layers, heads);
  plan_.thresholds.assign(layers, std::vector<double>(heads, kExactHead));
  plan_.calibration.clear();
  states_.resize(layers * heads);
}

void Calibrator::Observe(std::int64_t layer, const AttentionInputs& inputs, int threads) {
  ValidateInputs(inputs);
  ValidatePlanFits(plan_, layer, inputs);
  if (plan_.rule == Rule::kPaper && plan_.target == 0) return;
  ParallelFor(heads_, threads, [&](std::int64_t head) { ObserveHead(inputs, layer, head); });
}

void Calibrator::ObserveHead(const AttentionInputs& inputs, std::int64_t layer, std::int64_t head) {
  HeadState& state = states_[layer * heads_ + head];
  const BinRange& range = RangeOf(plan_.rule);
  if (state.histogram.pairs.empty()) {
    state.histogram.pairs.resize(range.bins);
    state.histogram.mass.resize(range.bins);
  }
  std::vector<double> weights;
  for (std::int64_t batch = 0; batch < inputs.batch(); ++batch) {
    SimilarityEstimator estimator(inputs, EstimatorOptionsOf(plan_, layer, head), batch, head);
    for (std::int64_t i = 0; i < estimator.visibility().queries(); ++i) {
      const auto visible = static_cast<std::int64_t>(estimator.VisibleKeys(i).size());
      if (visible == 0 || visible < plan_.dense_below) continue;
      const QueryEstimate& e = estimator.Estimate(i);
      // A zero or non-finite norm has no angle: such a query says nothing about a threshold.
      const double size = static_cast<double>(e.query_norm) * e.key_norm_max;
      if (!(size > 0) || !std::isfinite(size)) continue;

      weights.clear();
      for (std::int32_t key : e.keys) weights.push_back(Score(inputs, batch, head, i, key));
      Softmax(weights);
      const float best = plan_.rule == Rule::kGap ? BestEstimatedScore(e) : 0.0f;
      for (std::size_t v = 0; v < weights.size(); ++v) {
        if (!std::isfinite(e.key_norms[v])) continue;
        const std::int64_t bin = range.Bin(TestedQuantity(e, plan_.rule, best, v));
        state.histogram.pairs[bin] += 1;
        state.histogram.mass[bin] += weights[v];
      }
      ++state.queries;
      if (plan_.rule != Rule::kPaper) continue;
      const std::size_t chosen = ThresholdKey(weights, plan_.target);
      const double t = RawScore(inputs, estimator, e, batch, head, i, chosen) / size;
      state.sum += t;
      state.sum_of_squares += t * t;
    }
  }
}

Plan Calibrator::Finish() const {
  Plan plan = plan_;
  const BinRange& range = RangeOf(plan.rule);
  const bool ascending = plan.rule == Rule::kGap;  // small values are kept
  plan.calibration.assign(plan.thresholds.size(), std::vector<HeadCalibration>(heads_));
  for (std::size_t s = 0; s < states_.size(); ++s) {
    const HeadState& state = states_[s];
    double& threshold = plan.thresholds[s / heads_][s % heads_];
    HeadCalibration& seen = plan.calibration[s / heads_][s % heads_];
    seen.queries = state.queries;
    if (state.queries == 0) continue;
    const auto queries = static_cast<double>(state.queries);
    double all_pairs = 0;
    double all_mass = 0;
    for (std::int64_t bin = 0; bin < range.bins; ++bin) {
      all_pairs += state.histogram.pairs[bin];
      all_mass += state.histogram.mass[bin];
    }
    if (plan.rule == Rule::kPaper) {
      threshold = state.sum / queries;
      const double variance = state.sum_of_squares / queries - threshold * threshold;
      seen.threshold_stddev = std::sqrt(std::max(variance, 0.0));
    }
    // From the keys most surely kept on: until the target is met, or down to the threshold.
    double pairs = 0;
    double mass = 0;
    for (std::int64_t step = 0; step < range.bins; ++step) {
      const std::int64_t bin = ascending ? step : range.bins - 1 - step;
      const double edge = range.Edge(ascending ? bin + 1 : bin);
      double share = 1;
      if (plan.rule == Rule::kPaper) {
        share = std::clamp((edge + range.width - threshold) / range.width, 0.0, 1.0);
        if (share == 0) break;
      }
      pairs += share * state.histogram.pairs[bin];
      mass += share * state.histogram.mass[bin];
      if (plan.rule == Rule::kPaper) continue;
      threshold = edge;
      const double reached = plan.rule == Rule::kBudget ? pairs / all_pairs : mass / all_mass;
      // Rounding in the sums must not push a target of 1 beyond reach.
      if (reached >= plan.target - 1e-12) break;
    }
    seen.kept_fraction = std::clamp(pairs / all_pairs, 0.0, 1.0);
    seen.mass_kept = std::clamp(mass / all_mass, 0.0, 1.0);
  }
  return plan;
}

ThetaBiasMeter::ThetaBiasMeter(Plan plan, std::int64_t layers, std::int64_t heads)
    : plan_(std::move(plan)), heads_(heads) {
  plan_.theta_bias_rad = {{0.0}};
  RequireOptions(plan_, layers, heads);
  plan_.thresholds.assign(layers, std::vector<double>(heads, kExactHead));
  counts_.resize(layers * heads);
}

void ThetaBiasMeter::Observe(std::int64_t layer, const AttentionInputs& inputs, int threads) {
  ValidateInputs(inputs);
  ValidatePlanFits(plan_, layer, inputs);
  ParallelFor(heads_, threads, [&](std::int64_t head) {
    std::vector<std::int64_t>& counts = counts_[layer * heads_ + head];
    counts.resize(kAngleErrorRange.bins);
    const auto d = static_cast<std::int64_t>(plan_.hash.d);
    std::vector<float> query(d);
    for (std::int64_t batch = 0; batch < inputs.batch(); ++batch) {
      SimilarityEstimator estimator(inputs, EstimatorOptionsOf(plan_, layer, head), batch, head);
      for (std::int64_t i = 0; i < estimator.visibility().queries(); ++i) {
        const auto visible = static_cast<std::int64_t>(estimator.VisibleKeys(i).size());
        if (visible == 0 || visible < plan_.dense_below) continue;
        const QueryEstimate& e = estimator.Estimate(i);
        if (!(e.query_norm > 0) || !std::isfinite(e.query_norm)) continue;
        for (std::int64_t c = 0; c < d; ++c) query[c] = inputs.query(batch, head, i, c);
        for (std::size_t v = 0; v < e.keys.size(); ++v) {
          if (!(e.key_norms[v] > 0) || !std::isfinite(e.key_norms[v])) continue;
          const std::vector<float> key = estimator.KeyVector(e.keys[v], e.centred);
          const double estimate = kPi / static_cast<double>(plan_.hash.k) * e.distances[v];
          ++counts[kAngleErrorRange.Bin(estimate - TrueAngle(query.data(), key.data(), d))];
        }
      }
    }
  });
}

std::vector<std::vector<double>> ThetaBiasMeter::Finish() const {
  std::vector<std::vector<double>> bias(plan_.layers(), std::vector<double>(heads_));
  double synthetic = -1;  // measured only if some head needs it
  for (std::size_t s = 0; s < counts_.size(); ++s) {
    double& out = bias[s / heads_][s % heads_];
    std::int64_t total = 0;
    for (std::int64_t count : counts_[s]) total += count;
    if (total == 0) {
      if (synthetic < 0) synthetic = MeasureThetaBias(plan_.hash);
      out = synthetic;
      continue;
    }
    const double rank = kThetaBiasPercentile * static_cast<double>(total);
    std::int64_t below = 0;
    std::int64_t bin = 0;
    while (static_cast<double>(below + counts_[s][bin]) < rank) below += counts_[s][bin++];
    out = kAngleErrorRange.Edge(bin + 1);
  }
  return bias;
}

}  // namespace elsa::reference
