#include "elsa/reference/similarity.h"

#include <array>
#include <cmath>

#include "elsa/reference/angle.h"

namespace elsa::reference {

float Norm(std::span<const float> x) {
  std::array<float, 16> sums{};
  for (std::size_t i = 0; i < x.size(); ++i) {
    const float square = x[i] * x[i];
    sums[i % 16] += square;
  }
  for (std::size_t half = 8; half > 0; half /= 2) {
    for (std::size_t i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return std::sqrt(sums[0]);
}

EstimatorOptions EstimatorOptionsOf(const Plan& plan, std::int64_t layer, std::int64_t head) {
  return {&plan.hash, plan.ThetaBias(layer, head), plan.centring, plan.centring_min_keys,
          plan.bias_in_test};
}

SimilarityEstimator::SimilarityEstimator(const AttentionInputs& inputs,
                                         const EstimatorOptions& options, std::int64_t batch,
                                         std::int64_t head)
    : inputs_(inputs),
      options_(options),
      batch_(batch),
      head_(head),
      visibility_(inputs, batch, head),
      cosines_(CosineTable(options.hash->k, options.theta_bias_rad)) {
  if (options_.centring != Centring::kOff) mean_key_ = MeanKey();
}

std::vector<float> SimilarityEstimator::MeanKey() const {
  const View<const float, 2> keys = inputs_.key[batch_][inputs_.kv_head(head_)];
  std::vector<double> sum(keys.shape[1], 0.0);
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < visibility_.keys(); ++j) {
    bool seen = false;
    const std::int64_t last = visibility_.uniform() ? 1 : visibility_.queries();
    for (std::int64_t i = 0; i < last && !seen; ++i) seen = visibility_.Visible(i, j);
    if (!seen) continue;
    ++count;
    for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += keys(j, c);
  }
  std::vector<float> mean(sum.size(), 0.0f);
  for (std::size_t c = 0; c < sum.size() && count > 0; ++c) {
    mean[c] = static_cast<float>(sum[c] / static_cast<double>(count));
  }
  return mean;
}

std::vector<float> SimilarityEstimator::KeyVector(std::int64_t key, bool centred) const {
  const View<const float, 1> row = inputs_.key[batch_][inputs_.kv_head(head_)][key];
  std::vector<float> x(row.shape[0]);
  for (std::size_t c = 0; c < x.size(); ++c) x[c] = centred ? row(c) - mean_key_[c] : row(c);
  return x;
}

const SimilarityEstimator::Sketches& SimilarityEstimator::SketchesFor(bool centred) {
  Sketches& sketches = sketches_[centred ? 1 : 0];
  if (!sketches.norms.empty()) return sketches;
  for (std::int64_t j = 0; j < visibility_.keys(); ++j) {
    const std::vector<float> x = KeyVector(j, centred);
    const HashBits bits = HashVector(*options_.hash, x);
    sketches.bits.insert(sketches.bits.end(), bits.begin(), bits.end());
    sketches.norms.push_back(Norm(x));
  }
  return sketches;
}

const std::vector<std::int32_t>& SimilarityEstimator::VisibleKeys(std::int64_t query) {
  if (keys_of_ < 0 || (keys_of_ != query && !visibility_.uniform())) {
    visibility_.Keys(query, estimate_.keys);
  }
  keys_of_ = query;
  return estimate_.keys;
}

const QueryEstimate& SimilarityEstimator::Estimate(std::int64_t query) {
  QueryEstimate& e = estimate_;
  VisibleKeys(query);
  const std::size_t count = e.keys.size();
  e.centred = options_.centring == Centring::kOn ||
              (options_.centring == Centring::kByLength &&
               static_cast<std::int64_t>(count) >= options_.centring_min_keys);
  const Sketches& sketches = SketchesFor(e.centred);

  const View<const float, 1> row = inputs_.query[batch_][head_][query];
  std::vector<float> x(row.shape[0]);
  for (std::size_t c = 0; c < x.size(); ++c) x[c] = row(c);
  const HashBits bits = HashVector(*options_.hash, x);
  e.query_norm = Norm(x);
  e.query_scale = static_cast<float>(inputs_.scale) * e.query_norm;

  e.key_norms.resize(count);
  e.distances.resize(count);
  e.similarities.resize(count);
  e.key_norm_max = 0;
  for (std::size_t v = 0; v < count; ++v) {
    const std::int32_t key = e.keys[v];
    const float norm = sketches.norms[key];
    const std::span<const std::uint64_t> key_bits(&sketches.bits[key * bits.size()], bits.size());
    e.key_norms[v] = norm;
    e.distances[v] = HammingDistance(bits, key_bits);
    e.similarities[v] = norm * cosines_[e.distances[v]];
    if (std::isfinite(norm) && norm > e.key_norm_max) e.key_norm_max = norm;
  }
  e.bias.clear();
  if (options_.bias_in_test && inputs_.bias) {
    for (std::int32_t key : e.keys) e.bias.push_back(visibility_.Bias(query, key));
  }
  return e;
}

}  // namespace elsa::reference
