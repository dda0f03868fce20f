// The phases of a head: command, copy in, preprocessing, execution, copy out, completion. Those
// that nothing can hold up have closed forms, stated here; execution is stepped cycle by cycle
// (accelerator.cc). Source: Sec. IV-B "Operation Overview", Sec. IV-D "Pipeline Configuration".
#ifndef ELSA_SIM_CONTROLLER_H_
#define ELSA_SIM_CONTROLLER_H_

#include <cstdint>

#include "elsa/sim/accelerator.h"
#include "elsa/sim/recorder.h"

namespace elsa::sim {

// Cycles of the phases around execution.
struct PhaseCycles {
  std::int64_t command = 0;  // and as many for the completion
  std::int64_t copy_in = 0;
  std::int64_t preprocess = 0;
  std::int64_t copy_out = 0;
  std::int64_t copied_bytes = 0;
  // When execution begins.
  std::int64_t Before() const { return command + copy_in + preprocess; }
};

// Preprocessing hashes every key and then the first query, a row per W/m_h cycles, and computes the
// keys' norms beside; it ends when hash, threshold and mean row can be used:
//   max(n W/m_h + latency of a hash, (n - 1) W/m_h + latency of a norm and of the threshold, ...)
// The paper's (n + 1) W/m_h is this without the fill of the pipeline. Exact mode: none.
PhaseCycles PhasesOf(const Config& config, const Work& work);

// Records hashes and norms of the keys, which begin at `begin`.
void RecordPreprocessing(const Config& config, const Work& work, std::int64_t begin,
                         Recorder& recorder);

}  // namespace elsa::sim

#endif  // ELSA_SIM_CONTROLLER_H_
