// Helpers of the simulator's tests: candidates made by hand or at random.
#ifndef ELSA_SIM_TESTING_H_
#define ELSA_SIM_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <functional>

#include "elsa/base/random.h"
#include "elsa/fixed/job.h"
#include "elsa/sim/accelerator.h"

namespace elsa::sim {

// The candidates for which `kept` is true; key 0 stands in for those that keep none.
inline fixed::Candidates CandidatesWhere(
    const Work& work, const std::function<bool(std::int64_t query, std::int64_t key)>& kept) {
  fixed::Candidates c;
  c.words = (work.keys + 63) / 64;
  c.bits.assign(work.queries * c.words, 0);
  c.fallback.assign(work.queries, -1);
  for (std::int64_t i = 0; i < work.queries; ++i) {
    const std::int64_t visible = work.causal ? std::min(i + 1, work.keys) : work.keys;
    bool any = false;
    for (std::int64_t j = 0; j < visible; ++j) {
      if (!kept(i, j)) continue;
      c.bits[i * c.words + j / 64] |= std::uint64_t{1} << (j % 64);
      any = true;
    }
    if (!any) c.fallback[i] = 0;
  }
  return c;
}

inline fixed::Candidates RandomCandidates(const Work& work, double share, Random& random) {
  return CandidatesWhere(work, [&](auto, auto) { return random.Uniform() < share; });
}

}  // namespace elsa::sim

#endif  // ELSA_SIM_TESTING_H_
