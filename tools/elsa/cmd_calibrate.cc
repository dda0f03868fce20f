// elsa calibrate: learns a plan (hash, angle correction, one threshold per layer and head) from
// traces. The learning itself is elsa/reference/calibration.h; here are its options and report.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/commands.h"
#include "elsa/io/plan_file.h"
#include "elsa/io/trace_file.h"
#include "elsa/output.h"
#include "elsa/progress.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/calibration.h"
#include "elsa/reference/hash.h"
#include "elsa/trace_inputs.h"

namespace elsa {
namespace {

struct Options {
  std::vector<std::string> traces;
  std::optional<double> p;
  std::optional<double> mass;
  std::optional<double> budget;
  std::optional<std::string> rule;
  std::string hash = "kronecker3";
  std::int64_t hash_bits = kDefaultHashBits;
  std::optional<std::int64_t> hash_d;
  std::uint64_t seed = 1;
  std::string remainder = "none";
  std::string centring = "off";
  std::int64_t centring_min_keys = 0;
  std::string theta_bias = "synthetic";
  bool bias_in_test = false;
  std::int64_t dense_below = 0;
  std::int64_t keep_first = 0;
  std::int64_t keep_recent = 0;
  int threads = 0;
  std::string output;
  bool json = false;
};

constexpr char kExample[] =
    R"(The paper's method is the default; options under "Beyond the paper" are off unless given.

Example: the paper's rule with p = 1, then the mean row with twice the approximation
  $ elsa calibrate train.safetensors --p 1 -o p1.json
  $ elsa calibrate train.safetensors --p 2 --remainder mean -o p2-mean.json
A share of the softmax mass instead of p, from several traces:
  $ elsa calibrate a.safetensors b.safetensors --mass 0.95 -o m95.json)";

// The rule and its target, from exactly one of the options that give one.
std::pair<Rule, double> RuleOf(const Options& options) {
  const int given =
      int{options.p.has_value()} + int{options.mass.has_value()} + int{options.budget.has_value()};
  if (given != 1) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "target: expected exactly one of --p, --mass and --budget, got " + std::to_string(given));
  }
  Rule rule = Rule::kPaper;
  double target = 0;
  const char* option = "--p";
  if (options.p) target = *options.p;
  if (options.mass) {
    rule = Rule::kMass;
    target = *options.mass;
    option = "--mass";
  }
  if (options.budget) {
    rule = Rule::kBudget;
    target = *options.budget;
    option = "--budget";
  }
  const bool share = rule != Rule::kPaper;
  if (!std::isfinite(target) || target < 0 || (share && (target == 0 || target > 1))) {
    throw Error(ErrorCode::kInvalidArgument,
                std::string(option) + ": expected " +
                    (share ? "a share above 0, at most 1" : "a number >= 0") + ", got " +
                    (std::isfinite(target) ? Json(target).dump() : std::to_string(target)));
  }
  if (!options.rule) return {rule, target};
  const Rule wanted = ParseRule(*options.rule);
  if (wanted != rule && !(wanted == Rule::kGap && rule == Rule::kMass)) {
    const char* needed = wanted == Rule::kPaper ? "--p" : "--mass";
    if (wanted == Rule::kBudget) needed = "--budget";
    throw Error(ErrorCode::kInvalidArgument,
                "--rule " + *options.rule + ": expected " + needed + " beside it, got " + option);
  }
  return {wanted, target};
}

// A number of radians, if the option is not one of its words.
std::optional<double> ThetaBiasNumber(const std::string& text) {
  if (text == "synthetic" || text == "per-head") return std::nullopt;
  double value = 0;
  const char* const end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  // The range of an angle, as in ValidatePlan.
  if (parsed.ec == std::errc() && parsed.ptr == end && std::abs(value) <= 3.15) return value;
  throw Error(
      ErrorCode::kInvalidArgument,
      "--theta-bias: expected synthetic, per-head or radians within -pi to pi, got '" + text + "'");
}

// Everything of the plan that options decide; no trace is needed for it.
Plan PlanOf(const Options& options) {
  Plan plan;
  std::tie(plan.rule, plan.target) = RuleOf(options);
  plan.remainder = ParseRemainder(options.remainder);
  plan.centring =
      options.centring == "by-length" ? Centring::kByLength : ParseCentring(options.centring);
  plan.centring_min_keys = options.centring_min_keys;
  if (plan.centring == Centring::kByLength && options.centring_min_keys == 0) {
    throw Error(ErrorCode::kInvalidArgument,
                "--centring by-length: expected --centring-min-keys N beside it, got none");
  }
  if (plan.centring != Centring::kByLength && options.centring_min_keys != 0) {
    throw Error(
        ErrorCode::kInvalidArgument,
        "--centring-min-keys: expected --centring by-length beside it, got " + options.centring);
  }
  plan.bias_in_test = options.bias_in_test;
  plan.dense_below = options.dense_below;
  plan.always_keep_first = options.keep_first;
  plan.always_keep_recent = options.keep_recent;
  plan.hash.kind = ParseHashKind(options.hash);
  return plan;
}

// A plan has one model, one shape and one hash: so must the traces.
void RequireSame(const io::Trace& trace, const io::Trace& first) {
  const auto require = [&](const std::string& what, const std::string& expected,
                           const std::string& got) {
    if (expected == got) return;
    throw Error(ErrorCode::kMismatch, trace.path() + ": " + what + ": expected " + expected +
                                          " as in " + first.path() + ", got " + got);
  };
  require("model", "'" + first.model() + "'", "'" + trace.model() + "'");
  require("scale", Json(first.scale()).dump(), Json(trace.scale()).dump());
  require("causal", first.causal() ? "true" : "false", trace.causal() ? "true" : "false");
  require("layers", std::to_string(first.layers()), std::to_string(trace.layers()));
  for (std::int64_t layer = 0; layer < trace.layers(); ++layer) {
    const std::string where = "layer " + std::to_string(layer) + ": ";
    require(where + "heads", std::to_string(first.shape(0).heads),
            std::to_string(trace.shape(layer).heads));
    require(where + "d", std::to_string(first.shape(0).d), std::to_string(trace.shape(layer).d));
  }
}

// Shows every layer of every trace to a Calibrator or ThetaBiasMeter.
template <typename Learner>
void ObserveAll(const std::vector<io::Trace>& traces, const char* label, int threads,
                Learner& learner) {
  Progress progress(label, std::ssize(traces) * traces[0].layers());
  for (const io::Trace& trace : traces) {
    for (std::int64_t layer = 0; layer < trace.layers(); ++layer) {
      const io::LayerTensors tensors = trace.Layer(layer);
      learner.Observe(layer, InputsOf(trace, tensors), threads);
      progress.Step();
    }
  }
}

// What the calibration expects of one layer, or of all: means over heads, which see equally many
// pairs.
struct Expected {
  double kept_fraction = 0;
  double mass_kept = 0;
  std::int64_t heads = 0;
  void Add(const HeadCalibration& head) {
    kept_fraction += head.kept_fraction;
    mass_kept += head.mass_kept;
    ++heads;
  }
  double Kept() const { return kept_fraction / static_cast<double>(heads); }
  double Mass() const { return mass_kept / static_cast<double>(heads); }
};

Json ToJson(const Options& options, const std::vector<io::Trace>& traces, const Plan& plan) {
  Json sources = Json::array();
  std::int64_t queries = 0;
  for (const io::Trace& trace : traces) {
    for (std::int64_t b = 0; b < trace.batch(); ++b) queries += trace.RealQueries(b);
    sources.push_back({{"path", trace.path()}, {"digest", trace.Digest()}});
  }
  Json layers = Json::array();
  Expected all;
  for (const auto& row : plan.calibration) {
    Expected layer;
    for (const HeadCalibration& head : row) {
      layer.Add(head);
      all.Add(head);
    }
    layers.push_back(
        {{"layer", layers.size()}, {"kept_fraction", layer.Kept()}, {"mass_kept", layer.Mass()}});
  }
  const bool one_theta = plan.theta_bias_rad.size() == 1 && plan.theta_bias_rad[0].size() == 1;
  return {
      {"plan", options.output},
      {"profile", ProfileName(plan)},
      {"model", plan.model},
      {"rule", Name(plan.rule)},
      {"target", plan.target},
      {"remainder", Name(plan.remainder)},
      {"hash", Name(plan.hash.kind)},
      {"d", plan.hash.d},
      {"k", plan.hash.k},
      {"seed", plan.hash.seed},
      {"theta_bias_rad", one_theta ? Json(plan.theta_bias_rad[0][0]) : Json(plan.theta_bias_rad)},
      {"layers", plan.layers()},
      {"heads", plan.thresholds[0].size()},
      {"queries", queries},
      {"kept_fraction", all.Kept()},
      {"mass_kept", all.Mass()},
      {"by_layer", layers},
      {"traces", sources}};
}

void PrintText(const Json& report) {
  std::cout << "plan " << Escaped(report["plan"].get<std::string>()) << ": profile "
            << report["profile"].get<std::string>() << ", model '"
            << Escaped(report["model"].get<std::string>()) << "', " << report["layers"]
            << " layers x " << report["heads"] << " heads, hash "
            << report["hash"].get<std::string>() << " of " << report["d"] << " components into "
            << report["k"] << " bits\n"
            << "learned from " << report["queries"] << " queries per head; expected there:\n\n";
  Table table({{"layer"}, {"kept fraction"}, {"mass kept"}});
  const auto add = [&](const std::string& name, const Json& row) {
    table.AddRow({name, Fixed(row["kept_fraction"], 4), Fixed(row["mass_kept"], 4)});
  };
  for (const Json& row : report["by_layer"]) add(row["layer"].dump(), row);
  add("all", report);
  table.Print();
}

void Calibrate(const Options& options) {
  Plan plan = PlanOf(options);
  const std::optional<double> theta_bias = ThetaBiasNumber(options.theta_bias);
  std::vector<io::Trace> traces;
  for (const std::string& path : options.traces) {
    traces.push_back(io::Trace::Open(path));
    RequireSame(traces.back(), traces.front());
  }
  RequireWritable(options.output, options.traces);
  const io::Trace& first = traces.front();
  const std::int64_t d = first.shape(0).d;
  const std::int64_t hash_d = options.hash_d.value_or(d);
  if (hash_d < d) {
    throw Error(ErrorCode::kMismatch, "--hash-d: expected " + std::to_string(d) +
                                          " or more as in " + first.path() + ", got " +
                                          std::to_string(hash_d));
  }
  const std::int64_t heads = first.shape(0).heads;
  plan.model = first.model();
  plan.hash = reference::MakeHash(plan.hash.kind, hash_d, options.hash_bits, options.seed);
  for (const io::Trace& trace : traces) trace.CheckFinite();

  if (theta_bias) {
    plan.theta_bias_rad = {{*theta_bias}};
  } else if (options.theta_bias == "synthetic") {
    plan.theta_bias_rad = {{reference::MeasureThetaBias(plan.hash, d)}};
  } else {
    reference::ThetaBiasMeter meter(plan, first.layers(), heads);
    ObserveAll(traces, "angle correction", options.threads, meter);
    plan.theta_bias_rad = meter.Finish();
  }
  reference::Calibrator calibrator(plan, first.layers(), heads);
  ObserveAll(traces, "thresholds", options.threads, calibrator);
  plan = calibrator.Finish();
  io::WritePlan(options.output, plan);

  const Json report = ToJson(options, traces, plan);
  if (options.json) {
    PrintJson(report);
  } else {
    PrintText(report);
  }
}

}  // namespace

void AddCalibrateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand("calibrate", "Learn a plan's thresholds from traces");
  auto options = std::make_shared<Options>();
  command->add_option("trace", options->traces, "Traces of one model (elsa capture writes them)")
      ->required()
      ->type_name("FILE");
  command->add_option("-o,--output", options->output, "The plan to write")
      ->required()
      ->type_name("FILE");
  command->add_option("--threads", options->threads, "0: all processors; never changes the result")
      ->check(CLI::Range(0, 4096))
      ->option_text("N");
  command->add_flag("--json", options->json, "Print one JSON object");

  const char* target = "What to keep (exactly one of)";
  command->add_option("--p", options->p, "The paper's degree of approximation; 0: exact")
      ->type_name("P")
      ->group(target);
  command->add_option("--mass", options->mass, "Share of the softmax mass, such as 0.95")
      ->type_name("SHARE")
      ->group(target);
  command->add_option("--budget", options->budget, "Share of the (query, key) pairs")
      ->type_name("SHARE")
      ->group(target);

  const char* hash = "Hash";
  command
      ->add_option("--hash", options->hash,
                   "kronecker3 (default), kronecker2, dense, hadamard or gaussian")
      ->type_name("KIND")
      ->group(hash);
  command->add_option("--hash-bits", options->hash_bits, "k; default 64")
      ->type_name("K")
      ->group(hash);
  command
      ->add_option("--hash-d", options->hash_d,
                   "Components the hash takes; default the trace's d. More, such as 64: vectors\n"
                   "are spread among zeros, as on an accelerator built for that d")
      ->type_name("D")
      ->group(hash);
  command->add_option("--seed", options->seed, "Of the hash's random values; default 1")
      ->type_name("S")
      ->group(hash);

  const char* beyond = "Beyond the paper";
  command
      ->add_option("--remainder", options->remainder,
                   "none, or mean: the dropped keys are averaged instead of forgotten")
      ->type_name("WORD")
      ->group(beyond);
  command
      ->add_option("--rule", options->rule,
                   "gap (with --mass): keep what lies close to the query's best estimate")
      ->type_name("WORD")
      ->group(beyond);
  command
      ->add_option("--centring", options->centring,
                   "on, off or by-length: hash keys relative to their mean")
      ->type_name("WORD")
      ->group(beyond);
  command
      ->add_option("--centring-min-keys", options->centring_min_keys,
                   "by-length: centre from this many keys on")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 40))
      ->option_text("N")
      ->group(beyond);
  command
      ->add_option("--theta-bias", options->theta_bias,
                   "synthetic (the paper's), per-head (on the traces), or a number")
      ->type_name("RAD")
      ->group(beyond);
  command
      ->add_flag("--bias-in-test", options->bias_in_test,
                 "Add the score bias before the candidate test")
      ->group(beyond);
  command
      ->add_option("--dense-below", options->dense_below, "Queries that see fewer keys run exact")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->option_text("N")
      ->group(beyond);
  command
      ->add_option("--keep-first", options->keep_first,
                   "Always keep the first N keys that a query sees")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->option_text("N")
      ->group(beyond);
  command
      ->add_option("--keep-recent", options->keep_recent,
                   "Always keep the last N keys that a query sees")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->option_text("N")
      ->group(beyond);
  command->footer(kExample);
  command->callback([options] { Calibrate(*options); });
}

}  // namespace elsa
