#include "elsa/reference/attention.h"

#include <algorithm>

#include "elsa/base/parallel_for.h"
#include "elsa/base/portable_math.h"
#include "elsa/base/random.h"
#include "elsa/reference/scores.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::reference {
namespace {

// The mean row: mean key and mean value over the keys that a query sees.
class MeanRow {
 public:
  MeanRow(std::int64_t d, std::int64_t d_v) : key_(d), value_(d_v) {}

  // A query that sees a few keys more than the last one (causal) costs only these.
  void Update(const std::vector<std::int32_t>& visible, const std::vector<double>& keys,
              const std::vector<double>& values) {
    if (summed_.size() > visible.size() ||
        !std::equal(summed_.begin(), summed_.end(), visible.begin())) {
      summed_.clear();
      std::fill(key_.begin(), key_.end(), 0.0);
      std::fill(value_.begin(), value_.end(), 0.0);
    }
    for (std::size_t v = summed_.size(); v < visible.size(); ++v) {
      Add(&keys[visible[v] * key_.size()], key_);
      Add(&values[visible[v] * value_.size()], value_);
      summed_.push_back(visible[v]);
    }
  }
  std::vector<double> key() const { return Mean(key_); }
  std::vector<double> value() const { return Mean(value_); }

 private:
  static void Add(const double* row, std::vector<double>& sum) {
    for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += row[c];
  }
  std::vector<double> Mean(std::vector<double> sum) const {
    for (double& x : sum) x /= static_cast<double>(summed_.size());
    return sum;
  }

  std::vector<std::int32_t> summed_;
  std::vector<double> key_;
  std::vector<double> value_;
};

// The rows of one (batch, head), and the arithmetic of one query on them.
class HeadAttention {
 public:
  explicit HeadAttention(const HeadInputs& head)
      : head_(head),
        scores_(head),
        d_v_(head.value().shape[1]),
        values_(PackRows(head.value())),
        mean_(head.key().shape[1], d_v_) {}

  // The share of the softmax over `visible` that falls on `kept`; both ascending.
  double Mass(std::int64_t query, const std::vector<std::int32_t>& visible,
              const std::vector<std::int32_t>& kept) {
    scores_.SetQuery(query);
    scores_.Of(visible, weights_);
    Softmax(weights_);
    double mass = 0;
    std::size_t next = 0;
    for (std::size_t v = 0; v < visible.size() && next < kept.size(); ++v) {
      if (visible[v] != kept[next]) continue;
      mass += weights_[v];
      ++next;
    }
    return mass;
  }

  // Softmax over the kept keys; if `with_mean`, also over a copy of the mean row for each visible
  // key that is not kept. Valid until the next call.
  const std::vector<double>& Row(std::int64_t query, const std::vector<std::int32_t>& visible,
                                 const std::vector<std::int32_t>& kept, bool with_mean) {
    scores_.SetQuery(query);
    scores_.Of(kept, weights_);
    double mean_score = 0;
    double peak = Peak(weights_);
    if (with_mean) {
      mean_.Update(visible, scores_.keys(), values_);
      mean_score = head_.scale() * scores_.Dot(mean_.key().data()) + MeanBias(query, visible);
      peak = std::max(peak, mean_score);
    }
    for (double& weight : weights_) weight = PortableExp(weight - peak);
    row_.assign(d_v_, 0.0);
    double sum = 0;
    for (std::size_t s = 0; s < kept.size(); ++s) {
      AddScaled(weights_[s], &values_[kept[s] * d_v_]);
      sum += weights_[s];
    }
    if (with_mean) {
      const double weight =
          static_cast<double>(visible.size() - kept.size()) * PortableExp(mean_score - peak);
      AddScaled(weight, mean_.value().data());
      sum += weight;
    }
    for (double& x : row_) x /= sum;
    return row_;
  }

 private:
  double MeanBias(std::int64_t query, const std::vector<std::int32_t>& visible) const {
    if (!head_.has_bias()) return 0;
    double sum = 0;
    for (std::int32_t key : visible) sum += head_.Bias(query, key);
    return sum / static_cast<double>(visible.size());
  }

  void AddScaled(double weight, const double* value) {
    double* to = row_.data();
    for (std::int64_t c = 0; c < d_v_; ++c) to[c] += weight * value[c];
  }

  const HeadInputs& head_;
  Scores scores_;
  std::int64_t d_v_;
  std::vector<double> values_;
  MeanRow mean_;
  std::vector<double> weights_;
  std::vector<double> row_;
};

// `count` of the visible keys at random, ascending.
std::vector<std::int32_t> RandomKeys(std::vector<std::int32_t> visible, std::size_t count,
                                     Random& random) {
  for (std::size_t i = 0; i < count; ++i) {
    std::swap(visible[i], visible[i + random.Below(visible.size() - i)]);
  }
  visible.resize(count);
  std::sort(visible.begin(), visible.end());
  return visible;
}

template <typename Out>
HeadStats AttendHead(const AttentionInputs& inputs, const Plan* plan, std::int64_t layer,
                     const View<Out, 4>& all_out, const AttendOptions& options, std::int64_t batch,
                     std::int64_t head) {
  HeadInputs rows(inputs, batch, head);
  HeadAttention attention(rows);
  const View<Out, 2> out = all_out[batch][head];
  const bool exact_head = plan == nullptr || plan->IsExactHead(layer, head);
  std::optional<SimilarityEstimator> estimator;
  if (!exact_head) estimator.emplace(rows, EstimatorOptionsOf(*plan, layer, head));
  // Each head draws its own keys, whatever the thread.
  Random random(
      options.random_keys_seed.value_or(0) ^
      (0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(1 + head + inputs.heads() * batch)));

  HeadStats stats;
  Selection selection;
  for (std::int64_t i = 0; i < out.shape[0]; ++i) {
    for (std::int64_t c = 0; c < out.shape[1]; ++c) out(i, c) = 0;
    if (i >= rows.queries()) continue;
    ++stats.queries;
    const std::vector<std::int32_t>& visible = rows.VisibleKeys(i);
    if (visible.empty()) {
      ++stats.empty_queries;
      continue;
    }
    const auto count = static_cast<std::int64_t>(visible.size());
    const bool exact = exact_head || count < plan->dense_below;
    if (exact) {
      ++stats.exact_queries;
    } else {
      Select(estimator->Estimate(i), plan->rule, plan->thresholds[layer][head], selection,
             AlwaysKeepOf(*plan));
      stats.fallback_queries += selection.fallback ? 1 : 0;
      if (options.random_keys_seed) {
        selection.kept = RandomKeys(visible, selection.kept.size(), random);
      }
    }
    const std::vector<std::int32_t>& kept = exact ? visible : selection.kept;
    const bool all = kept.size() == visible.size();
    stats.pairs += count;
    stats.kept += static_cast<std::int64_t>(kept.size());
    if (options.measure_mass) stats.mass_kept_sum += all ? 1.0 : attention.Mass(i, visible, kept);
    const bool with_mean = !all && plan->remainder == Remainder::kMean;
    const std::vector<double>& row = attention.Row(i, visible, kept, with_mean);
    for (std::int64_t c = 0; c < out.shape[1]; ++c) out(i, c) = static_cast<Out>(row[c]);
  }
  return stats;
}

template <typename Out>
std::vector<HeadStats> AttendAll(const AttentionInputs& inputs, const Plan* plan,
                                 std::int64_t layer, const View<Out, 4>& out,
                                 const AttendOptions& options) {
  ValidateInputs(inputs);
  if (plan != nullptr) ValidatePlanFits(*plan, layer, inputs);
  RequireShape("out", out.shape,
               {inputs.batch(), inputs.heads(), inputs.query.shape[2], inputs.value.shape[3]});
  const std::int64_t heads = inputs.heads();
  std::vector<HeadStats> parts(inputs.batch() * heads);
  ParallelFor(static_cast<std::int64_t>(parts.size()), options.threads, [&](std::int64_t item) {
    parts[item] = AttendHead(inputs, plan, layer, out, options, item / heads, item % heads);
  });
  std::vector<HeadStats> stats(heads);
  for (std::size_t item = 0; item < parts.size(); ++item) stats[item % heads] += parts[item];
  return stats;
}

}  // namespace

HeadStats& HeadStats::operator+=(const HeadStats& other) {
  queries += other.queries;
  empty_queries += other.empty_queries;
  fallback_queries += other.fallback_queries;
  exact_queries += other.exact_queries;
  pairs += other.pairs;
  kept += other.kept;
  mass_kept_sum += other.mass_kept_sum;
  return *this;
}

std::vector<HeadStats> Attend(const AttentionInputs& inputs, const Plan* plan, std::int64_t layer,
                              const View<float, 4>& out, const AttendOptions& options) {
  return AttendAll(inputs, plan, layer, out, options);
}

std::vector<HeadStats> Attend(const AttentionInputs& inputs, const Plan* plan, std::int64_t layer,
                              const View<double, 4>& out, const AttendOptions& options) {
  return AttendAll(inputs, plan, layer, out, options);
}

}  // namespace elsa::reference
