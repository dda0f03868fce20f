// Area, power and energy by module. Source: Sec. V-D, Table I (elsa/cost).
#include <nanobind/stl/string.h>

#include <string>

#include "bindings.h"
#include "elsa/cost/area.h"
#include "elsa/cost/energy.h"
#include "elsa/cost/power.h"
#include "elsa/params/built_in.h"

namespace elsa::python {
namespace {

cost::Technology TechnologyOf(const std::string& name) {
  return cost::ParseTechnology(BuiltInData(name), name);
}

nb::dict Row(cost::Module module, double value, const std::string& provenance) {
  nb::dict row;
  row["module"] = std::string(cost::Name(module));
  row["value"] = value;
  row["provenance"] = provenance;
  row["external"] = cost::IsExternal(module);
  return row;
}

nb::list AreaRows(const Config& config, const std::string& technology) {
  nb::list rows;
  for (const cost::ModuleArea& area : cost::Area(config, TechnologyOf(technology)).modules) {
    rows.append(Row(area.module, area.mm2, area.provenance));
  }
  return rows;
}

nb::list PowerRows(const Config& config, const std::string& technology) {
  nb::list rows;
  for (const cost::ModuleFigures& power :
       cost::PeakPower(config, TechnologyOf(technology)).modules) {
    rows.append(
        Row(power.module, power.figures.dynamic_mw + power.figures.static_mw, power.provenance));
  }
  return rows;
}

}  // namespace

nb::dict EnergyDict(const Config& config, const std::string& technology,
                    const sim::Report& report) {
  const cost::EnergyReport energy = cost::Energy(config, TechnologyOf(technology), report);
  nb::list rows;
  for (const cost::ModuleEnergy& module : energy.modules) {
    nb::dict row = Row(module.module, module.Total(), module.provenance);
    row["group"] = std::string(cost::Name(cost::GroupOf(module.module)));
    row["events"] = module.events;
    row["dynamic"] = module.dynamic_pj;
    row["static"] = module.static_pj;
    rows.append(row);
  }
  nb::dict dict;
  dict["time_s"] = energy.time_s;
  dict["modules"] = rows;
  return dict;
}

void BindCost(nb::module_& module) {
  module.def("area_mm2", &AreaRows, nb::arg("config"), nb::arg("technology"));
  module.def("peak_power_mw", &PowerRows, nb::arg("config"), nb::arg("technology"));
}

}  // namespace elsa::python
