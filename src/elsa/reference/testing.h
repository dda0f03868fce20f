// Tensors, problems and brute-force oracles for the tests of this layer. The oracles share no code
// with it: naive loops over the definitions, in double where the definition allows.
#ifndef ELSA_REFERENCE_TESTING_H_
#define ELSA_REFERENCE_TESTING_H_

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/base/view.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/hash.h"

namespace elsa::reference {

// A packed tensor that owns its values; without values it is absent.
template <typename T>
struct Tensor {
  std::array<std::int64_t, 4> shape{};
  std::vector<T> values;

  Tensor() = default;
  explicit Tensor(const std::array<std::int64_t, 4>& s, T fill = T())
      : shape(s), values(s[0] * s[1] * s[2] * s[3], fill) {}
  T& operator()(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t c) {
    return values[((b * shape[1] + h) * shape[2] + i) * shape[3] + c];
  }
  const T& operator()(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t c) const {
    return const_cast<Tensor&>(*this)(b, h, i, c);
  }
  View<const T, 4> view() const {
    return View<const T, 4>(values.empty() ? nullptr : values.data(), shape);
  }
};

inline Tensor<float> RandomTensor(const std::array<std::int64_t, 4>& shape, Random& random,
                                  double spread = 1) {
  Tensor<float> tensor(shape);
  for (float& value : tensor.values) value = static_cast<float>(spread * random.Normal());
  return tensor;
}

// Inputs that own their data.
struct Problem {
  Tensor<float> query;
  Tensor<float> key;
  Tensor<float> value;
  Tensor<std::uint8_t> mask;
  Tensor<float> bias;
  std::vector<std::int64_t> query_lengths;
  std::vector<std::int64_t> key_lengths;
  double scale = 1;
  bool causal = false;

  AttentionInputs inputs() const {
    AttentionInputs in;
    in.query = query.view();
    in.key = key.view();
    in.value = value.view();
    in.mask = mask.view();
    in.bias = bias.view();
    in.scale = scale;
    in.causal = causal;
    in.query_lengths = query_lengths;
    in.key_lengths = key_lengths;
    return in;
  }
  std::array<std::int64_t, 4> pairs() const {
    return {query.shape[0], query.shape[1], query.shape[2], key.shape[2]};
  }
  std::int64_t kv_head(std::int64_t head) const { return head / (query.shape[1] / key.shape[1]); }
};

struct ProblemShape {
  std::int64_t batch = 1;
  std::int64_t heads = 2;
  std::int64_t kv_heads = 2;
  std::int64_t queries = 9;
  std::int64_t keys = 9;
  std::int64_t d = 8;
  std::int64_t d_v = 8;
};

inline Problem RandomProblem(const ProblemShape& s, std::uint64_t seed) {
  Random random(seed);
  Problem p;
  p.query = RandomTensor({s.batch, s.heads, s.queries, s.d}, random, 1.5);
  p.key = RandomTensor({s.batch, s.kv_heads, s.keys, s.d}, random, 1.5);
  p.value = RandomTensor({s.batch, s.kv_heads, s.keys, s.d_v}, random);
  p.scale = 1 / std::sqrt(static_cast<double>(s.d));
  return p;
}

inline void AddRandomMask(Problem& p, double visible, std::uint64_t seed) {
  Random random(seed);
  p.mask = Tensor<std::uint8_t>(p.pairs());
  for (std::uint8_t& value : p.mask.values) value = random.Uniform() < visible ? 1 : 0;
}

inline void AddRandomBias(Problem& p, double spread, std::uint64_t seed) {
  Random random(seed);
  p.bias = RandomTensor(p.pairs(), random, spread);
}

// One layer; every head has this threshold.
inline Plan TestPlan(std::int64_t d, std::int64_t k, std::int64_t heads, double threshold,
                     HashKind kind = HashKind::kKronecker3, std::uint64_t seed = 1) {
  Plan plan;
  plan.target = 1;
  plan.hash = MakeHash(kind, d, k, seed);
  plan.theta_bias_rad = {{0.12}};
  plan.thresholds = {std::vector<double>(heads, threshold)};
  return plan;
}

struct Attended {
  Tensor<double> out;
  std::vector<HeadStats> stats;
};

inline Attended RunAttend(const Problem& p, const Plan* plan, const AttendOptions& options = {}) {
  Attended result{
      Tensor<double>({p.query.shape[0], p.query.shape[1], p.query.shape[2], p.value.shape[3]}, 7.5),
      {}};
  const View<double, 4> out(result.out.values.data(), result.out.shape);
  result.stats = Attend(p.inputs(), plan, 0, out, options);
  return result;
}

inline HeadStats Total(const std::vector<HeadStats>& heads) {
  HeadStats total;
  for (const HeadStats& stats : heads) total += stats;
  return total;
}

// The largest difference of two outputs; infinity if one is NaN where the other is not.
inline double MaxDifference(const Tensor<double>& a, const Tensor<double>& b) {
  double worst = a.values.size() == b.values.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < a.values.size() && i < b.values.size(); ++i) {
    const bool both_nan = std::isnan(a.values[i]) && std::isnan(b.values[i]);
    const double difference = both_nan ? 0 : std::abs(a.values[i] - b.values[i]);
    worst = std::max(worst, std::isnan(difference) ? HUGE_VAL : difference);
  }
  return worst;
}

// ---- oracles ----

// The explicit matrix [bits, d] of one batch of a hash, in double.
inline std::vector<std::vector<double>> ExplicitMatrix(const HashSpec& hash,
                                                       const HashBatch& batch) {
  std::vector<std::vector<double>> matrix(batch.bits, std::vector<double>(hash.d));
  if (hash.kind == HashKind::kHadamard) {
    // Columns of H S3 H S2 H S1 for unit vectors, with H[i][j] = (-1)^(ones in i & j).
    const std::int64_t size = batch.factors[0].cols;
    for (std::int64_t c = 0; c < hash.d; ++c) {
      std::vector<double> x(size, 0.0);
      x[c] = 1;
      for (const Matrix& signs : batch.factors) {
        std::vector<double> y(size, 0.0);
        for (std::int64_t i = 0; i < size; ++i) {
          for (std::int64_t j = 0; j < size; ++j) {
            y[i] += (__builtin_parityll(i & j) ? -1.0 : 1.0) * signs.values[j] * x[j];
          }
        }
        x = y;
      }
      for (std::int64_t r = 0; r < batch.bits; ++r) matrix[r][c] = x[r];
    }
    return matrix;
  }
  for (std::int64_t r = 0; r < batch.bits; ++r) {
    for (std::int64_t c = 0; c < hash.d; ++c) {
      double product = 1;
      std::int64_t row = r;
      std::int64_t col = c;
      for (std::size_t f = batch.factors.size(); f-- > 0;) {
        const Matrix& factor = batch.factors[f];
        product *= factor.values[row % factor.rows * factor.cols + col % factor.cols];
        row /= factor.rows;
        col /= factor.cols;
      }
      matrix[r][c] = product;
    }
  }
  return matrix;
}

// Where a hash of 64 components takes 32: at even sums of the digits of a position in base 4, 8 or
// 64, which is where their last bits have even parity.
inline std::vector<std::int64_t> PositionsOf32In64(HashKind kind) {
  std::vector<std::int64_t> positions;
  for (std::int64_t p = 0; p < 64; ++p) {
    std::int64_t parity = p;
    if (kind == HashKind::kKronecker3) parity ^= p >> 2 ^ p >> 4;
    if (kind == HashKind::kKronecker2) parity ^= p >> 3;
    if (parity % 2 == 0) positions.push_back(p);
  }
  return positions;
}

inline std::vector<std::int64_t> BruteVisible(const Problem& p, std::int64_t b, std::int64_t h,
                                              std::int64_t i) {
  std::vector<std::int64_t> keys;
  if (!p.query_lengths.empty() && i >= p.query_lengths[b]) return keys;
  for (std::int64_t j = 0; j < p.key.shape[2]; ++j) {
    if (!p.key_lengths.empty() && j >= p.key_lengths[b]) continue;
    if (p.causal && j > i) continue;
    if (!p.mask.values.empty() && p.mask(b, h, i, j) == 0) continue;
    if (!p.bias.values.empty() && p.bias(b, h, i, j) <= -1e30f) continue;
    keys.push_back(j);
  }
  return keys;
}

// q . k * scale + bias of one pair.
inline double BruteScore(const Problem& p, std::int64_t b, std::int64_t h, std::int64_t i,
                         std::int64_t j) {
  long double dot = 0;
  for (std::int64_t c = 0; c < p.query.shape[3]; ++c) {
    dot += static_cast<long double>(p.query(b, h, i, c)) * p.key(b, p.kv_head(h), j, c);
  }
  return static_cast<double>(p.scale * dot) + (p.bias.values.empty() ? 0.0 : p.bias(b, h, i, j));
}

inline std::vector<double> BruteSoftmax(const std::vector<double>& scores) {
  double peak = -HUGE_VAL;
  for (double score : scores) peak = std::max(peak, score);
  long double sum = 0;
  for (double score : scores) sum += std::exp(static_cast<long double>(score - peak));
  std::vector<double> weights;
  for (double score : scores) {
    weights.push_back(static_cast<double>(std::exp(static_cast<long double>(score - peak)) / sum));
  }
  return weights;
}

// Attention of one query over explicit rows: kept keys as they are; each other visible key left
// out, or replaced by a copy of the mean row.
inline std::vector<double> BruteRow(const Problem& p, std::int64_t b, std::int64_t h,
                                    std::int64_t i, const std::vector<std::int64_t>& kept,
                                    bool mean_row) {
  const std::vector<std::int64_t> visible = BruteVisible(p, b, h, i);
  const std::int64_t g = p.kv_head(h);
  const std::int64_t d = p.key.shape[3];
  const std::int64_t d_v = p.value.shape[3];
  std::vector<double> k0(d, 0.0);
  std::vector<double> v0(d_v, 0.0);
  double bias0 = 0;
  for (std::int64_t j : visible) {
    const auto n = static_cast<double>(visible.size());
    for (std::int64_t c = 0; c < d; ++c) k0[c] += p.key(b, g, j, c) / n;
    for (std::int64_t c = 0; c < d_v; ++c) v0[c] += p.value(b, g, j, c) / n;
    if (!p.bias.values.empty()) bias0 += p.bias(b, h, i, j) / n;
  }
  std::vector<double> scores;
  std::vector<std::vector<double>> values;
  for (std::int64_t j : visible) {
    const bool is_kept = std::find(kept.begin(), kept.end(), j) != kept.end();
    if (!is_kept && !mean_row) continue;
    double mean_score = bias0;
    for (std::int64_t c = 0; c < d; ++c) mean_score += p.scale * p.query(b, h, i, c) * k0[c];
    scores.push_back(is_kept ? BruteScore(p, b, h, i, j) : mean_score);
    values.push_back(v0);
    for (std::int64_t c = 0; c < d_v && is_kept; ++c) values.back()[c] = p.value(b, g, j, c);
  }
  const std::vector<double> weights = BruteSoftmax(scores);
  std::vector<double> out(d_v, 0.0);
  for (std::size_t s = 0; s < scores.size(); ++s) {
    for (std::int64_t c = 0; c < d_v; ++c) out[c] += weights[s] * values[s][c];
  }
  return out;
}

// Exact attention of a whole problem.
inline Tensor<double> BruteExact(const Problem& p) {
  Tensor<double> out({p.query.shape[0], p.query.shape[1], p.query.shape[2], p.value.shape[3]});
  for (std::int64_t b = 0; b < out.shape[0]; ++b) {
    for (std::int64_t h = 0; h < out.shape[1]; ++h) {
      for (std::int64_t i = 0; i < out.shape[2]; ++i) {
        const auto row = BruteRow(p, b, h, i, BruteVisible(p, b, h, i), false);
        for (std::int64_t c = 0; c < out.shape[3]; ++c) out(b, h, i, c) = row[c];
      }
    }
  }
  return out;
}

// The paper's candidates of one query, from the vectors on: hash by the explicit matrix, angle,
// cosine, norm, strict test; the best estimate if the test keeps none. All in double. `margin`
// receives the smallest relative distance of a test from its threshold or of a projection from 0:
// where that is within rounding, binary32 may decide otherwise.
inline std::vector<std::int64_t> BrutePaperCandidates(const Problem& p, const HashSpec& hash,
                                                      double theta_bias, double t, std::int64_t b,
                                                      std::int64_t h, std::int64_t i,
                                                      double* margin) {
  const auto bits = [&](const Tensor<float>& rows, std::int64_t head, std::int64_t j) {
    std::vector<bool> result;
    for (const HashBatch& batch : hash.batches) {
      for (const std::vector<double>& row : ExplicitMatrix(hash, batch)) {
        double dot = 0;
        double size = 1e-300;
        for (std::int64_t c = 0; c < hash.d; ++c) dot += row[c] * rows(b, head, j, c);
        for (std::int64_t c = 0; c < hash.d; ++c) size += std::abs(row[c] * rows(b, head, j, c));
        *margin = std::min(*margin, std::abs(dot) / size);
        result.push_back(dot >= 0);
      }
    }
    return result;
  };
  const std::vector<std::int64_t> visible = BruteVisible(p, b, h, i);
  const std::vector<bool> query_bits = bits(p.query, h, i);
  std::vector<double> similarity;
  double norm_max = 0;
  for (std::int64_t j : visible) {
    const std::vector<bool> key_bits = bits(p.key, p.kv_head(h), j);
    int distance = 0;
    for (std::int64_t r = 0; r < hash.k; ++r) distance += query_bits[r] != key_bits[r] ? 1 : 0;
    double square = 0;
    for (std::int64_t c = 0; c < hash.d; ++c) square += std::pow(p.key(b, p.kv_head(h), j, c), 2);
    const double angle = std::max(0.0, M_PI * distance / static_cast<double>(hash.k) - theta_bias);
    similarity.push_back(std::sqrt(square) * std::cos(std::min(angle, M_PI)));
    norm_max = std::max(norm_max, std::sqrt(square));
  }
  std::vector<std::int64_t> kept;
  for (std::size_t v = 0; v < visible.size(); ++v) {
    if (similarity[v] > t * norm_max) kept.push_back(visible[v]);
    *margin = std::min(*margin, std::abs(similarity[v] - t * norm_max) / norm_max);
  }
  if (kept.empty() && !visible.empty()) {
    kept.push_back(
        visible[std::max_element(similarity.begin(), similarity.end()) - similarity.begin()]);
  }
  return kept;
}

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_TESTING_H_
