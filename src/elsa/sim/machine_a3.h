// A3 (Ham et al., HPCA 2020), the accelerator that ELSA's Sec. V-E compares with: a greedy search
// over sorted columns of the key matrix finds candidates, their exact scores drop more of them.
// Keys kept are real (the search runs on the head's integers); time is a pipeline of its stages.
// Not modelled: A3's number formats, its base-2 exponent tables, buffer conflicts.
#ifndef ELSA_SIM_MACHINE_A3_H_
#define ELSA_SIM_MACHINE_A3_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

struct A3Options {
  bool approximate = true;          // false: its exact base, every visible key
  double iterations_per_key = 0.5;  // M over the keys a query sees, rounded up
  double weight_threshold = 0.05;   // T: keys below T times the largest softmax weight are dropped
  // Do not take from the small end while what was taken so far sums to less than 0: otherwise heads
  // of mostly negative scores find no candidate.
  bool skip_small_when_negative = true;
  std::int64_t units = 1;    // complete A3 pipelines that share the queries
  std::int64_t sorters = 0;  // Our choice: 0 is one per ELSA bank (docs/reference/machines.md)
};
// The two settings of the A3 paper: M = n/2 and T = 5 %, M = n/8 and T = 10 %.
inline constexpr A3Options kA3Conservative{};
inline constexpr A3Options kA3Aggressive{true, 0.125, 0.10, true, 1, 0};
inline constexpr A3Options kA3Base{false, 0, 0, true, 1, 0};

// The keys in ascending order of each component, equal ones by index. Shape [d, keys].
std::vector<std::int32_t> SortColumns(const fixed::Job& job);

// Greedy scores of the keys that a query sees, after `iterations`. Each takes the largest component
// product not yet taken and, if positive, adds it to its key's score; then likewise the smallest,
// if negative. Ties: the lower component first, then the end of the column that is being walked.
// Keys that the query does not see are passed over at no cost (Our choice, in A3's favour).
// `taken` receives the iterations made: fewer if all products are used up. Shapes: [visible].
std::vector<std::int64_t> GreedyScores(const fixed::Job& job,
                                       const std::vector<std::int32_t>& columns, std::int64_t query,
                                       std::int64_t iterations, bool skip_small_when_negative,
                                       std::int64_t* taken);

// Cycles to sort d columns of `keys` values by merging, a value per cycle and sorter.
std::int64_t SortCycles(std::int64_t keys, std::int64_t d, std::int64_t sorters);

// One head. A query without a candidate keeps the key of the largest greedy score, the first on a
// tie (Our choice). If `kept` is not null it receives the keys kept.
// Errors: kInvalidArgument for options out of range.
MachineResult RunA3(const Config& config, const fixed::Job& job, const A3Options& options,
                    fixed::Candidates* kept = nullptr);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_A3_H_
