#include "elsa/sim/machine_scores.h"

#include <algorithm>
#include <cmath>

#include "elsa/base/portable_math.h"

namespace elsa::sim {

std::int64_t VisiblePairs(const fixed::Job& job) {
  std::int64_t pairs = 0;
  for (std::int64_t i = 0; i < job.queries; ++i) pairs += job.Visible(i);
  return pairs;
}

void IntegerScores(const fixed::Job& job, std::int64_t query, std::vector<std::int64_t>* scores) {
  const std::int64_t visible = job.Visible(query);
  scores->resize(visible);
  const std::int16_t* q = job.query.data() + query * job.d;
  for (std::int64_t j = 0; j < visible; ++j) {
    const std::int16_t* k = job.key.data() + j * job.d;
    std::int64_t sum = 0;
    for (std::int64_t c = 0; c < job.d; ++c) sum += std::int32_t{q[c]} * std::int32_t{k[c]};
    (*scores)[j] = sum;
  }
}

double ScoreScale(const fixed::Job& job) {
  const double constant = std::ldexp(static_cast<double>(job.score_constant.mantissa),
                                     static_cast<int>(job.score_constant.exponent));
  return constant / internal::kLog2E;
}

void SoftmaxWeights(std::span<const std::int64_t> scores, double scale,
                    std::vector<double>* weights) {
  weights->resize(scores.size());
  if (scores.empty()) return;
  const std::int64_t best = *std::max_element(scores.begin(), scores.end());
  for (std::size_t j = 0; j < scores.size(); ++j) {
    (*weights)[j] = PortableExp(scale * static_cast<double>(scores[j] - best));
  }
}

fixed::Candidates NoCandidates(std::int64_t queries, std::int64_t keys) {
  fixed::Candidates candidates;
  candidates.words = CeilDiv(keys, 64);
  candidates.bits.assign(queries * candidates.words, 0);
  candidates.fallback.assign(queries, -1);
  return candidates;
}

double MassKept(const fixed::Job& job, const fixed::Candidates& candidates, std::int64_t query) {
  std::vector<std::int64_t> scores;
  std::vector<double> weights;
  IntegerScores(job, query, &scores);
  SoftmaxWeights(scores, ScoreScale(job), &weights);
  double all = 0;
  double kept = 0;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    all += weights[j];
    if (Uses(candidates, query, static_cast<std::int64_t>(j))) kept += weights[j];
  }
  return kept / all;
}

void SetTimes(const Config& config, MachineResult* result) {
  result->latency_s = result->cycles / static_cast<double>(config.clock_hz);
  result->batch_s = result->latency_s / static_cast<double>(config.accelerators);
  result->batch_min_s = result->batch_s;
  result->batch_max_s = result->batch_s;
}

}  // namespace elsa::sim
