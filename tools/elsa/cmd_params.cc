// elsa params: the numbers of a machine, what follows from them, and where they come from; and,
// with
// --cpu, what the kernels of the engine cpu find on this processor.
#include <CLI/CLI.hpp>
#include <iomanip>
#include <iostream>
#include <memory>

#include "elsa/base/error.h"
#include "elsa/commands.h"
#include "elsa/config_options.h"
#include "elsa/cpu/target.h"
#include "elsa/output.h"
#include "elsa/params/derived.h"
#include "elsa/params/latency.h"
#include "elsa/params/markdown.h"

namespace elsa {
namespace {

struct Options {
  explicit Options(CLI::App* command) : config(command) {}
  ConfigOptions config;
  bool json = false;
  bool markdown = false;
  bool cpu = false;
};

constexpr char kExample[] = R"(Example: the paper's machine with twice the selectors
  $ elsa params --config configs/paper.toml --selectors-per-bank 16
  ...
  scan_cycles                           8  cycles           IV-D   ceil(n / (P_a P_c))
  ...
  query_min_cycles                      8  cycles           IV-D   max(W / m_h, ...

One number for a script:
  $ elsa params --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["derived"]["preprocess_cycles"])'
  1539
Which kernels `--engine cpu` uses here, and another choice
  $ elsa params --cpu
  $ ELSA_TARGET=portable elsa params --cpu)";

std::string_view SectionOf(std::string_view key) { return key.substr(0, key.find('.')); }
std::string_view NameOf(std::string_view key) { return key.substr(key.find('.') + 1); }

void PrintRow(std::string_view name, const std::string& value, std::string_view unit,
              std::string_view section, std::string_view what) {
  std::cout << "  " << std::left << std::setw(25) << name << std::right << std::setw(14) << value
            << "  " << std::left << std::setw(15) << unit << "  " << std::setw(5) << section << "  "
            << what << "\n";
}

void PrintText(const Config& config, const std::string& source) {
  const Derived derived = Derive(config);
  std::cout << "Configuration: " << source << "   digest: " << Digest(config)
            << "   columns: name, value, unit, section of the paper, meaning or formula\n";
  std::string_view section;
  for (const Field& field : Fields()) {
    if (SectionOf(field.key) != section) {
      section = SectionOf(field.key);
      std::cout << "\n" << section << "\n";
    }
    const std::string symbol = field.symbol.empty() ? "" : std::string(field.symbol) + ": ";
    PrintRow(NameOf(field.key), ValueText(config, field), field.unit, field.section,
             symbol + std::string(field.doc));
  }
  std::cout << "\nderived, for inputs of the full size n (W = hash_multiplications)\n";
  for (const DerivedField& field : DerivedFields()) {
    PrintRow(field.name, ValueText(derived, field), field.unit, field.section, field.formula);
  }
  const Latencies latencies = LatenciesOf(config);
  std::cout << "\nlatencies (all our choice)\n";
  for (const LatencyField& field : LatencyFields()) {
    PrintRow(field.name, std::to_string(latencies.*field.member), "cycles", "-", field.doc);
  }
}

Json ToJson(const Config& config, const std::string& source) {
  Json config_json;
  Json derived_json;
  Json about;
  for (const Field& field : Fields()) {
    Json& value = config_json[SectionOf(field.key)][NameOf(field.key)];
    if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
      value = config.**integer;
    } else {
      value = ValueText(config, field);
    }
    about[field.key] = {{"unit", field.unit},
                        {"symbol", field.symbol},
                        {"section", field.section},
                        {"accepts", RangeText(field)},
                        {"meaning", field.doc}};
  }
  const Derived derived = Derive(config);
  for (const DerivedField& field : DerivedFields()) {
    std::visit([&](auto member) { derived_json[field.name] = derived.*member; }, field.member);
    about["derived." + std::string(field.name)] = {{"unit", field.unit},
                                                   {"formula", field.formula},
                                                   {"section", field.section},
                                                   {"meaning", field.doc}};
  }
  const Latencies latencies = LatenciesOf(config);
  Json latencies_json;
  for (const LatencyField& field : LatencyFields()) {
    latencies_json[field.name] = latencies.*field.member;
    about["latency." + std::string(field.name)] = {{"unit", "cycles"},
                                                   {"module", field.module},
                                                   {"formula", field.formula},
                                                   {"meaning", field.doc}};
  }
  return {{"source", source},      {"digest", Digest(config)}, {"formats", FormatSetOf(config)},
          {"config", config_json}, {"derived", derived_json},  {"latency", latencies_json},
          {"about", about}};
}

void PrintCpuText() {
  const cpu::Target selected = cpu::SelectedTarget();
  std::cout << "Processor: " << cpu::ProcessorName() << "\n\n";
  Table table({{"target", true}, {"runs here", true}, {"", true}, {"compiled for", true}});
  for (const cpu::TargetInfo& info : cpu::Targets()) {
    table.AddRow(
        {std::string(info.name), info.runs ? "yes" : "no",
         info.target == selected ? "selected" : "",
         info.compiled_for.empty() ? "not in this build" : std::string(info.compiled_for)});
  }
  table.Print();
}

Json CpuJson() {
  const cpu::Target selected = cpu::SelectedTarget();
  Json targets = Json::array();
  for (const cpu::TargetInfo& info : cpu::Targets()) {
    targets.push_back({{"target", info.name},
                       {"runs", info.runs},
                       {"selected", info.target == selected},
                       {"compiled_for", WordsJson(info.compiled_for)}});
  }
  return {
      {"processor", cpu::ProcessorName()}, {"selected", cpu::Name(selected)}, {"targets", targets}};
}

void RunParams(const Options& options) {
  if (options.cpu) {
    if (options.config.given()) {
      throw Error(ErrorCode::kInvalidArgument,
                  "cpu: expected no parameters of a machine beside it, got some");
    }
    options.json ? PrintJson(CpuJson()) : PrintCpuText();
    return;
  }
  const Config config = options.config.Resolve();
  if (options.markdown) {
    std::cout << ParametersMarkdown(config);
  } else if (options.json) {
    PrintJson(ToJson(config, options.config.source()));
  } else {
    PrintText(config, options.config.source());
  }
}

}  // namespace

void AddParamsCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("params", "Print a machine's numbers, what follows from them, and why");
  auto options = std::make_shared<Options>(command);
  auto* json = command->add_flag("--json", options->json, "Print one JSON object");
  command->add_flag("--markdown", options->markdown, "Print docs/reference/parameters.md")
      ->excludes(json);
  command->add_flag("--cpu", options->cpu, "Print what the engine cpu finds on this processor")
      ->excludes("--markdown");
  command->footer(kExample);
  command->callback([options] { RunParams(*options); });
}

}  // namespace elsa
