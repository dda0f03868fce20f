// What bounds a workload on a machine, and which parameter would help most: read off the causes of
// its cycles, and found by simulating the same heads again with each parameter larger. Source: Sec.
// IV-D on balancing the pipeline. Time only; what a change costs is elsa/cost's business.
#ifndef ELSA_SIM_ADVICE_H_
#define ELSA_SIM_ADVICE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/sim/accelerator.h"

namespace elsa::sim {

// The heads again, with one parameter changed.
struct Trial {
  std::string_view parameter;  // the field's key, "machine.selectors_per_bank"
  std::int64_t from = 0;
  std::int64_t to = 0;
  std::int64_t cycles = 0;
  double speedup = 1;  // of all cycles
};

struct Advice {
  std::int64_t cycles = 0;      // of the heads as they are
  double preprocess_share = 0;  // of all cycles
  double busy_share = 0;        // of the execution cycles: every bank issues a candidate
  Cause bound = Cause::kBusy;   // the largest share of the execution cycles
  double bound_share = 0;
  std::vector<Trial> trials;  // best first
  std::string sentence;
};

// `work` is not empty. Each parameter is doubled, or raised to the next value that the machine can
// have; parameters that cannot grow are left out.
Advice Advise(const Config& config, std::span<const Work> work);

}  // namespace elsa::sim

#endif  // ELSA_SIM_ADVICE_H_
