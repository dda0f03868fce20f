// A simulated trace as JSON and as CSV: the contract of `elsa simulate`.
#ifndef ELSA_TOOLS_SIMULATION_REPORT_H_
#define ELSA_TOOLS_SIMULATION_REPORT_H_

#include <string>

#include "elsa/cost/technology.h"
#include "elsa/output.h"
#include "elsa/simulation.h"

namespace elsa {

// Cycles with their causes, counts, energy and area by module with provenance, kept keys, saturated
// values, layer by layer and head by head.
Json SimulationJson(const Config& config, const cost::Technology& technology, const TraceRun& run);

// A machine beside ours. `ideal_cycles` of the same heads, 0 if unknown.
Json MachineJson(const sim::MachineResult& result, double ideal_cycles);

// A line per (layer, head), with a header.
std::string SimulationCsv(const Config& config, const cost::Technology& technology,
                          const TraceRun& run);

}  // namespace elsa

#endif  // ELSA_TOOLS_SIMULATION_REPORT_H_
