// Peak power of a machine by module: every module at full activity, plus leakage. Source: Sec. V-D,
// Table I. What a run really takes is elsa/cost/energy.h.
#ifndef ELSA_COST_POWER_H_
#define ELSA_COST_POWER_H_

#include <vector>

#include "elsa/cost/scale.h"

namespace elsa::cost {

struct PowerReport {
  std::vector<ModuleFigures> modules;  // those the machine has, in the order of Module
  double accelerator_mw = 0;           // one, dynamic and static, without the external memories
  double external_mw = 0;              // its external memories
  std::int64_t accelerators = 0;
  double Total() const { return accelerator_mw + external_mw; }
  double AllMachines() const { return Total() * static_cast<double>(accelerators); }
};

// The peak power of every module.
// Errors: kInvalidArgument as ValidateConfig; kUnsupported if the table lacks a module, naming it.
PowerReport PeakPower(const Config& config, const Technology& technology);

}  // namespace elsa::cost

#endif  // ELSA_COST_POWER_H_
