// The top-k oracle: what ELSA's attention modules would take if selection were perfect and free. A
// lower bound for any selector on this hardware, not a machine. Source: ours; time per query is
// Sec. IV-D's max(c, d / m_o) with the candidates spread evenly over the banks.
#ifndef ELSA_SIM_MACHINE_TOP_K_H_
#define ELSA_SIM_MACHINE_TOP_K_H_

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

enum class TopKGoal {
  kEqualMass,   // the fewest keys whose softmax mass is at least that of ELSA's keys
  kEqualCount,  // as many keys as ELSA keeps
};

// One head; keys by exact integer score, the first on a tie. `candidates` are ELSA's, null if it
// keeps every visible key. If `kept` is not null it receives the keys kept.
MachineResult RunTopK(const Config& config, const fixed::Job& job,
                      const fixed::Candidates* candidates, TopKGoal goal,
                      fixed::Candidates* kept = nullptr);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_TOP_K_H_
