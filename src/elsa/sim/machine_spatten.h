// A design in the style of SpAtten (Wang et al., HPCA 2021): all scores of the tokens still alive
// are computed exactly, a quick-select engine picks each query's largest ones for the weighted sum
// (local value pruning), and tokens that few attend to are dropped for later layers (cascade token
// pruning, driven by the caller). Not modelled: head pruning, progressive quantisation, DRAM, all
// of which its speed-ups rest on; fine-tuning after pruning.
#ifndef ELSA_SIM_MACHINE_SPATTEN_H_
#define ELSA_SIM_MACHINE_SPATTEN_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

// What cascade token pruning carries from layer to layer of one input: all heads of a layer add
// their softmax weights, then the caller prunes. Empty at first: every token lives.
struct SpattenTokens {
  std::vector<double> importance;   // [keys]: weights that each key has received
  std::vector<std::uint8_t> alive;  // [keys]
};

struct SpattenOptions {
  double value_keep = 0.5;        // Our choice: share of its scores that a query keeps, rounded up
  std::int64_t comparators = 16;  // of the quick-select engine: scores per cycle
  std::int64_t pass_cycles = 3;   // fill of the engine, once per pass over what is left
};

// Kills the living tokens of least importance, the last on a tie, until ceil(keep * tokens) of all
// tokens live; never revives one. Errors: kInvalidArgument unless 0 < keep <= 1.
void PruneTokens(double keep, SpattenTokens* tokens);

// Cycles of the engine to find the `count`-th largest score: passes of quick-select over what is
// left, the middle score as pivot (Our choice; SpAtten's is random).
std::int64_t QuickSelectCycles(std::vector<std::int64_t> scores, std::int64_t count,
                               const SpattenOptions& options);

// One head. With `tokens`, dead tokens take part neither as keys nor, in self-attention, as queries
// (they keep nothing), and the head's softmax weights are added to the importance of its keys.
// If `kept` is not null it receives the keys kept.
// Errors: kInvalidArgument for options out of range; kMismatch if tokens are of another length.
MachineResult RunSpatten(const Config& config, const fixed::Job& job, const SpattenOptions& options,
                         SpattenTokens* tokens = nullptr, fixed::Candidates* kept = nullptr);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_SPATTEN_H_
