// Attention of whole tensors on the accelerator: values bit by bit those of elsa/fixed, in the
// order in which the simulated banks took their candidates, and the cycles of every head. Source:
// Sec. IV. The paper integrates its simulator with the models in the same way (Sec. V-C).
#ifndef ELSA_SIM_ATTEND_H_
#define ELSA_SIM_ATTEND_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "elsa/fixed/attend.h"
#include "elsa/sim/accelerator.h"

namespace elsa::sim {

// What the simulator is asked to do for a job.
Work WorkOf(const fixed::HeadJob& head);

struct AttendOptions {
  int threads = 0;     // 0: one per hardware thread. Never changes the result
  bool values = true;  // false: cycles only; `out` is not touched and may be null
  // Called once per (batch, head), from several threads, with what was simulated.
  std::function<void(const fixed::HeadJob&, const Report&)> observe = {};
};

struct AttendResult {
  fixed::AttendResult fixed;    // counts of kept keys and of saturated values, per head
  std::vector<Report> reports;  // [batch, heads]
};

// Shapes and errors: those of fixed::Attend.
AttendResult Attend(const Config& config, const reference::AttentionInputs& inputs,
                    const Plan* plan, std::int64_t layer, const View<float, 4>& out,
                    const AttendOptions& options = {});

}  // namespace elsa::sim

#endif  // ELSA_SIM_ATTEND_H_
