// Heads made for the tests of machine_*.cc. Test code only.
#ifndef ELSA_SIM_MACHINE_TESTING_H_
#define ELSA_SIM_MACHINE_TESTING_H_

#include <cstdint>

#include "elsa/base/random.h"
#include "elsa/fixed/job.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {

// An all-zero head of n queries and keys with score constant 1 (y = integer score).
inline fixed::Job ZeroJob(std::int64_t queries, std::int64_t keys, std::int64_t d,
                          bool causal = false) {
  fixed::Job job;
  job.queries = queries;
  job.keys = keys;
  job.d = d;
  job.d_v = d;
  job.causal = causal;
  job.query.assign(queries * d, 0);
  job.key.assign(keys * d, 0);
  job.value.assign(keys * d, 0);
  job.score_constant = {1, 0};
  return job;
}

// Components uniform in [-reach, reach]; scores are scaled so that weights are neither all equal
// nor all on one key.
inline fixed::Job RandomJob(std::uint64_t seed, std::int64_t queries, std::int64_t keys,
                            std::int64_t d, bool causal = false, std::int64_t reach = 20) {
  fixed::Job job = ZeroJob(queries, keys, d, causal);
  Random random(seed);
  const auto draw = [&] {
    return static_cast<std::int16_t>(static_cast<std::int64_t>(random.Below(2 * reach + 1)) -
                                     reach);
  };
  for (auto& value : job.query) value = draw();
  for (auto& value : job.key) value = draw();
  for (auto& value : job.value) value = draw();
  job.score_constant = {1, -8};
  return job;
}

// d = 1, so that a query of 1 sees its keys' values as scores.
inline fixed::Job ScoresJob(const std::vector<std::int16_t>& scores) {
  fixed::Job job = ZeroJob(1, static_cast<std::int64_t>(scores.size()), 1);
  job.query = {1};
  job.key = scores;
  return job;
}

// Each pair kept with the given chance; the fallback is key 0 for queries that keep none.
inline fixed::Candidates RandomCandidates(std::uint64_t seed, const fixed::Job& job,
                                          double chance) {
  fixed::Candidates candidates = NoCandidates(job.queries, job.keys);
  Random random(seed);
  for (std::int64_t i = 0; i < job.queries; ++i) {
    candidates.fallback[i] = 0;
    for (std::int64_t j = 0; j < job.Visible(i); ++j) {
      if (random.Uniform() >= chance) continue;
      Keep(&candidates, i, j);
      candidates.fallback[i] = -1;
    }
  }
  return candidates;
}

inline std::int64_t CountUsed(const fixed::Candidates& candidates, const fixed::Job& job,
                              std::int64_t query) {
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < job.keys; ++j) count += Uses(candidates, query, j) ? 1 : 0;
  return count;
}

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_TESTING_H_
