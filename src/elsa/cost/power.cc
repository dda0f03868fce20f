#include "elsa/cost/power.h"

namespace elsa::cost {

PowerReport PeakPower(const Config& config, const Technology& technology) {
  ValidateConfig(config);
  PowerReport report;
  report.accelerators = config.accelerators;
  for (std::size_t i = 0; i < kModules; ++i) {
    const auto module = static_cast<Module>(i);
    if (Instances(module, config) == 0) continue;
    report.modules.push_back(FiguresOf(module, config, technology));
    const Figures& figures = report.modules.back().figures;
    (IsExternal(module) ? report.external_mw : report.accelerator_mw) +=
        figures.dynamic_mw + figures.static_mw;
  }
  return report;
}

}  // namespace elsa::cost
