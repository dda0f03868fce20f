#include "elsa/cost/energy.h"

#include "elsa/cost/scale.h"
#include "elsa/params/derived.h"

namespace elsa::cost {
namespace {

constexpr double kPicojoulesPerMilliwattSecond = 1e9;

// What a module did, counted in cycles of all its instances at full activity: a module always busy
// has as many as the run has cycles.
struct Activity {
  double events = 0;
  double events_per_cycle = 1;  // at full activity
  std::string_view event;
};

// Rows that a copy moves between host and machine, one access of a matrix memory each. Half of the
// rows are keys and values, as for as many queries as keys.
double CopiedRows(const Config& config, const sim::Counters& counters) {
  const double row_bits = static_cast<double>(config.d * Derive(config).qkv_bits);
  return static_cast<double>(counters.copied_bytes) * 8 / row_bits;
}

Activity ActivityOf(Module module, const Config& config, const sim::Counters& c) {
  const auto banks = static_cast<double>(config.banks);
  const double selectors = banks * static_cast<double>(config.selectors_per_bank);
  const auto count = [](std::int64_t value) { return static_cast<double>(value); };
  switch (module) {
    case Module::kHashUnit:
      return {count(c.hashes), 1.0 / count(Derive(config).hash_cycles), "hash"};
    case Module::kNormUnit:
      return {count(c.norms), 1, "norm"};
    case Module::kCandidateSelector:
      return {count(c.key_tests), selectors, "key test"};
    case Module::kAttentionUnit:
      // A norm borrows the d score multipliers and their tree: half a unit for a cycle.
      return {count(c.candidates + c.mean_rows) + count(c.norms) / 2, banks,
              "candidate, mean row or two norms"};
    case Module::kOutputDivider:
      return {count(c.divided_rows), 1.0 / count(Derive(config).division_cycles), "output row"};
    case Module::kKeyHashMemory:
    case Module::kKeyNormMemory: {
      const double per_row = count(config.selectors_per_bank);
      return {count(c.scan_rows) + count(c.key_hash_writes) / per_row, banks,
              "read of P_c entries, or P_c writes of one"};
    }
    case Module::kKeyValueMemory:
      return {count(c.key_row_reads + c.value_row_reads) + CopiedRows(config, c) / 2, 2 * banks,
              "row of a bank"};
    case Module::kQueryOutputMemory:
      return {count(c.query_row_reads + c.output_row_writes) + CopiedRows(config, c) / 2, 2, "row"};
    case Module::kMeanRow:
      return {count(c.norms), 1, "key added to the column sums"};
  }
  return {};
}

}  // namespace

std::string_view Name(Group group) {
  constexpr std::array<std::string_view, kGroups> kNames{
      "hash_and_norm", "candidate_selection", "attention", "internal_memory", "external_memory"};
  return kNames[static_cast<std::size_t>(group)];
}

Group GroupOf(Module module) {
  switch (module) {
    case Module::kHashUnit:
    case Module::kNormUnit:
      return Group::kHashAndNorm;
    case Module::kCandidateSelector:
      return Group::kCandidateSelection;
    case Module::kKeyHashMemory:
    case Module::kKeyNormMemory:
      return Group::kInternalMemory;
    case Module::kKeyValueMemory:
    case Module::kQueryOutputMemory:
      return Group::kExternalMemory;
    default:
      return Group::kAttention;
  }
}

double EnergyReport::Milliwatts() const {
  return time_s > 0 ? Total() / (time_s * kPicojoulesPerMilliwattSecond) : 0;
}

EnergyReport Energy(const Config& config, const Technology& technology, const sim::Report& report) {
  ValidateConfig(config);
  const auto clock_hz = static_cast<double>(config.clock_hz);
  EnergyReport energy;
  energy.time_s = static_cast<double>(report.cycles) / clock_hz;
  for (std::size_t i = 0; i < kModules; ++i) {
    const auto module = static_cast<Module>(i);
    if (Instances(module, config) == 0) continue;
    const ModuleFigures figures = FiguresOf(module, config, technology);
    const Activity activity = ActivityOf(module, config, report.counters);
    const double event_pj = figures.figures.dynamic_mw * kPicojoulesPerMilliwattSecond /
                            (clock_hz * activity.events_per_cycle);
    ModuleEnergy row;
    row.module = module;
    row.events = activity.events;
    row.dynamic_pj = activity.events * event_pj;
    row.static_pj = figures.figures.static_mw * energy.time_s * kPicojoulesPerMilliwattSecond;
    row.provenance =
        FourDigits(event_pj) + " pJ per " + std::string(activity.event) + "; " + figures.provenance;
    energy.dynamic_pj += row.dynamic_pj;
    energy.static_pj += row.static_pj;
    energy.by_group_pj[static_cast<std::size_t>(GroupOf(module))] += row.Total();
    energy.modules.push_back(std::move(row));
  }
  return energy;
}

}  // namespace elsa::cost
