// What the models of other machines share: exact scores of a head's integers, softmax weights,
// building Candidates, and times from cycles. Not part of ELSA's data path, which computes in the
// machine's formats (elsa/fixed).
#ifndef ELSA_SIM_MACHINE_SCORES_H_
#define ELSA_SIM_MACHINE_SCORES_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/base/integer_math.h"
#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

// (query, visible key) pairs of the head.
std::int64_t VisiblePairs(const fixed::Job& job);

// Exact integer scores of a query with the keys it sees.
void IntegerScores(const fixed::Job& job, std::int64_t query, std::vector<std::int64_t>* scores);

// Natural score per unit of the integer score: the job's constant without its log2(e).
double ScoreScale(const fixed::Job& job);

// exp(scale * (score - largest score)) of every key: softmax weights before they are normalised.
void SoftmaxWeights(std::span<const std::int64_t> scores, double scale,
                    std::vector<double>* weights);

// Nothing kept yet, no fallback.
fixed::Candidates NoCandidates(std::int64_t queries, std::int64_t keys);
inline void Keep(fixed::Candidates* candidates, std::int64_t query, std::int64_t key) {
  candidates->bits[query * candidates->words + key / 64] |= std::uint64_t{1} << (key % 64);
}
// Whether the query uses the key: kept by the test, or as the fallback.
inline bool Uses(const fixed::Candidates& candidates, std::int64_t query, std::int64_t key) {
  return candidates.Kept(query, key) || candidates.fallback[query] == key;
}

// Share of the query's softmax mass, by exact integer scores, that lies on keys it uses.
double MassKept(const fixed::Job& job, const fixed::Candidates& candidates, std::int64_t query);

// Fills in latency_s and batch_s from cycles, for as many accelerators as `config` has.
void SetTimes(const Config& config, MachineResult* result);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_SCORES_H_
