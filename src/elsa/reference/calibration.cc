#include "elsa/reference/calibration.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/base/parallel_for.h"
#include "elsa/base/portable_math.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/scores.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::reference {
namespace {

// Equal bins, open at both ends.
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
// Our choice: a bin is 1/2048 of the largest key norm for thresholds, 1/128 of a score for gaps.
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

// The side of the test that belongs to visible key number v, turned so that for every rule a key is
// kept if this is below a limit: D for gaps, -t for thresholds.
double Distance(const QueryEstimate& e, Rule rule, float best, std::size_t v) {
  if (rule == Rule::kGap) return best - EstimatedScore(e, v);
  const double norm_max = e.key_norm_max;
  double u = e.similarities[v] / norm_max;
  if (!e.bias.empty()) u += e.bias[v] / (static_cast<double>(e.query_scale) * norm_max);
  return -u;
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
double RawScore(const SimilarityEstimator& estimator, const QueryEstimate& e, std::int64_t query,
                std::size_t v, double scale) {
  const float* q = estimator.QueryVector(query);
  const float* k = estimator.KeyVector(e.keys[v], e.centred);
  double dot = 0;
  for (std::int64_t c = 0; c < estimator.d(); ++c) dot += static_cast<double>(q[c]) * k[c];
  return e.bias.empty() ? dot : dot + e.bias[v] / scale;
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
  state.pairs.resize(range.bins);
  state.mass.resize(range.bins);
  std::vector<double> weights;
  for (std::int64_t batch = 0; batch < inputs.batch(); ++batch) {
    HeadInputs rows(inputs, batch, head);
    Scores scores(rows);
    SimilarityEstimator estimator(rows, EstimatorOptionsOf(plan_, layer, head));
    for (std::int64_t i = 0; i < rows.queries(); ++i) {
      const std::vector<std::int32_t>& visible = rows.VisibleKeys(i);
      if (visible.empty() || static_cast<std::int64_t>(visible.size()) < plan_.dense_below) {
        continue;
      }
      const QueryEstimate& e = estimator.Estimate(i);
      // A zero or non-finite norm has no angle: such a query says nothing about a threshold.
      const double size = static_cast<double>(e.query_norm) * e.key_norm_max;
      if (!(e.query_scale > 0 && e.key_norm_max > 0 && std::isfinite(e.query_scale))) continue;
      scores.SetQuery(i);
      scores.Of(visible, weights);
      if (!std::all_of(weights.begin(), weights.end(), [](double s) { return std::isfinite(s); })) {
        continue;
      }
      Softmax(weights);
      ++state.queries;

      const float best = BestEstimatedScore(e);
      const AlwaysKeep always = AlwaysKeepOf(plan_);
      const std::size_t largest = LargestEstimate(e);
      const auto count = static_cast<std::int64_t>(weights.size());
      for (std::size_t v = 0; v < weights.size(); ++v) {
        const bool kept =
            !std::isfinite(e.key_norms[v]) ||
            (always.any() ? always.Holds(static_cast<std::int64_t>(v), count) : v == largest);
        const std::int64_t bin = kept ? 0 : range.Bin(Distance(e, plan_.rule, best, v));
        state.pairs[bin] += 1;
        state.mass[bin] += weights[v];
      }
      if (plan_.rule != Rule::kPaper) continue;
      const std::size_t chosen = ThresholdKey(weights, plan_.target);
      const double t = RawScore(estimator, e, i, chosen, inputs.scale) / size;
      state.sum += t;
      state.sum_of_squares += t * t;
    }
  }
}

Plan Calibrator::Finish() const {
  Plan plan = plan_;
  plan.calibration.assign(plan.thresholds.size(), std::vector<HeadCalibration>(heads_));
  for (std::size_t s = 0; s < states_.size(); ++s) {
    FinishHead(states_[s], plan.thresholds[s / heads_][s % heads_],
               plan.calibration[s / heads_][s % heads_]);
  }
  return plan;
}

void Calibrator::FinishHead(const HeadState& state, double& threshold,
                            HeadCalibration& seen) const {
  seen.queries = state.queries;
  if (state.queries == 0) return;
  const BinRange& range = RangeOf(plan_.rule);
  const double all_pairs = std::accumulate(state.pairs.begin(), state.pairs.end(), 0.0);
  const double all_mass = std::accumulate(state.mass.begin(), state.mass.end(), 0.0);
  double pairs = state.pairs[0];
  double mass = state.mass[0];
  std::int64_t bin = 1;  // the first that is not kept
  if (plan_.rule == Rule::kPaper) {
    const auto queries = static_cast<double>(state.queries);
    threshold = state.sum / queries;
    const double variance = state.sum_of_squares / queries - threshold * threshold;
    seen.threshold_stddev = std::sqrt(std::max(variance, 0.0));
    // The bin that the threshold cuts counts by its share.
    for (; bin < range.bins && range.Edge(bin) < -threshold; ++bin) {
      const double share = std::min((-threshold - range.Edge(bin)) / range.width, 1.0);
      pairs += share * state.pairs[bin];
      mass += share * state.mass[bin];
    }
  } else {
    const bool budget = plan_.rule == Rule::kBudget;
    // Rounding in the sums must not push a target of 1 out of reach.
    const double wanted = (plan_.target - 1e-12) * (budget ? all_pairs : all_mass);
    while ((budget ? pairs : mass) < wanted) {
      pairs += state.pairs[bin];
      mass += state.mass[bin];
      ++bin;
    }
    // The last bin is open: only an exact head keeps all of it.
    if (bin < range.bins) {
      threshold = plan_.rule == Rule::kGap ? range.Edge(bin) : -range.Edge(bin);
    }
  }
  seen.kept_fraction = std::min(pairs / all_pairs, 1.0);
  seen.mass_kept = std::min(mass / all_mass, 1.0);
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
  d_ = inputs.query.shape[3];
  ParallelFor(heads_, threads, [&](std::int64_t head) {
    std::vector<std::int64_t>& counts = counts_[layer * heads_ + head];
    counts.resize(kAngleErrorRange.bins);
    for (std::int64_t batch = 0; batch < inputs.batch(); ++batch) {
      HeadInputs rows(inputs, batch, head);
      SimilarityEstimator estimator(rows, EstimatorOptionsOf(plan_, layer, head));
      for (std::int64_t i = 0; i < rows.queries(); ++i) {
        if (static_cast<std::int64_t>(rows.VisibleKeys(i).size()) < plan_.dense_below) continue;
        const QueryEstimate& e = estimator.Estimate(i);
        if (!(e.query_norm > 0) || !std::isfinite(e.query_norm)) continue;
        for (std::size_t v = 0; v < e.keys.size(); ++v) {
          if (!(e.key_norms[v] > 0) || !std::isfinite(e.key_norms[v])) continue;
          const double estimate = kPi / static_cast<double>(plan_.hash.k) * e.distances[v];
          const double angle = TrueAngle(estimator.QueryVector(i),
                                         estimator.KeyVector(e.keys[v], e.centred), estimator.d());
          ++counts[kAngleErrorRange.Bin(estimate - angle)];
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
      if (synthetic < 0) synthetic = MeasureThetaBias(plan_.hash, d_);
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
