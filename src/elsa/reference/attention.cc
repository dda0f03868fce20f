#include "elsa/reference/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "elsa/base/error.h"
#include "elsa/base/parallel_for.h"
#include "elsa/base/portable_math.h"
#include "elsa/base/random.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::reference {
namespace {

// Rows of one (batch, kv head) as packed doubles, converted once for all queries.
std::vector<double> PackRows(const View<const float, 2>& rows) {
  std::vector<double> packed;
  packed.reserve(rows.shape[0] * rows.shape[1]);
  for (std::int64_t j = 0; j < rows.shape[0]; ++j) {
    for (std::int64_t c = 0; c < rows.shape[1]; ++c) packed.push_back(rows(j, c));
  }
  return packed;
}

double Dot(const double* a, const double* b, std::int64_t d) {
  double sums[4] = {0, 0, 0, 0};
  std::int64_t c = 0;
  for (; c + 4 <= d; c += 4) {
    for (int lane = 0; lane < 4; ++lane) sums[lane] += a[c + lane] * b[c + lane];
  }
  for (; c < d; ++c) sums[0] += a[c] * b[c];
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// The mean row of a query: mean key and value over the keys it sees, mean of their bias.
struct MeanRow {
  std::vector<double> key;
  std::vector<double> value;
  double bias = 0;
};

// The rows of one (batch, head), and the arithmetic of one query on them.
class HeadAttention {
 public:
  HeadAttention(const AttentionInputs& inputs, std::int64_t batch, std::int64_t head)
      : inputs_(inputs),
        batch_(batch),
        head_(head),
        visibility_(inputs, batch, head),
        d_(inputs.key.shape[3]),
        d_v_(inputs.value.shape[3]),
        keys_(PackRows(inputs.key[batch][inputs.kv_head(head)])),
        values_(PackRows(inputs.value[batch][inputs.kv_head(head)])),
        query_(d_) {}

  const Visibility& visibility() const { return visibility_; }

  void SetQuery(std::int64_t query) {
    at_ = query;
    for (std::int64_t c = 0; c < d_; ++c) query_[c] = inputs_.query(batch_, head_, query, c);
  }

  double ScoreOf(std::int32_t key) const {
    return inputs_.scale * Dot(query_.data(), &keys_[key * d_], d_) + visibility_.Bias(at_, key);
  }

  // The share of the softmax over `visible` that falls on `kept`; both ascending.
  double Mass(const std::vector<std::int32_t>& visible, const std::vector<std::int32_t>& kept) {
    std::vector<double> weights;
    for (std::int32_t key : visible) weights.push_back(ScoreOf(key));
    Softmax(weights);
    double mass = 0;
    std::size_t next = 0;
    for (std::size_t v = 0; v < visible.size() && next < kept.size(); ++v) {
      if (visible[v] != kept[next]) continue;
      mass += weights[v];
      ++next;
    }
    return mass;
  }

  MeanRow Mean(const std::vector<std::int32_t>& visible) const {
    MeanRow mean{std::vector<double>(d_, 0.0), std::vector<double>(d_v_, 0.0), 0};
    for (std::int32_t key : visible) {
      for (std::int64_t c = 0; c < d_; ++c) mean.key[c] += keys_[key * d_ + c];
      for (std::int64_t c = 0; c < d_v_; ++c) mean.value[c] += values_[key * d_v_ + c];
      mean.bias += visibility_.Bias(at_, key);
    }
    const auto count = static_cast<double>(visible.size());
    for (double& x : mean.key) x /= count;
    for (double& x : mean.value) x /= count;
    mean.bias /= count;
    return mean;
  }

  // Softmax over the kept keys, and over `dropped` copies of the mean row if there is one.
  void Row(const std::vector<std::int32_t>& kept, const MeanRow* mean, std::int64_t dropped,
           std::vector<double>& out) {
    std::vector<double> scores;
    for (std::int32_t key : kept) scores.push_back(ScoreOf(key));
    const bool with_mean = mean != nullptr && dropped > 0;
    if (with_mean) {
      scores.push_back(inputs_.scale * Dot(query_.data(), mean->key.data(), d_) + mean->bias);
    }
    double peak = -std::numeric_limits<double>::infinity();
    for (double score : scores) peak = std::max(peak, score);
    double sum = 0;
    out.assign(d_v_, 0.0);
    for (std::size_t s = 0; s < scores.size(); ++s) {
      const bool is_mean = s == kept.size();
      const double weight =
          PortableExp(scores[s] - peak) * (is_mean ? static_cast<double>(dropped) : 1.0);
      const double* value = is_mean ? mean->value.data() : &values_[kept[s] * d_v_];
      sum += weight;
      for (std::int64_t c = 0; c < d_v_; ++c) out[c] += weight * value[c];
    }
    for (double& x : out) x /= sum;
  }

 private:
  const AttentionInputs& inputs_;
  std::int64_t batch_;
  std::int64_t head_;
  Visibility visibility_;
  std::int64_t d_;
  std::int64_t d_v_;
  std::vector<double> keys_;
  std::vector<double> values_;
  std::vector<double> query_;
  std::int64_t at_ = 0;
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
                     const View<Out, 4>& out, const AttendOptions& options, std::int64_t batch,
                     std::int64_t head) {
  HeadAttention attention(inputs, batch, head);
  const bool exact_head = plan == nullptr || plan->thresholds[layer][head] == kExactHead ||
                          (plan->rule == Rule::kPaper && plan->target == 0);
  std::optional<SimilarityEstimator> estimator;
  if (!exact_head) estimator.emplace(inputs, EstimatorOptionsOf(*plan, layer, head), batch, head);
  // Each query of each head draws its own keys, whatever the thread.
  Random random(
      options.random_keys_seed.value_or(0) ^
      (0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(1 + head + inputs.heads() * batch)));

  HeadStats stats;
  Selection selection;
  std::vector<std::int32_t> visible;
  std::vector<double> row;
  MeanRow mean;
  bool mean_known = false;
  for (std::int64_t i = 0; i < inputs.query.shape[2]; ++i) {
    if (i >= attention.visibility().queries()) {
      for (std::int64_t c = 0; c < out.shape[3]; ++c) out(batch, head, i, c) = 0;
      continue;
    }
    if (i == 0 || !attention.visibility().uniform()) {
      attention.visibility().Keys(i, visible);
      mean_known = false;
    }
    ++stats.queries;
    if (visible.empty()) {
      ++stats.empty_queries;
      for (std::int64_t c = 0; c < out.shape[3]; ++c) out(batch, head, i, c) = 0;
      continue;
    }
    attention.SetQuery(i);
    const auto count = static_cast<std::int64_t>(visible.size());
    const bool exact = exact_head || count < plan->dense_below;
    if (exact) {
      selection.kept = visible;
      ++stats.exact_queries;
    } else {
      Select(estimator->Estimate(i), plan->rule, plan->thresholds[layer][head], selection);
      stats.fallback_queries += selection.fallback ? 1 : 0;
      if (options.random_keys_seed) {
        selection.kept = RandomKeys(visible, selection.kept.size(), random);
      }
    }
    const auto kept = static_cast<std::int64_t>(selection.kept.size());
    stats.pairs += count;
    stats.kept += kept;
    if (options.measure_mass) {
      stats.mass_kept_sum += kept == count ? 1.0 : attention.Mass(visible, selection.kept);
    }
    const bool with_mean = !exact && plan->remainder == Remainder::kMean && kept < count;
    if (with_mean && !mean_known) {
      mean = attention.Mean(visible);
      mean_known = true;
    }
    attention.Row(selection.kept, with_mean ? &mean : nullptr, count - kept, row);
    for (std::int64_t c = 0; c < out.shape[3]; ++c) {
      out(batch, head, i, c) = static_cast<Out>(row[c]);
    }
  }
  return stats;
}

template <typename Out>
std::vector<HeadStats> AttendAll(const AttentionInputs& inputs, const Plan* plan,
                                 std::int64_t layer, const View<Out, 4>& out,
                                 const AttendOptions& options) {
  ValidateInputs(inputs);
  if (plan != nullptr) ValidatePlanFits(*plan, layer, inputs);
  const std::array<std::int64_t, 4> shape{inputs.batch(), inputs.heads(), inputs.query.shape[2],
                                          inputs.value.shape[3]};
  if (out.shape != shape) {
    throw Error(ErrorCode::kInvalidArgument,
                "out: expected the shape [batch, heads, n_q, d_v] of query and value");
  }
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

double Score(const AttentionInputs& inputs, std::int64_t batch, std::int64_t head,
             std::int64_t query, std::int64_t key) {
  double dot = 0;
  for (std::int64_t c = 0; c < inputs.query.shape[3]; ++c) {
    dot += static_cast<double>(inputs.query(batch, head, query, c)) *
           inputs.key(batch, inputs.kv_head(head), key, c);
  }
  return inputs.scale * dot + (inputs.bias ? inputs.bias(batch, head, query, key) : 0.0f);
}

void Softmax(std::vector<double>& scores) {
  double peak = -std::numeric_limits<double>::infinity();
  for (double score : scores) peak = std::max(peak, score);
  double sum = 0;
  for (double& score : scores) {
    score = PortableExp(score - peak);
    sum += score;
  }
  for (double& score : scores) score /= sum;
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
