// elsa simulate: a captured trace on the accelerator, cycle by cycle, beside the machines that the
// paper compares it with.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/commands.h"
#include "elsa/config_options.h"
#include "elsa/cost/energy.h"
#include "elsa/cost/node_scaling.h"
#include "elsa/cost/power.h"
#include "elsa/io/atomic_file.h"
#include "elsa/io/mapped_file.h"
#include "elsa/io/plan_file.h"
#include "elsa/output.h"
#include "elsa/params/built_in.h"
#include "elsa/sim/timeline_file.h"
#include "elsa/simulation.h"
#include "elsa/simulation_report.h"
#include "elsa/trace_inputs.h"

namespace elsa {
namespace {

struct Options {
  explicit Options(CLI::App* command) : config(command) {}
  ConfigOptions config;
  std::string trace;
  std::optional<std::string> plan;
  std::optional<std::string> remainder;
  std::vector<std::string> machines;
  bool values = false;
  bool no_advice = false;
  std::optional<std::string> technology;
  std::optional<std::int64_t> node_nm;
  std::optional<std::string> csv;
  std::optional<std::string> timeline;
  std::string timeline_window = "0:2000";
  std::string timeline_format = "perfetto";
  TimelineRequest request;
  int threads = 0;
  bool json = false;
};

constexpr char kExample[] =
    R"(Machines: elsa (needs --plan), base (its exact mode), ideal, a3 and others, or all: a
wrong name lists them. One accelerator works on one head after the other; makespan_cycles is for
all accelerators of the configuration. stall_cycles sum to cycles, the busy ones included.

Example: cycles and energy of a plan, and what bounds them
  $ elsa calibrate trace.safetensors --p 1 --hash-d 64 -o plan.json
  $ elsa simulate trace.safetensors --plan plan.json
Beside the ideal accelerator and the exact mode, on a machine with twice the selectors
  $ elsa simulate trace.safetensors --plan plan.json --machine elsa,base,ideal \
      --selectors-per-bank 16
The first thousand cycles of one head, for ui.perfetto.dev
  $ elsa simulate trace.safetensors --plan plan.json --timeline head.pftrace \
      --timeline-window 0:1000 --timeline-layer 3 --timeline-head 5)";

std::string ReadText(const std::string& path) {
  const io::MappedFile file(path);
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

cost::Technology ReadTechnology(const Options& options) {
  cost::Technology technology =
      options.technology ? cost::ParseTechnology(ReadText(*options.technology), *options.technology)
                         : cost::ParseTechnology(BuiltInData("paper-40nm"), "paper-40nm");
  if (!options.node_nm) return technology;
  const auto scaling = cost::ParseNodeScaling(BuiltInData("node-scaling"), "node-scaling");
  return cost::ScaleToNode(technology, scaling, *options.node_nm);
}

// The machines asked for, each once, in the order of MachineNames() if all are.
std::vector<std::string> MachinesOf(const Options& options) {
  const std::vector<std::string_view> known = sim::MachineNames();
  std::vector<std::string> machines = options.machines;
  if (machines.empty()) machines = {options.plan ? "elsa" : "base"};
  if (std::find(machines.begin(), machines.end(), "all") != machines.end()) {
    machines.clear();
    for (const std::string_view name : known) {
      if (name != "elsa" || options.plan) machines.emplace_back(name);
    }
  }
  std::vector<std::string> unique;
  for (const std::string& name : machines) {
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      std::string names = "all";
      for (const std::string_view one : known) names += ", " + std::string(one);
      throw Error(ErrorCode::kInvalidArgument,
                  "machine: expected one of " + names + ", got '" + Escaped(name) + "'");
    }
    if (std::find(unique.begin(), unique.end(), name) == unique.end()) unique.push_back(name);
  }
  if (!options.plan && std::find(unique.begin(), unique.end(), "elsa") != unique.end()) {
    throw Error(ErrorCode::kInvalidArgument, "machine: elsa: expected --plan, got none");
  }
  return unique;
}

std::array<std::int64_t, 2> ParseWindow(const std::string& text) {
  std::array<std::int64_t, 2> window{};
  const char* end = text.data() + text.size();
  const auto from = std::from_chars(text.data(), end, window[0]);
  if (from.ec == std::errc() && from.ptr != end && *from.ptr == ':') {
    const auto to = std::from_chars(from.ptr + 1, end, window[1]);
    if (to.ec == std::errc() && to.ptr == end && window[0] >= 0 && window[0] < window[1]) {
      return window;
    }
  }
  throw Error(
      ErrorCode::kInvalidArgument,
      "timeline-window: expected FROM:TO in cycles, FROM below TO, got '" + Escaped(text) + "'");
}

bool Has(const std::vector<std::string>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

// The names that sim::RunMachine runs.
std::vector<std::string> Others(const std::vector<std::string>& machines) {
  std::vector<std::string> others;
  for (const std::string& name : machines) {
    if (name != "elsa" && name != "base" && name != "cpu") others.push_back(name);
  }
  return others;
}

double IdealCycles(const std::vector<sim::MachineResult>& others) {
  for (const sim::MachineResult& other : others) {
    if (other.machine == "ideal") return other.cycles;
  }
  return 0;
}

// A run of ours in the words of the other machines.
sim::MachineResult AsMachine(const std::string& name, const Config& config, const TraceRun& run) {
  sim::MachineResult result;
  const sim::Report& report = run.total.report;
  const double hz = static_cast<double>(config.clock_hz);
  result.machine = name;
  result.model = sim::MachineModel::kSimulated;
  result.heads = report.heads;
  result.cycles = static_cast<double>(report.cycles);
  result.preprocess_cycles = static_cast<double>(report.preprocess_cycles);
  result.latency_s = result.cycles / hz;
  result.batch_s = result.batch_min_s = result.batch_max_s =
      static_cast<double>(run.makespan_cycles) / hz;
  result.mass_sum = run.mass_sum;
  result.mass_queries = run.mass_queries;
  result.pairs = run.total.stats.pairs;
  result.scored_pairs = result.kept_pairs = run.total.stats.kept;
  result.notes = {"Simulated cycle by cycle; batch time is the makespan of all accelerators."};
  return result;
}

void PrintRun(const std::string& machine, const Json& report) {
  Table table({{"layer"}, {"kept fraction"}, {"cycles"}, {"preprocess"}, {"energy nJ"}});
  const auto row = [&](const std::string& layer, const Json& json, double energy_pj) {
    table.AddRow({layer, Fixed(json["kept_fraction"], 4), json["cycles"].dump(),
                  json["preprocess_cycles"].dump(), Fixed(energy_pj / 1000, 1)});
  };
  for (const Json& layer : report["layers"]) row(layer["layer"].dump(), layer, layer["energy_pj"]);
  row("all", report, report["energy_pj"]["total"]);
  table.Print();
  std::cout << "\n"
            << machine << ": " << report["operations"] << " attention operations, "
            << Fixed(1e6 * report["latency_s"].get<double>(), 3) << " us each on one accelerator; "
            << report["makespan_cycles"] << " cycles on " << report["accelerators"]
            << " accelerators (" << Fixed(100 * report["utilisation"].get<double>(), 0)
            << " % used)\ncycles by cause:";
  const double cycles = report["cycles"];
  for (const auto& [cause, count] : report["stall_cycles"].items()) {
    std::cout << "  " << cause << " " << Fixed(100 * count.get<double>() / cycles, 1) << " %";
  }
  std::cout << "\nenergy by part:";
  const double energy = report["energy_pj"]["total"];
  for (const auto& [group, pj] : report["energy_pj"]["groups"].items()) {
    std::cout << "  " << group << " " << Fixed(100 * pj.get<double>() / energy, 1) << " %";
  }
  std::cout << "\narea " << Fixed(report["area_mm2"]["total"], 3) << " mm2, peak power "
            << Fixed(report["peak_power_mw"]["total"].get<double>() / 1000, 3) << " W ("
            << report["technology"].get<std::string>() << ")\n";
  if (report.contains("output_rel_l2")) {
    std::cout << "output_rel_l2 " << Fixed(report["output_rel_l2"], 6) << "\n";
  }
  if (!report["advice"].is_null()) {
    std::cout << report["advice"]["sentence"].get<std::string>() << "\n";
  }
}

void PrintMachines(const Json& machines) {
  Table table({{"machine", true},
               {"model", true},
               {"cycles"},
               {"over ideal"},
               {"preprocess"},
               {"kept fraction"},
               {"mass kept"},
               {"batch us"}});
  for (const Json& m : machines) {
    const double pairs = m["pairs"];
    table.AddRow({m["machine"], m["model"],
                  m["cycles"].get<double>() > 0 ? Fixed(m["cycles"], 0) : "-",
                  m["cycles_over_ideal"].is_null() ? "-" : Fixed(m["cycles_over_ideal"], 3),
                  m["cycles"].get<double>() > 0 ? Fixed(m["preprocess_cycles"], 0) : "-",
                  pairs > 0 ? Fixed(m["kept_pairs"].get<double>() / pairs, 4) : "-",
                  m["mass_kept"].is_null() ? "-" : Fixed(m["mass_kept"], 4),
                  Fixed(1e6 * m["batch_s"].get<double>(), 2)});
  }
  table.Print();
}

// The first of elsa and base that was asked for is the report, and what `csv` lists; all machines
// are in "machines".
Json Simulate(const Options& options, const Config& config, const io::Trace& trace,
              const std::optional<Plan>& plan, const std::vector<std::string>& machines,
              const cost::Technology& technology, std::string* csv) {
  const Plan* with = plan ? &*plan : nullptr;
  SimulationOptions simulation;
  simulation.threads = options.threads;
  simulation.others = Others(machines);
  const bool base_wanted = Has(machines, "base");
  const bool elsa_wanted = Has(machines, "elsa") || (plan && !base_wanted);
  std::vector<sim::MachineResult> results;
  Json report;
  const auto run = [&](const std::string& name, const Plan* plan_of_run) {
    simulation.values = options.values && report.is_null();
    simulation.advice = !options.no_advice && report.is_null();
    const TraceRun result = SimulateTrace(config, trace, plan_of_run, simulation);
    if (report.is_null()) {
      report = {{"machine", name}};
      report.update(SimulationJson(config, technology, result));
      if (options.csv) *csv = SimulationCsv(config, technology, result);
    }
    if (Has(machines, name)) results.push_back(AsMachine(name, config, result));
    for (const sim::MachineResult& other : result.others) results.push_back(other);
    simulation.others.clear();  // once is enough
  };
  if (elsa_wanted) run("elsa", with);
  if (base_wanted || !elsa_wanted) run("base", nullptr);
  if (Has(machines, "cpu")) results.push_back(MeasureCpu(trace, with, options.threads));
  Json machines_json = Json::array();
  for (const std::string& name : machines) {
    for (const sim::MachineResult& result : results) {
      if (result.machine == name) {
        machines_json.push_back(MachineJson(result, IdealCycles(results)));
      }
    }
  }
  report["machines"] = machines_json;
  return report;
}

void RunSimulate(Options& options) {
  const Config config = options.config.Resolve();
  const std::vector<std::string> machines = MachinesOf(options);
  const cost::Technology technology = ReadTechnology(options);
  cost::PeakPower(config, technology);  // refuses a partial table before the work
  options.request.window = ParseWindow(options.timeline_window);
  std::vector<std::string> files = {options.trace};
  if (options.config.file()) files.push_back(*options.config.file());
  if (options.technology) files.push_back(*options.technology);
  std::optional<Plan> plan;
  if (options.plan) {
    plan = io::ReadPlan(*options.plan);
    files.push_back(*options.plan);
    if (options.remainder) plan->remainder = ParseRemainder(*options.remainder);
  }
  const io::Trace trace = io::Trace::Open(options.trace);
  if (plan) RequirePlanFits(*plan, *options.plan, trace);
  for (const auto& output : {options.csv, options.timeline}) {
    if (output) RequireWritable(*output, files);
  }
  if (options.csv && options.timeline) RequireApart(*options.csv, *options.timeline);
  sim::WriteTimeline({}, config, options.timeline_format);  // refuses other formats before the work
  trace.CheckFinite();

  Json report = {{"trace", options.trace},
                 {"trace_digest", trace.Digest()},
                 {"model", trace.model()},
                 {"plan", options.plan ? Json(*options.plan) : Json()},
                 {"profile", plan ? Json(ProfileName(*plan)) : Json("exact")},
                 {"config", options.config.source()},
                 {"digest", Digest(config)},
                 {"format_set", FormatSetOf(config)}};
  std::string timeline;
  if (options.timeline) {
    timeline =
        sim::WriteTimeline(RecordTimeline(config, trace, plan ? &*plan : nullptr, options.request),
                           config, options.timeline_format);
    report["timeline"] = *options.timeline;
  }
  std::string csv;
  report.update(Simulate(options, config, trace, plan, machines, technology, &csv));
  // Only now: what fails must leave nothing.
  if (options.timeline) io::WriteFileAtomically(*options.timeline, timeline);
  if (options.csv) io::WriteFileAtomically(*options.csv, csv);
  if (options.json) {
    PrintJson(report);
    return;
  }
  PrintRun(report["machine"], report);
  if (report["machines"].size() > 1) {
    std::cout << "\n";
    PrintMachines(report["machines"]);
  }
}

void AddTimelineOptions(CLI::App* command, Options* options) {
  auto* timeline = command->add_option("--timeline", options->timeline,
                                       "Write what happened in which cycle of one head");
  timeline->type_name("FILE")->group("Timeline");
  const auto add = [&](const char* name, auto& value, const char* what, const char* type) {
    command->add_option(name, value, what)->needs(timeline)->type_name(type)->group("Timeline");
  };
  add("--timeline-window", options->timeline_window, "Cycles; default 0:2000", "FROM:TO");
  add("--timeline-format", options->timeline_format,
      "perfetto (default), or kanata for the Konata viewer", "WORD");
  add("--timeline-layer", options->request.layer, "Default 0", "L");
  add("--timeline-batch", options->request.batch, "Default 0", "B");
  add("--timeline-head", options->request.head, "Default 0", "H");
}

}  // namespace

void AddSimulateCommand(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "simulate", "Run a trace on the simulated accelerator: cycles, stalls, energy, area");
  auto options = std::make_shared<Options>(command);
  command->add_option("trace", options->trace, "Captured Q, K, V")->required()->type_name("FILE");
  auto* plan = command->add_option("--plan", options->plan, "The plan; without one: exact")
                   ->type_name("FILE");
  command
      ->add_option(
          "--plan-remainder", options->remainder,
          "none or mean instead of the plan's; for mean the machine needs --remainder mean")
      ->needs(plan)
      ->type_name("WORD");
  command->add_option("--machine", options->machines, "One or several, separated by commas, or all")
      ->delimiter(',')
      ->allow_extra_args(false)  // a name behind a space is the trace
      ->type_name("NAMES");
  command->add_flag("--values", options->values,
                    "Compute the outputs too, bit by bit, and their error against exact; of the "
                    "machines beside, the softmax mass of the keys they keep");
  command->add_flag("--no-advice", options->no_advice, "Do not look for the best larger parameter");
  command
      ->add_option("--technology", options->technology,
                   "Area and power per module (TOML); default: the paper's Table I, 40 nm")
      ->type_name("FILE");
  command
      ->add_option("--node-nm", options->node_nm,
                   "Scale the technology to another process by published equations")
      ->type_name("NM");
  command->add_option("--csv", options->csv, "Write a line per (layer, head)")->type_name("FILE");
  AddTimelineOptions(command, options.get());
  command->add_option("--threads", options->threads, "0: all processors; never changes the result")
      ->check(CLI::Range(0, 4096))
      ->option_text("N");
  command->add_flag("--json", options->json, "Print one JSON object");
  command->footer(kExample);
  command->callback([options] { RunSimulate(*options); });
}

}  // namespace elsa
