// Whole accelerators side by side, each working on another head or input.
// Source: Sec. IV-D, last paragraph ("batch-level parallelism"); Sec. V-C uses twelve.
#ifndef ELSA_SIM_CLUSTER_H_
#define ELSA_SIM_CLUSTER_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/params/config.h"

namespace elsa::sim {

struct Schedule {
  std::int64_t cycles = 0;  // until the last accelerator is done
  struct Run {
    std::int64_t accelerator = 0;
    std::int64_t begin_cycle = 0;
    std::int64_t end_cycle = 0;
  };
  std::vector<Run> runs;                  // of each job
  std::vector<std::int64_t> busy_cycles;  // of each accelerator

  // Work over what all accelerators could have done in that time; 1 if there is none.
  double Utilisation() const;
};

// Gives jobs of these lengths to config.accelerators, in order. The host hands a job over as soon
// as a command queue has room for it: to the accelerator with the fewest commands, the one at work
// included, the first of them on a tie (Our choice; the host does not know how long jobs take). An
// accelerator holds the command it works on and machine.command_queue_depth that wait.
Schedule ScheduleJobs(const Config& config, std::span<const std::int64_t> job_cycles);

}  // namespace elsa::sim

#endif  // ELSA_SIM_CLUSTER_H_
