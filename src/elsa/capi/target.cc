// Versions, targets and the processor of the C interface.
#include "elsa/cpu/target.h"

#include <string>
#include <vector>

#include "elsa/capi/guard.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {
namespace {

// Made once, so that the names stay where they are.
const std::vector<cpu::TargetInfo>& Targets() {
  static const std::vector<cpu::TargetInfo> targets = cpu::Targets();
  return targets;
}

const cpu::TargetInfo* TargetAt(std::int32_t index) {
  const auto& targets = Targets();
  return index >= 0 && index < static_cast<std::int32_t>(targets.size()) ? &targets[index]
                                                                         : nullptr;
}

}  // namespace
}  // namespace elsa::capi

extern "C" {

const char* elsa_version(void) { return ELSA_VERSION; }

int32_t elsa_abi_version(void) { return ELSA_ABI_VERSION; }

int32_t elsa_target_count(void) {
  return elsa::capi::GuardValue<int32_t>(
      -1, [] { return static_cast<int32_t>(elsa::capi::Targets().size()); });
}

const char* elsa_target_name(int32_t index) {
  return elsa::capi::GuardValue<const char*>(nullptr, [&]() -> const char* {
    const auto* info = elsa::capi::TargetAt(index);
    return info != nullptr ? info->name.data() : nullptr;
  });
}

int32_t elsa_target_runs(int32_t index) {
  return elsa::capi::GuardValue<int32_t>(-1, [&] {
    const auto* info = elsa::capi::TargetAt(index);
    return info == nullptr ? -1 : info->runs ? 1 : 0;
  });
}

const char* elsa_target_compiled_for(int32_t index) {
  return elsa::capi::GuardValue<const char*>(nullptr, [&]() -> const char* {
    const auto* info = elsa::capi::TargetAt(index);
    if (info == nullptr) return nullptr;
    return info->compiled_for.empty() ? "" : info->compiled_for.data();
  });
}

const char* elsa_selected_target(void) {
  return elsa::capi::GuardValue<const char*>(
      nullptr, [] { return elsa::cpu::Name(elsa::cpu::SelectedTarget()).data(); });
}

const char* elsa_processor_name(void) {
  return elsa::capi::GuardValue<const char*>("unknown", [] {
    static const std::string name = elsa::cpu::ProcessorName();
    return name.c_str();
  });
}

}  // extern "C"
