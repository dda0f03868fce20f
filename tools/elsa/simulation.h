// A whole trace on simulated machines: ELSA or its exact mode head by head, with what its cycles,
// energy and number formats were, and the machines it is compared with on the same heads.
#ifndef ELSA_TOOLS_SIMULATION_H_
#define ELSA_TOOLS_SIMULATION_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "elsa/io/trace_file.h"
#include "elsa/output_error.h"
#include "elsa/params/config.h"
#include "elsa/params/plan.h"
#include "elsa/sim/advice.h"
#include "elsa/sim/attend.h"
#include "elsa/sim/cluster.h"
#include "elsa/sim/machines.h"

namespace elsa {

// One (layer, head), over the batch, or a sum of several.
struct HeadRun {
  sim::Report report;
  reference::HeadStats stats;
  fixed::FormatStats formats;
  std::optional<OutputError> error;  // if values were computed
  HeadRun& operator+=(const HeadRun& other);
};

// The trace on one machine of ours.
struct TraceRun {
  std::vector<std::vector<HeadRun>> heads;  // [layer][head]
  HeadRun total;
  // All accelerators of the configuration, layer after layer.
  std::int64_t makespan_cycles = 0;
  double utilisation = 1;
  std::optional<sim::Advice> advice;  // of some heads, if asked for
  std::int64_t advice_heads = 0;
  // Softmax mass on kept keys over the queries that see a key, if values were computed.
  double mass_sum = 0;
  std::int64_t mass_queries = 0;
  std::vector<sim::MachineResult> others;  // the machines asked for, summed over all heads
};

struct SimulationOptions {
  bool values = false;
  bool advice = false;
  int threads = 0;
  std::vector<std::string> others;  // machines that sim::RunMachine knows
};

// Runs every head of the trace. `plan` null: the exact mode.
TraceRun SimulateTrace(const Config& config, const io::Trace& trace, const Plan* plan,
                       const SimulationOptions& options);

// The exact attention of the trace on this computer, in this process: the engine `reference`, one
// layer after the other, all threads; the median of three runs.
sim::MachineResult MeasureCpu(const io::Trace& trace, const Plan* plan, int threads);

// The timeline of one head.
struct TimelineRequest {
  std::int64_t layer = 0;
  std::int64_t batch = 0;
  std::int64_t head = 0;
  std::array<std::int64_t, 2> window{};
};
// Errors: kInvalidArgument if the trace has no such head.
sim::Timeline RecordTimeline(const Config& config, const io::Trace& trace, const Plan* plan,
                             const TimelineRequest& request);

}  // namespace elsa

#endif  // ELSA_TOOLS_SIMULATION_H_
