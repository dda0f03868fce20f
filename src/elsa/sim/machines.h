// Every machine that ELSA is compared with, by name, on the same heads. Source: Sec. V-C to V-E;
// A3, Sanger and SpAtten are later or earlier designs that the same harness can run. Models,
// assumptions and limits: docs/reference/machines.md. ELSA itself and its exact mode are
// elsa/sim/accelerator.h.
#ifndef ELSA_SIM_MACHINES_H_
#define ELSA_SIM_MACHINES_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/params/paper_figures.h"
#include "elsa/sim/machine_a3.h"
#include "elsa/sim/machine_result.h"
#include "elsa/sim/machine_sanger.h"
#include "elsa/sim/machine_spatten.h"

namespace elsa::sim {

struct MachineOptions {
  bool mass = false;  // also compute MachineResult::mass_sum
  // Components of the model's queries and keys. The host spreads vectors shorter than ELSA's hash
  // over more columns, of zeros (fixed::Job::d); no other machine multiplies those. 0: as many as
  // the job has columns that are not zeros in query and key alike (all, if it has none).
  std::int64_t d = 0;
  A3Options a3;  // of "a3"; "a3-aggressive" and "a3-base" are its named settings
  SangerOptions sanger;
  SpattenOptions spatten;
  // Carries cascade token pruning from head to head; null: none. Changed by each run of "spatten".
  SpattenTokens* spatten_tokens = nullptr;
  // Rows that a GPU pads inputs to, for instance the trace's n; 0: the head's own, no padding.
  std::int64_t padded_n = 0;
  const PaperFigures* published = nullptr;  // needed by v100-* and tpuv2-*
};

// All names in the order to show them. "elsa" and "base" (Simulate) and "cpu" (a measurement) are
// listed for callers that run them by other means; RunMachine refuses them.
std::vector<std::string_view> MachineNames();

// Runs one head on the named machine. `candidates` are ELSA's for this head, null if it keeps every
// visible key; only top-k and top-k-count look at them. If `kept` is not null it receives the keys
// that the machine keeps per query, all visible ones if it does not select.
// Errors: kInvalidArgument for a name that is unknown (the message lists all) or not run here, or
// an option out of range; kMismatch if the head exceeds the machine or candidates are of another
// head.
MachineResult RunMachine(std::string_view name, const Config& config, const fixed::Job& job,
                         const fixed::Candidates* candidates, const MachineOptions& options = {},
                         fixed::Candidates* kept = nullptr);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINES_H_
