#include "elsa/engine.h"

#include <algorithm>
#include <iterator>

#include "elsa/base/error.h"
#include "elsa/cpu/executor.h"
#include "elsa/output.h"
#include "elsa/sim/attend.h"

namespace elsa {
namespace {

[[noreturn]] void Refuse(const std::string& message) {
  throw Error(ErrorCode::kUnsupported, message);
}

cpu::Select ParseSelect(const std::string& word) {
  if (word == "auto") return cpu::Select::kAuto;
  if (word == "always") return cpu::Select::kAlways;
  throw Error(ErrorCode::kInvalidArgument, "select: expected auto or always, got " + Escaped(word));
}

}  // namespace

EngineOptions::EngineOptions(CLI::App* command) : config(command, false) {
  command
      ->add_option("--engine", name,
                   "reference (default); cpu: fast; fixed: the accelerator's bits, sim: in its "
                   "order too")
      ->type_name("WORD");
  command
      ->add_option("--precision", precision,
                   "Of engine cpu: auto (default), float32, 16bit or int8")
      ->type_name("WORD");
  command
      ->add_option("--select", select,
                   "Of engine cpu: auto (default) computes a head exactly where that is as fast; "
                   "always: the plan decides")
      ->type_name("WORD");
}

Engine::Engine(const EngineOptions& options) : name_(options.name) {
  const bool accelerator = name_ == "fixed" || name_ == "sim";
  if (!accelerator && !is_reference() && !is_cpu()) {
    Refuse("engine: expected reference, cpu, fixed or sim, got " + Escaped(name_));
  }
  if (!accelerator && options.config.given()) {
    Refuse("config, formats: expected engine fixed or sim, got " + name_);
  }
  if (!is_cpu() && (options.precision || options.select)) {
    Refuse("precision, select: expected engine cpu, got " + name_);
  }
  if (accelerator) machine_ = options.config.Resolve();
  if (is_cpu()) target_ = cpu::SelectedTarget();
  if (options.precision) precision_ = cpu::ParsePrecision(Escaped(*options.precision));
  if (options.select) select_ = ParseSelect(*options.select);
}

EngineResult Engine::Attend(const reference::AttentionInputs& inputs, const Plan* plan,
                            std::int64_t layer, const View<float, 4>& out,
                            const reference::AttendOptions& options) const {
  if (name_ == "fixed") {
    return {fixed::Attend(*machine_, inputs, plan, layer, out, {.threads = options.threads}).heads,
            {},
            {}};
  }
  if (name_ == "sim") {
    return {
        sim::Attend(*machine_, inputs, plan, layer, out, {.threads = options.threads}).fixed.heads,
        {},
        {}};
  }
  if (is_reference()) return {reference::Attend(inputs, plan, layer, out, options), {}, {}};

  cpu::AttendOptions cpu_options;
  cpu_options.executor = &cpu::SharedExecutor(options.threads);
  cpu_options.precision = precision_;
  cpu_options.select = select_;
  const cpu::Report report = cpu::Attend(cpu::InputsOf(inputs), plan, layer, out, cpu_options);
  EngineResult result;
  result.precision = report.precision;
  for (const cpu::HeadReport& head : report.heads) {
    result.heads.push_back(head.stats);
    std::copy(std::begin(head.heads_by_path), std::end(head.heads_by_path),
              result.paths.emplace_back().begin());
  }
  return result;
}

}  // namespace elsa
