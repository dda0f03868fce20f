#include "elsa/reference/similarity.h"

#include <algorithm>
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

namespace {

// Of the first `count` rows, each minus `origin` unless that is empty.
Sketches Sketch(const HashSpec& hash, const View<const float, 2>& rows, std::int64_t count,
                const std::vector<float>& origin) {
  const std::int64_t d = rows.shape[1];
  Sketches sketches;
  sketches.vectors.reserve(count * d);
  for (std::int64_t j = 0; j < count; ++j) {
    for (std::int64_t c = 0; c < d; ++c) {
      sketches.vectors.push_back(origin.empty() ? rows(j, c) : rows(j, c) - origin[c]);
    }
  }
  sketches.bits = HashVectors(hash, sketches.vectors, d);
  sketches.norms.reserve(count);
  for (std::int64_t j = 0; j < count; ++j) {
    sketches.norms.push_back(Norm(std::span(sketches.vectors).subspan(j * d, d)));
  }
  return sketches;
}

}  // namespace

EstimatorOptions EstimatorOptionsOf(const Plan& plan, std::int64_t layer, std::int64_t head) {
  return {&plan.hash, plan.ThetaBias(layer, head), plan.centring, plan.centring_min_keys,
          plan.bias_in_test};
}

SimilarityEstimator::SimilarityEstimator(HeadInputs& head, const EstimatorOptions& options)
    : head_(head),
      options_(options),
      cosines_(CosineTable(options.hash->k, options.theta_bias_rad)),
      queries_(Sketch(*options.hash, head.query(), head.queries(), {})) {}

std::vector<float> SimilarityEstimator::MeanKey() const {
  std::vector<double> sum(d(), 0.0);
  std::int64_t count = 0;
  const std::int64_t queries =
      head_.uniform() ? std::min<std::int64_t>(head_.queries(), 1) : head_.queries();
  for (std::int64_t j = 0; j < head_.keys(); ++j) {
    bool seen = false;
    for (std::int64_t i = 0; i < queries && !seen; ++i) seen = head_.Visible(i, j);
    if (!seen) continue;
    ++count;
    for (std::size_t c = 0; c < sum.size(); ++c) sum[c] += head_.key()(j, c);
  }
  std::vector<float> mean(sum.size(), 0.0f);
  for (std::size_t c = 0; c < sum.size() && count > 0; ++c) {
    mean[c] = static_cast<float>(sum[c] / static_cast<double>(count));
  }
  return mean;
}

const Sketches& SimilarityEstimator::KeysFor(bool centred) {
  Sketches& sketches = keys_[centred ? 1 : 0];
  if (sketches.norms.empty()) {
    sketches = Sketch(*options_.hash, head_.key(), head_.keys(),
                      centred ? MeanKey() : std::vector<float>());
  }
  return sketches;
}

const QueryEstimate& SimilarityEstimator::Estimate(std::int64_t query) {
  QueryEstimate& e = estimate_;
  e.keys = head_.VisibleKeys(query);
  const std::size_t count = e.keys.size();
  e.centred = options_.centring == Centring::kOn ||
              (options_.centring == Centring::kByLength &&
               static_cast<std::int64_t>(count) >= options_.centring_min_keys);
  const Sketches& sketches = KeysFor(e.centred);
  const std::size_t words = (options_.hash->k + 63) / 64;
  const std::uint64_t* query_bits = &queries_.bits[query * words];

  e.query_norm = queries_.norms[query];
  e.query_scale = static_cast<float>(head_.scale()) * e.query_norm;
  e.key_norms.resize(count);
  e.distances.resize(count);
  e.similarities.resize(count);
  e.key_norm_max = 0;
  for (std::size_t v = 0; v < count; ++v) {
    const std::int32_t key = e.keys[v];
    const float norm = sketches.norms[key];
    const int distance = HammingDistance({query_bits, words}, {&sketches.bits[key * words], words});
    e.key_norms[v] = norm;
    e.distances[v] = distance;
    e.similarities[v] = norm * cosines_[distance];
    if (std::isfinite(norm) && norm > e.key_norm_max) e.key_norm_max = norm;
  }
  e.bias.clear();
  if (options_.bias_in_test && head_.has_bias()) {
    for (std::int32_t key : e.keys) e.bias.push_back(head_.Bias(query, key));
  }
  return e;
}

}  // namespace elsa::reference
