// elsa attend: runs a trace through an execution and reports what the plan's approximation costs,
// per layer and head and in total.
#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/commands.h"
#include "elsa/cpu/target.h"
#include "elsa/engine.h"
#include "elsa/io/plan_file.h"
#include "elsa/io/safetensors.h"
#include "elsa/io/trace_file.h"
#include "elsa/output.h"
#include "elsa/output_error.h"
#include "elsa/progress.h"
#include "elsa/reference/attention.h"
#include "elsa/trace_inputs.h"

namespace elsa {
namespace {

struct Options {
  explicit Options(CLI::App* command) : engine(command) {}
  EngineOptions engine;
  std::string trace;
  std::optional<std::string> plan;
  std::optional<std::string> remainder;
  std::optional<std::string> control;
  std::uint64_t seed = 1;
  std::optional<std::string> output;
  int threads = 0;
  bool json = false;
};

constexpr char kExample[] = R"(kept_fraction: share of the real (query, key) pairs computed.
mass_kept: softmax weight on them, mean over queries (engine reference).
output_rel_l2: |output - exact| / |exact|, exact in double precision.
time_s (--json): the attention of this engine alone, without measuring mass and error.
paths (--json, engine cpu): how many sequences of a head were computed how, and why.

Example: what a plan costs, and whether its keys are better than random ones
  $ elsa attend test.safetensors --plan plan.json
  $ elsa attend test.safetensors --plan plan.json --control random
Fast, on the kernels of this processor (ELSA_TARGET forces others; elsa params --cpu lists them)
  $ elsa attend test.safetensors --plan plan.json --engine cpu --precision 16bit
On the accelerator's number formats, bit by bit (the plan's hash must be the machine's)
  $ elsa attend test.safetensors --plan wide.json --engine fixed --formats recommended
One number for a script:
  $ elsa attend test.safetensors --plan plan.json --json |
      python3 -c 'import json, sys; print(json.load(sys.stdin)["kept_fraction"])')";

// What one head, one layer or everything cost.
struct Cost {
  reference::HeadStats stats;
  OutputError error;
  PathCounts paths{};  // of the engine cpu

  Cost& operator+=(const Cost& other) {
    stats += other.stats;
    error += other.error;
    for (std::size_t i = 0; i < paths.size(); ++i) paths[i] += other.paths[i];
    return *this;
  }
};

struct LayerResult {
  std::vector<Cost> heads;
  Cost all;
  double time_s = 0;
  std::optional<cpu::Precision> precision;
  std::vector<float> output;  // [batch, heads, n_q, d]
  std::array<std::int64_t, 4> shape{};
};

LayerResult AttendLayer(const Engine& engine, const reference::AttentionInputs& inputs,
                        const Plan* plan, std::int64_t layer, reference::AttendOptions options) {
  LayerResult result;
  result.shape = {inputs.batch(), inputs.heads(), inputs.query.shape[2], inputs.value.shape[3]};
  result.output.resize(View<float, 4>(nullptr, result.shape).size());
  const View<float, 4> output(result.output.data(), result.shape);

  const auto start = std::chrono::steady_clock::now();
  EngineResult run = engine.Attend(inputs, plan, layer, output, options);
  result.time_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  result.precision = run.precision;
  if (engine.is_reference()) {
    // Again with the mass, which costs exact scores that do not belong into the time.
    options.measure_mass = true;
    run.heads = reference::Attend(inputs, plan, layer, output, options);
  }

  std::vector<double> exact_values(result.output.size());
  const View<double, 4> exact(exact_values.data(), result.shape);
  reference::AttendOptions plain;
  plain.threads = options.threads;
  reference::Attend(inputs, nullptr, layer, exact, plain);
  for (std::int64_t head = 0; head < inputs.heads(); ++head) {
    Cost cost{run.heads[head], ErrorOf(output, exact, head)};
    if (engine.is_cpu()) cost.paths = run.paths[head];
    result.heads.push_back(cost);
    result.all += cost;
  }
  return result;
}

// The paths that were taken, by name.
Json PathsJson(const PathCounts& paths) {
  Json json = Json::object();
  for (std::size_t i = 0; i < paths.size(); ++i) {
    if (paths[i] > 0) json[cpu::Name(static_cast<cpu::Path>(i))] = paths[i];
  }
  return json;
}

Json ToJson(const Cost& cost, const Engine& engine) {
  Json json{{"kept_fraction", cost.stats.kept_fraction()},
            {"mass_kept", engine.is_reference() ? Json(cost.stats.mass_kept()) : Json()},
            {"output_rel_l2", cost.error.Relative()},
            {"pairs", cost.stats.pairs},
            {"kept", cost.stats.kept},
            {"queries", cost.stats.queries},
            {"empty_queries", cost.stats.empty_queries},
            {"fallback_queries", cost.stats.fallback_queries},
            {"exact_queries", cost.stats.exact_queries}};
  if (engine.is_cpu()) json["paths"] = PathsJson(cost.paths);
  return json;
}

// Which kernels ran; `compiled_for` is what their compiler says of itself.
Json CpuJson(const Engine& engine, const std::vector<LayerResult>& layers) {
  Json json{{"target", cpu::Name(engine.target())}};
  for (const cpu::TargetInfo& info : cpu::Targets()) {
    if (info.target == engine.target()) json["compiled_for"] = WordsJson(info.compiled_for);
  }
  json["processor"] = cpu::ProcessorName();
  if (!layers.empty()) json["precision"] = cpu::Name(*layers.front().precision);
  return json;
}

Json Report(const Options& options, const Engine& engine, const io::Trace& trace,
            const std::optional<Plan>& plan, const std::vector<LayerResult>& layers) {
  Cost total;
  double time_s = 0;
  Json layers_json = Json::array();
  for (const LayerResult& result : layers) {
    total += result.all;
    time_s += result.time_s;
    Json heads_json = Json::array();
    for (const Cost& cost : result.heads) {
      Json head{{"head", heads_json.size()}};
      head.update(ToJson(cost, engine));
      heads_json.push_back(head);
    }
    Json layer{{"layer", layers_json.size()}};
    layer.update(ToJson(result.all, engine));
    layer["time_s"] = result.time_s;
    layer["heads"] = heads_json;
    layers_json.push_back(layer);
  }
  Json report{{"trace", options.trace},
              {"trace_digest", trace.Digest()},
              {"model", trace.model()},
              {"plan", options.plan ? Json(*options.plan) : Json()},
              {"profile", plan ? Json(ProfileName(*plan)) : Json("exact")},
              {"engine", engine.name()},
              {"digest", engine.machine() ? Json(Digest(*engine.machine())) : Json()},
              {"control", options.control ? Json(*options.control) : Json()}};
  if (engine.is_cpu()) report.update(CpuJson(engine, layers));
  if (options.control) report["seed"] = options.seed;
  report["output"] = options.output ? Json(*options.output) : Json();
  report.update(ToJson(total, engine));
  report["time_s"] = time_s;
  report["layers"] = layers_json;
  return report;
}

void PrintText(const Json& report) {
  Table table({{"layer"}, {"head"}, {"kept fraction"}, {"mass kept"}, {"output rel l2"}});
  const auto add = [&](const std::string& layer, const std::string& head, const Json& row) {
    table.AddRow({layer, head, Fixed(row["kept_fraction"], 4),
                  row["mass_kept"].is_null() ? "-" : Fixed(row["mass_kept"], 4),
                  Fixed(row["output_rel_l2"], 6)});
  };
  for (const Json& layer : report["layers"]) {
    for (const Json& head : layer["heads"]) add(layer["layer"].dump(), head["head"].dump(), head);
    add(layer["layer"].dump(), "all", layer);
  }
  add("all", "all", report);
  table.Print();
  std::cout << "\nprofile " << report["profile"].get<std::string>() << ", engine "
            << report["engine"].get<std::string>() << ": " << Fixed(report["time_s"], 3) << " s; "
            << report["kept"] << " of " << report["pairs"] << " pairs, " << report["queries"]
            << " queries (" << report["exact_queries"] << " exact, " << report["fallback_queries"]
            << " kept their best key only, " << report["empty_queries"] << " saw no key)\n";
  if (!report.contains("target")) return;
  std::cout << "target " << report["target"].get<std::string>() << ", precision "
            << report["precision"].get<std::string>() << "; heads";
  const char* separator = " ";
  for (const auto& [path, count] : report["paths"].items()) {
    std::cout << separator << path << " " << count;
    separator = ", ";
  }
  std::cout << "\n";
}

void WriteOutputs(const std::string& path, const Options& options, const io::Trace& trace,
                  const std::vector<LayerResult>& layers) {
  std::vector<io::TensorToWrite> tensors;
  for (std::size_t layer = 0; layer < layers.size(); ++layer) {
    const auto& shape = layers[layer].shape;
    tensors.push_back({"layer." + std::to_string(layer) + ".output", io::Dtype::kF32,
                       std::vector<std::int64_t>(shape.begin(), shape.end()),
                       std::as_bytes(std::span(layers[layer].output))});
  }
  io::WriteSafetensors(
      path, std::move(tensors),
      {{"elsa.output", "1"}, {"elsa.model", trace.model()}, {"elsa.engine", options.engine.name}});
}

void RunAttend(const Options& options) {
  const Engine engine(options.engine);
  if (options.control && !engine.is_reference()) {
    throw Error(ErrorCode::kUnsupported,
                "control: expected engine reference, got " + engine.name());
  }
  std::optional<Plan> plan;
  std::vector<std::string> files = {options.trace};
  if (options.engine.config.file()) files.push_back(*options.engine.config.file());
  if (options.plan) {
    plan = io::ReadPlan(*options.plan);
    files.push_back(*options.plan);
    if (options.remainder) plan->remainder = ParseRemainder(*options.remainder);
  }
  const io::Trace trace = io::Trace::Open(options.trace);
  if (plan) RequirePlanFits(*plan, *options.plan, trace);
  if (options.output) RequireWritable(*options.output, files);
  trace.CheckFinite();

  reference::AttendOptions attend;
  attend.threads = options.threads;
  if (options.control) attend.random_keys_seed = options.seed;
  std::vector<LayerResult> layers;
  {
    Progress progress("attention", trace.layers());
    for (std::int64_t layer = 0; layer < trace.layers(); ++layer) {
      const io::LayerTensors tensors = trace.Layer(layer);
      layers.push_back(
          AttendLayer(engine, InputsOf(trace, tensors), plan ? &*plan : nullptr, layer, attend));
      if (!options.output) layers.back().output = {};
      progress.Step();
    }
  }
  if (options.output) WriteOutputs(*options.output, options, trace, layers);
  const Json report = Report(options, engine, trace, plan, layers);
  if (options.json) {
    PrintJson(report);
  } else {
    PrintText(report);
  }
}

}  // namespace

void AddAttendCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("attend", "Run attention on a trace and report what a plan costs");
  auto options = std::make_shared<Options>(command);
  command->add_option("trace", options->trace, "Captured Q, K, V")->required()->type_name("FILE");
  auto* plan = command->add_option("--plan", options->plan, "The plan; without one: exact")
                   ->type_name("FILE");
  command->add_option("--remainder", options->remainder, "none or mean instead of the plan's")
      ->needs(plan)
      ->type_name("WORD");
  auto* control = command
                      ->add_option("--control", options->control,
                                   "random: as many keys as the plan keeps, but drawn at random")
                      ->check(CLI::IsMember({"random"}))
                      ->needs(plan)
                      ->option_text("WORD");
  command->add_option("--seed", options->seed, "Of --control; default 1")
      ->needs(control)
      ->type_name("S");
  command->add_option("-o,--output", options->output, "Write layer.<L>.output as safetensors")
      ->type_name("FILE");
  command->add_option("--threads", options->threads, "0: all processors; never changes the result")
      ->check(CLI::Range(0, 4096))
      ->option_text("N");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(kExample);
  command->callback([options] { RunAttend(*options); });
}

}  // namespace elsa
