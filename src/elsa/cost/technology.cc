#include "elsa/cost/technology.h"

#include "elsa/base/error.h"
#include "elsa/params/config_check.h"
#include "elsa/params/toml.h"

namespace elsa::cost {
namespace {

constexpr std::array<std::string_view, kModules> kNames{
    "hash_unit",           "norm_unit",       "candidate_selector", "attention_unit",
    "output_divider",      "key_hash_memory", "key_norm_memory",    "key_value_memory",
    "query_output_memory", "mean_row"};

constexpr std::array<std::string_view, 4> kStated{"stated_accelerator", "stated_external",
                                                  "stated_accelerators", "stated_externals"};

// The measured machine: the keys of a configuration's [machine] except how many accelerators, and
// the name of a set of number formats.
Config ReadMachine(TomlReader* reader) {
  Config config;
  for (const Field& field : Fields()) {
    if (!field.key.starts_with("machine.") || field.key == "machine.accelerators") continue;
    const std::string_view raw = reader->Raw(field.key, RangeText(field));
    const std::string text = IsInteger(field) ? TomlInteger(raw) : std::string(TomlWord(raw));
    if (!TrySetValue(&config, field, text)) {
      reader->document().Fail(reader->document().LineOf(field.key), field.key, RangeText(field),
                              raw.empty() ? "nothing" : raw);
    }
  }
  const std::string formats = reader->Words("machine.formats");
  bool known = false;
  std::string names;
  for (const std::string_view set : kFormatSets) {
    known = known || set == formats;
    names += (names.empty() ? "one of " : ", ") + std::string(set);
  }
  if (!known) {
    reader->document().Fail(reader->document().LineOf("machine.formats"), "machine.formats", names,
                            formats);
  }
  SetFormats(&config, formats);
  if (const auto problem = FindProblem(config)) {
    reader->document().Fail(reader->document().LineOf(problem->key), problem->key,
                            problem->expected, problem->got);
  }
  return config;
}

TableRow ReadRow(TomlReader* reader, std::string_view module, bool complete) {
  const std::string prefix = std::string(module) + ".";
  TableRow row;
  row.count = reader->PositiveInteger(prefix + "count");
  row.area_mm2 = reader->PositiveNumber(prefix + "area_mm2");
  for (const auto& [key, value] : {std::pair{prefix + "dynamic_mw", &row.dynamic_mw},
                                   std::pair{prefix + "static_mw", &row.static_mw}}) {
    if (complete || reader->Has(key)) *value = reader->PositiveNumber(key);
  }
  if (reader->Has(prefix + "note")) row.note = reader->Words(prefix + "note");
  return row;
}

StatedSum ReadStated(TomlReader* reader, std::string_view section) {
  const std::string prefix = std::string(section) + ".";
  StatedSum sum;
  sum.count = reader->PositiveInteger(prefix + "count");
  sum.figures.area_mm2 = reader->PositiveNumber(prefix + "area_mm2");
  sum.figures.dynamic_mw = reader->PositiveNumber(prefix + "dynamic_mw");
  sum.figures.static_mw = reader->PositiveNumber(prefix + "static_mw");
  return sum;
}

const TableRow& RowOf(const Technology& technology, Module module, bool with_power) {
  const auto index = static_cast<std::size_t>(module);
  const bool in_tables = index < kTableModules;
  const bool found = in_tables && technology.rows[index].has_value() &&
                     (!with_power || (technology.rows[index]->dynamic_mw.has_value() &&
                                      technology.rows[index]->static_mw.has_value()));
  if (!found) {
    throw Error(ErrorCode::kUnsupported,
                technology.name + ": " + std::string(Name(module)) + ": expected " +
                    (with_power ? "its area and power" : "its area") + " in the table, got none" +
                    (technology.complete ? "" : " (a partial table cannot cost a machine)"));
  }
  return *technology.rows[index];
}

}  // namespace

std::string_view Name(Module module) { return kNames[static_cast<std::size_t>(module)]; }

bool IsExternal(Module module) {
  return module == Module::kKeyValueMemory || module == Module::kQueryOutputMemory;
}

std::int64_t Instances(Module module, const Config& config) {
  switch (module) {
    case Module::kCandidateSelector:
      return config.banks * config.selectors_per_bank;
    case Module::kAttentionUnit:
      return config.banks;
    case Module::kKeyValueMemory:
    case Module::kQueryOutputMemory:
      return 2;
    case Module::kMeanRow:
      return config.remainder == Remainder::kMean ? 1 : 0;
    default:
      return 1;
  }
}

std::string Technology::Provenance() const {
  return scaled.empty() ? source : source + ", " + scaled;
}

Technology ParseTechnology(std::string_view toml, std::string_view name) {
  TomlReader reader(toml, name);
  Technology technology;
  technology.name = reader.Words("technology.name");
  technology.source = reader.Words("technology.source");
  technology.process = reader.Words("technology.process");
  technology.method = reader.Words("technology.method");
  const std::string coverage = reader.Words("technology.coverage");
  if (coverage != "complete" && coverage != "partial") {
    reader.document().Fail(reader.document().LineOf("technology.coverage"), "technology.coverage",
                           "one of complete, partial", coverage);
  }
  technology.complete = coverage == "complete";
  technology.scaling_node_nm = reader.PositiveInteger("technology.scaling_node");
  technology.measured = ReadMachine(&reader);
  bool any = false;
  for (std::size_t i = 0; i < kTableModules; ++i) {
    if (!reader.HasSection(kNames[i]) && !technology.complete) continue;
    technology.rows[i] = ReadRow(&reader, kNames[i], technology.complete);
    any = true;
  }
  for (std::size_t i = 0; i < kStated.size(); ++i) {
    if (reader.HasSection(kStated[i])) technology.stated[i] = ReadStated(&reader, kStated[i]);
  }
  reader.RefuseUnread();
  if (!any) reader.document().Fail(1, "table", "at least one module", "none");
  return technology;
}

double MeasuredArea(const Technology& technology, Module module) {
  const TableRow& row = RowOf(technology, module, false);
  return row.area_mm2 * static_cast<double>(Instances(module, technology.measured)) /
         static_cast<double>(row.count);
}

Figures MeasuredFigures(const Technology& technology, Module module) {
  const TableRow& row = RowOf(technology, module, true);
  const double factor =
      static_cast<double>(Instances(module, technology.measured)) / static_cast<double>(row.count);
  return {row.area_mm2 * factor, *row.dynamic_mw * factor, *row.static_mw * factor};
}

std::vector<SumCheck> CheckStatedSums(const Technology& technology) {
  std::vector<SumCheck> checks;
  for (std::size_t i = 0; i < kStated.size(); ++i) {
    if (!technology.stated[i]) continue;
    SumCheck check{kStated[i], technology.stated[i]->figures, {}};
    const bool external = i % 2 == 1;
    for (std::size_t m = 0; m < kTableModules; ++m) {
      const auto module = static_cast<Module>(m);
      if (IsExternal(module) != external) continue;
      const Figures figures = MeasuredFigures(technology, module);
      const auto count = static_cast<double>(technology.stated[i]->count);
      check.computed.area_mm2 += figures.area_mm2 * count;
      check.computed.dynamic_mw += figures.dynamic_mw * count;
      check.computed.static_mw += figures.static_mw * count;
    }
    checks.push_back(check);
  }
  return checks;
}

}  // namespace elsa::cost
