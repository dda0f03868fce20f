// A technology table: area and power per module of one machine that somebody built, with where the
// numbers come from. Source: Table I (Sec. V-D) is data/tech/paper-40nm.toml; other tables have the
// same schema (docs/reference/cost.md). No numbers here, and no scaling to other machines
// (elsa/cost/scale.h) or processes (elsa/cost/node_scaling.h). Files are read by the caller.
#ifndef ELSA_COST_TECHNOLOGY_H_
#define ELSA_COST_TECHNOLOGY_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/params/config.h"

namespace elsa::cost {

// The modules of Table I, then our own.
enum class Module {
  kHashUnit,
  kNormUnit,
  kCandidateSelector,  // P_a P_c of them
  kAttentionUnit,      // P_a of them
  kOutputDivider,
  kKeyHashMemory,
  kKeyNormMemory,
  kKeyValueMemory,     // two: keys, values; outside the accelerator
  kQueryOutputMemory,  // two: queries, outputs; outside the accelerator
  kMeanRow,            // in no table: derived from the attention unit's figures
};
inline constexpr std::size_t kTableModules = 9;
inline constexpr std::size_t kModules = 10;
std::string_view Name(Module module);  // "hash_unit" ...

// Whether the module is a memory outside the accelerator (Table I, "External On-Chip Memory").
bool IsExternal(Module module);

// How many of the module the machine has; 0 for a mean row that is not configured.
std::int64_t Instances(Module module, const Config& config);

struct Figures {
  double area_mm2 = 0;
  double dynamic_mw = 0;  // at full activity and the measured machine's clock
  double static_mw = 0;
};

// A row as printed.
struct TableRow {
  std::int64_t count = 1;  // instances that the figures stand for together
  double area_mm2 = 0;
  std::optional<double> dynamic_mw;  // always there in a complete table
  std::optional<double> static_mw;
  std::string note;
};

// A sum that the source states itself.
struct StatedSum {
  std::int64_t count = 1;  // machines
  Figures figures;
};

struct Technology {
  std::string name;
  std::string source;
  std::string process;
  std::string method;
  bool complete = false;             // has every module, area and power
  std::int64_t scaling_node_nm = 0;  // stands for the process in elsa/cost/node_scaling.h
  Config measured;                   // the machine that the figures are for
  std::array<std::optional<TableRow>, kTableModules> rows;
  // In this order, none in most tables: accelerator, external memories, several of each.
  std::array<std::optional<StatedSum>, 4> stated;
  std::string scaled;  // how the rows differ from the source; "" if they do not

  // Where its figures come from: the source, and how they were scaled.
  std::string Provenance() const;
};

// Reads a technology table.
// Errors: kInvalidFormat, "paper-40nm.toml:38: hash_unit.area_mm2: expected a positive number, got
// -1".
Technology ParseTechnology(std::string_view toml, std::string_view name);

// The figures of all instances of a module in the measured machine.
// Errors: kUnsupported if the table is partial and lacks them, naming the module; for kMeanRow.
Figures MeasuredFigures(const Technology& technology, Module module);
// Area alone, which partial tables may have. Errors: as MeasuredFigures.
double MeasuredArea(const Technology& technology, Module module);

// The source's own sums beside ours over the rows.
struct SumCheck {
  std::string_view what;  // "stated_accelerator" ...
  Figures stated;
  Figures computed;
};
std::vector<SumCheck> CheckStatedSums(const Technology& technology);

}  // namespace elsa::cost

#endif  // ELSA_COST_TECHNOLOGY_H_
