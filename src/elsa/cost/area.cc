#include "elsa/cost/area.h"

#include "elsa/cost/scale.h"

namespace elsa::cost {

ModuleArea AreaOf(Module module, const Config& config, const Technology& technology) {
  const double measured = MeasuredArea(technology, MeasuredModule(module));
  const Scale scale = ScaleOf(module, config, technology);
  return {module, Instances(module, config), measured * scale.size, scale.provenance};
}

AreaReport Area(const Config& config, const Technology& technology) {
  ValidateConfig(config);
  AreaReport report;
  report.accelerators = config.accelerators;
  for (std::size_t i = 0; i < kModules; ++i) {
    const auto module = static_cast<Module>(i);
    if (Instances(module, config) == 0) continue;
    report.modules.push_back(AreaOf(module, config, technology));
    (IsExternal(module) ? report.external_mm2 : report.accelerator_mm2) +=
        report.modules.back().mm2;
  }
  return report;
}

}  // namespace elsa::cost
