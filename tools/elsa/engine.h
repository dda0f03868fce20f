// The execution that `elsa attend` runs: the reference, the accelerator's bits, or the kernels of
// this processor. One interface, so that the report treats them alike.
#ifndef ELSA_TOOLS_ENGINE_H_
#define ELSA_TOOLS_ENGINE_H_

#include <CLI/CLI.hpp>
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/config_options.h"
#include "elsa/cpu/attention.h"
#include "elsa/params/config.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention.h"

namespace elsa {

// The options that choose it.
struct EngineOptions {
  // Adds --engine, --precision, --select and the machine's options to `command`. This object must
  // outlive the parsing and stay where it is.
  explicit EngineOptions(CLI::App* command);

  ConfigOptions config;  // of the engines fixed and sim
  std::string name = "reference";
  std::optional<std::string> precision;
  std::optional<std::string> select;
};

// How many batches of a head went which way: cpu::HeadReport::heads_by_path.
using PathCounts = std::array<std::int64_t, std::size(decltype(cpu::HeadReport::heads_by_path){})>;

struct EngineResult {
  std::vector<reference::HeadStats> heads;
  std::vector<PathCounts> paths;            // one per head; empty unless the engine is cpu
  std::optional<cpu::Precision> precision;  // what the engine cpu computed with
};

class Engine {
 public:
  // Errors: kUnsupported for an unknown engine, and for options of another one; those of
  // ConfigOptions::Resolve, cpu::ParsePrecision and cpu::SelectedTarget.
  explicit Engine(const EngineOptions& options);

  const std::string& name() const { return name_; }
  bool is_reference() const { return name_ == "reference"; }
  bool is_cpu() const { return name_ == "cpu"; }
  // The machine that an accelerator's engine computes on.
  const std::optional<Config>& machine() const { return machine_; }
  cpu::Target target() const { return target_; }

  // Attention of one layer and its counts per head. Only the reference heeds more of the options
  // than the threads.
  EngineResult Attend(const reference::AttentionInputs& inputs, const Plan* plan,
                      std::int64_t layer, const View<float, 4>& out,
                      const reference::AttendOptions& options) const;

 private:
  std::string name_;
  std::optional<Config> machine_;
  cpu::Target target_ = cpu::Target::kPortable;
  cpu::Precision precision_ = cpu::Precision::kAuto;
  cpu::Select select_ = cpu::Select::kAuto;
};

}  // namespace elsa

#endif  // ELSA_TOOLS_ENGINE_H_
