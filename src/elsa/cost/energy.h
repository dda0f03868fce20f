// Energy of a run: counted events times energy per event, and leakage over its time. Source: Sec.
// V-D (simulated performance with Table I's power); the energy of an event is the module's dynamic
// power over how many such events it has per second when always busy, our choice
// (docs/reference/cost.md lists the events). Energy of the machine and its memories only: not of
// the host, nor of accelerators that stand idle.
#ifndef ELSA_COST_ENERGY_H_
#define ELSA_COST_ENERGY_H_

#include <array>
#include <string>
#include <vector>

#include "elsa/cost/technology.h"
#include "elsa/sim/report.h"

namespace elsa::cost {

// The parts of Fig. 13(b).
enum class Group {
  kHashAndNorm,
  kCandidateSelection,
  kAttention,       // attention units, output division, mean row
  kInternalMemory,  // key hashes, key norms
  kExternalMemory,  // queries, keys, values, outputs
};
inline constexpr std::size_t kGroups = 5;
std::string_view Name(Group group);  // "hash_and_norm" ...
Group GroupOf(Module module);

struct ModuleEnergy {
  Module module = Module::kHashUnit;
  double events = 0;  // in the unit that the provenance names
  double dynamic_pj = 0;
  double static_pj = 0;
  std::string provenance;  // what an event is and costs, and where the power comes from
  double Total() const { return dynamic_pj + static_pj; }
};

struct EnergyReport {
  std::vector<ModuleEnergy> modules;  // those the machine has, in the order of Module
  double time_s = 0;                  // of one accelerator
  double dynamic_pj = 0;
  double static_pj = 0;
  double Total() const { return dynamic_pj + static_pj; }
  // Average power. 0 for a report of no cycles.
  double Milliwatts() const;
  std::array<double, kGroups> by_group_pj{};  // dynamic and static; sums to Total()
};

// The energy of what `report` counted on one accelerator. Heads that ran side by side add up, and
// so do their reports (Report::operator+=). Exact runs count no hashes and tests, so those modules
// take leakage only.
// Errors: kInvalidArgument as ValidateConfig; kUnsupported if the table lacks a module, naming it.
EnergyReport Energy(const Config& config, const Technology& technology, const sim::Report& report);

}  // namespace elsa::cost

#endif  // ELSA_COST_ENERGY_H_
