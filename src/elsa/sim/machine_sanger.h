// A design in the style of Sanger (Lu et al., MICRO 2021): all scores are predicted from 4-bit
// queries and keys, a threshold on the predicted softmax gives a mask, exact computation follows on
// kept pairs, packed row by row. Kept keys and packing are those of the head's own integers. Not
// modelled: retraining with the mask (Sanger's accuracy needs it), its systolic skew, memory.
#ifndef ELSA_SIM_MACHINE_SANGER_H_
#define ELSA_SIM_MACHINE_SANGER_H_

#include <cstdint>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

// Defaults are those of the authors' published configurations, where they have one.
struct SangerOptions {
  std::int64_t prediction_bits = 4;    // of query and key components in the prediction
  double weight_threshold = 2e-3;      // a pair is kept if its predicted softmax weight is above
  std::int64_t columns = 64;           // keys that one packing step looks at
  std::int64_t elements_per_row = 16;  // processing elements that a row of the array has
};

// Segments that the mask packs into: each query's kept keys in each group of `columns` keys, cut
// into pieces of at most `elements_per_row`; the last piece of a group may be partly empty.
std::int64_t PackedSegments(const fixed::Candidates& mask, const fixed::Job& job,
                            std::int64_t columns, std::int64_t elements_per_row);

// Products of `bits` by `bits` that one multiplier of qkv_bits makes per cycle if it can be split:
// floor(qkv_bits / bits)^2, at least 1 (Our choice, in Sanger's favour).
std::int64_t ProductsPerMultiplier(std::int64_t qkv_bits, std::int64_t bits);

// The mask: predicted softmax weight above the threshold; the largest prediction, the first on a
// tie, if there is none (Our choice). Rows are divided by their norms before they are quantised,
// and scores multiplied by them after.
fixed::Candidates PredictMask(const fixed::Job& job, const SangerOptions& options);

// One head. If `kept` is not null it receives the mask. Errors: kInvalidArgument for options out of
// range.
MachineResult RunSanger(const Config& config, const fixed::Job& job, const SangerOptions& options,
                        fixed::Candidates* kept = nullptr);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_SANGER_H_
