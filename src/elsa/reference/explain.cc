#include "elsa/reference/explain.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "elsa/base/error.h"
#include "elsa/base/portable_math.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/scores.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::reference {
namespace {

void RequireIndex(const char* name, std::int64_t got, std::int64_t count) {
  if (got >= 0 && got < count) return;
  throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected 0 to " +
                                               std::to_string(count - 1) + ", got " +
                                               std::to_string(got));
}

std::string Number(double value, int digits) {
  char text[48];
  std::snprintf(text, sizeof(text), "%.*f", digits, value);
  return text;
}

std::string Percent(double share) { return Number(100 * share, 2) + " %"; }

}  // namespace

QueryExplanation Explain(const AttentionInputs& inputs, const Plan& plan, std::int64_t layer,
                         std::int64_t batch, std::int64_t head, std::int64_t query) {
  ValidateInputs(inputs);
  ValidatePlanFits(plan, layer, inputs);
  RequireIndex("batch", batch, inputs.batch());
  RequireIndex("head", head, inputs.heads());
  HeadInputs rows(inputs, batch, head);
  RequireIndex("query", query, rows.queries());
  SimilarityEstimator estimator(rows, EstimatorOptionsOf(plan, layer, head));

  const QueryEstimate& e = estimator.Estimate(query);
  QueryExplanation why;
  why.layer = layer;
  why.head = head;
  why.batch = batch;
  why.query = query;
  why.rule = plan.rule;
  why.threshold = plan.thresholds[layer][head];
  why.exact =
      plan.IsExactHead(layer, head) || static_cast<std::int64_t>(e.keys.size()) < plan.dense_below;
  why.centred = e.centred;
  why.bias_in_test = !e.bias.empty();
  why.query_norm = e.query_norm;
  why.query_scale = e.query_scale;
  why.key_norm_max = e.key_norm_max;
  if (why.exact) why.threshold = kExactHead;

  Selection selection;
  if (!why.exact) {
    Select(e, plan.rule, why.threshold, selection, AlwaysKeepOf(plan));
    why.fallback = selection.fallback;
    why.cut_off = CutOff(e, plan.rule, why.threshold);
  }
  Scores all_scores(rows);
  all_scores.SetQuery(query);
  std::vector<double> scores;
  all_scores.Of(e.keys, scores);
  std::vector<double> weights = scores;
  Softmax(weights);
  double mass = 0;
  for (std::size_t v = 0; v < e.keys.size(); ++v) {
    KeyExplanation key;
    key.key = e.keys[v];
    key.score = scores[v];
    key.weight = weights[v];
    key.key_norm = e.key_norms[v];
    key.distance = e.distances[v];
    key.true_angle_rad = TrueAngle(estimator.QueryVector(query),
                                   estimator.KeyVector(key.key, e.centred), estimator.d());
    key.angle_rad = EstimatedAngle(plan.hash.k, plan.ThetaBias(layer, head), key.distance);
    key.similarity = e.similarities[v];
    key.true_similarity = key.key_norm * PortableCos(key.true_angle_rad);
    key.estimated_score = EstimatedScore(e, v);
    key.kept = why.exact || std::binary_search(selection.kept.begin(), selection.kept.end(),
                                               static_cast<std::int32_t>(key.key));
    key.always = !why.exact && AlwaysKeepOf(plan).Holds(static_cast<std::int64_t>(v),
                                                        static_cast<std::int64_t>(e.keys.size()));
    if (key.kept) mass += key.weight;
    why.keys.push_back(key);
  }
  if (!why.keys.empty()) why.mass_kept = mass;
  return why;
}

std::string WhySentence(const QueryExplanation& query, const KeyExplanation& key,
                        const std::string& label) {
  if (query.exact) {
    return label + " is kept because selection is bypassed here (exact mode), with a weight of " +
           Percent(key.weight) + ".";
  }
  if (!std::isfinite(key.key_norm)) {
    return label + " is kept because its norm is not finite: such a key is never dropped.";
  }
  if (key.always) {
    return label + " is kept because the plan always keeps the first and last keys that a query " +
           "sees. It holds " + Percent(key.weight) + " of the softmax weight.";
  }
  std::string text = label + (key.kept ? " is kept: " : " is dropped: ");
  text += "its hash differs from the query's in " + std::to_string(key.distance) +
          " bits, which estimates an angle of " + Number(key.angle_rad, 3) + " rad (true " +
          Number(key.true_angle_rad, 3) + "); times its norm " + Number(key.key_norm, 3) +
          " that is a similarity of " + Number(key.similarity, 3) + " (true " +
          Number(key.true_similarity, 3) + "), ";
  double value = key.similarity;
  double cut = query.cut_off;
  if (query.rule == Rule::kGap || query.bias_in_test) {
    value = key.estimated_score;
    text += "an estimated score of " + Number(value, 3) + ", ";
    // scale * |q| * (similarity - cut) + bias > 0, written for the score.
    if (query.rule != Rule::kGap) cut *= query.query_scale;
  }
  const bool above = key.kept && !query.fallback;
  if (query.fallback && key.kept) {
    text += "which no key of this query brings above the cut-off " + Number(cut, 3) +
            ", so the best estimate is kept";
  } else {
    text += std::string(above ? "above" : "not above") + " the cut-off " + Number(cut, 3);
  }
  return text + ". It holds " + Percent(key.weight) + " of the softmax weight.";
}

}  // namespace elsa::reference
