// Area of a machine by module: a technology table, scaled to the machine (elsa/cost/scale.h).
// Source: Sec. V-D, Table I. Not a layout: modules add up, as they do in Table I.
#ifndef ELSA_COST_AREA_H_
#define ELSA_COST_AREA_H_

#include <string>
#include <vector>

#include "elsa/cost/technology.h"

namespace elsa::cost {

struct ModuleArea {
  Module module = Module::kHashUnit;
  std::int64_t instances = 0;
  double mm2 = 0;  // all instances
  std::string provenance;
};

struct AreaReport {
  std::vector<ModuleArea> modules;  // those the machine has, in the order of Module
  double accelerator_mm2 = 0;       // one, without the external memories
  double external_mm2 = 0;          // its external memories
  std::int64_t accelerators = 0;
  double Total() const { return accelerator_mm2 + external_mm2; }
  double AllMachines() const { return Total() * static_cast<double>(accelerators); }
};

// The area of every module. Works from partial tables, module by module, with AreaOf.
// Errors: kInvalidArgument as ValidateConfig; kUnsupported if the table lacks a module, naming it.
AreaReport Area(const Config& config, const Technology& technology);
ModuleArea AreaOf(Module module, const Config& config, const Technology& technology);

}  // namespace elsa::cost

#endif  // ELSA_COST_AREA_H_
