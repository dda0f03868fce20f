// Attention on the accelerator: its values (elsa/fixed), its cycles (elsa/sim) and timelines.
// Source: Sec. IV.
#include <nanobind/stl/array.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "bindings.h"
#include "elsa/base/error.h"
#include "elsa/fixed/attend.h"
#include "elsa/io/atomic_file.h"
#include "elsa/sim/attend.h"
#include "elsa/sim/cluster.h"
#include "elsa/sim/timeline_file.h"
#include "head_sample.h"

namespace elsa::python {
namespace {

// What a simulated call returns beside counts: a sum that can grow.
struct Simulation {
  sim::Report report;
  HeadSample sample;
  std::int64_t makespan_cycles = 0;  // of the calls one after the other

  Simulation& operator+=(const Simulation& other) {
    report += other.report;
    sample += other.sample;
    makespan_cycles += other.makespan_cycles;
    return *this;
  }
};

nb::dict CauseDict(const sim::CauseCycles& cycles) {
  nb::dict dict;
  for (std::size_t i = 0; i < sim::kCauses; ++i) {
    dict[std::string(sim::Name(static_cast<sim::Cause>(i))).c_str()] = cycles[i];
  }
  return dict;
}

nb::dict CounterDict(const sim::Counters& c) {
  nb::dict dict;
  dict["hashes"] = c.hashes;
  dict["norms"] = c.norms;
  dict["key_tests"] = c.key_tests;
  dict["scan_rows"] = c.scan_rows;
  dict["candidates"] = c.candidates;
  dict["mean_rows"] = c.mean_rows;
  dict["fallback_queries"] = c.fallback_queries;
  dict["key_row_reads"] = c.key_row_reads;
  dict["value_row_reads"] = c.value_row_reads;
  dict["query_row_reads"] = c.query_row_reads;
  dict["output_row_writes"] = c.output_row_writes;
  dict["key_hash_writes"] = c.key_hash_writes;
  dict["divided_rows"] = c.divided_rows;
  dict["copied_bytes"] = c.copied_bytes;
  dict["queries"] = c.queries;
  dict["pairs"] = c.pairs;
  return dict;
}

nb::dict ReportDict(const Simulation& simulation) {
  const sim::Report& report = simulation.report;
  nb::dict dict;
  dict["heads"] = report.heads;
  dict["cycles"] = report.cycles;
  dict["command_cycles"] = report.command_cycles;
  dict["copy_cycles"] = report.copy_cycles;
  dict["preprocess_cycles"] = report.preprocess_cycles;
  dict["execute_cycles"] = report.execute_cycles;
  dict["makespan_cycles"] = simulation.makespan_cycles;
  dict["machine"] = CauseDict(report.machine);
  nb::dict modules;
  nb::dict instances;
  for (std::size_t i = 0; i < sim::kModules; ++i) {
    const std::string name(sim::Name(static_cast<sim::Module>(i)));
    modules[name.c_str()] = CauseDict(report.modules[i]);
    instances[name.c_str()] = report.instances[i];
  }
  dict["modules"] = modules;
  dict["instances"] = instances;
  dict["counters"] = CounterDict(report.counters);
  dict["longest_queue"] = report.longest_queue;
  return dict;
}

nb::list StatsList(const std::vector<reference::HeadStats>& heads) {
  nb::list list;
  for (const reference::HeadStats& head : heads) list.append(StatsTuple(head));
  return list;
}

// name -> (values, those beyond the format's range, largest use of the range or None), all heads.
nb::dict FormatDict(const std::vector<fixed::FormatStats>& heads) {
  fixed::FormatStats sum;
  for (const fixed::FormatStats& head : heads) sum += head;
  const auto matrix = [](const fixed::MatrixCounts& counts) {
    return nb::make_tuple(counts.values, counts.saturated, counts.largest_use);
  };
  const auto inside = [](std::int64_t values, std::int64_t beyond) {
    return nb::make_tuple(values, beyond, nb::none());
  };
  nb::dict dict;
  dict["query"] = matrix(sum.host.query);
  dict["key"] = matrix(sum.host.key);
  dict["value"] = matrix(sum.host.value);
  dict["norm"] = inside(sum.machine.norms, sum.machine.saturated_norms);
  dict["score"] = inside(sum.machine.scores, sum.machine.clamped_scores);
  dict["output"] = inside(sum.machine.outputs, sum.machine.saturated_outputs);
  return dict;
}

View<float, 4> ViewOrNull(const std::optional<OutArray>& out) {
  return out ? ViewOf<float>(*out) : View<float, 4>();
}

nb::tuple FixedAttention(FloatArray query, FloatArray key, FloatArray value,
                         std::optional<BoolArray> mask, std::optional<FloatArray> bias,
                         std::vector<std::int64_t> query_lengths,
                         std::vector<std::int64_t> key_lengths, double scale, bool causal,
                         const Config& config, const Plan* plan, std::int64_t layer,
                         std::optional<OutArray> out, int threads) {
  const InputArguments arguments{std::move(query),       std::move(key),  std::move(value),
                                 std::move(mask),        std::move(bias), std::move(query_lengths),
                                 std::move(key_lengths), scale,           causal};
  fixed::AttendResult result;
  {
    const nb::gil_scoped_release release;
    result = fixed::Attend(config, arguments.Inputs(), plan, layer, ViewOrNull(out),
                           {threads, out.has_value(), {}});
  }
  return nb::make_tuple(StatsList(result.heads), FormatDict(result.formats));
}

nb::tuple SimAttention(FloatArray query, FloatArray key, FloatArray value,
                       std::optional<BoolArray> mask, std::optional<FloatArray> bias,
                       std::vector<std::int64_t> query_lengths,
                       std::vector<std::int64_t> key_lengths, double scale, bool causal,
                       const Config& config, const Plan* plan, std::int64_t layer,
                       std::optional<OutArray> out, int threads) {
  const InputArguments arguments{std::move(query),       std::move(key),  std::move(value),
                                 std::move(mask),        std::move(bias), std::move(query_lengths),
                                 std::move(key_lengths), scale,           causal};
  Simulation simulation;
  sim::AttendResult result;
  {
    const nb::gil_scoped_release release;
    std::mutex mutex;
    sim::AttendOptions options{threads, out.has_value(), {}};
    options.observe = [&](const fixed::HeadJob& head, const sim::Report&) {
      const std::scoped_lock lock(mutex);
      simulation.sample.Add(head);
    };
    result = sim::Attend(config, arguments.Inputs(), plan, layer, ViewOrNull(out), options);
    std::vector<std::int64_t> cycles;
    for (const sim::Report& report : result.reports) {
      simulation.report += report;
      cycles.push_back(report.cycles);
    }
    simulation.makespan_cycles = sim::ScheduleJobs(config, cycles).cycles;
  }
  return nb::make_tuple(StatsList(result.fixed.heads), FormatDict(result.fixed.formats),
                        std::move(simulation));
}

void RequireIndex(const char* what, std::int64_t index, std::int64_t count) {
  if (index >= 0 && index < count) return;
  throw Error(ErrorCode::kInvalidArgument, std::string("timeline: ") + what + ": expected 0 to " +
                                               std::to_string(count - 1) + ", got " +
                                               std::to_string(index));
}

// Writes the timeline of one head; without a window, of all its cycles.
void WriteTimeline(FloatArray query, FloatArray key, FloatArray value,
                   std::optional<BoolArray> mask, std::optional<FloatArray> bias,
                   std::vector<std::int64_t> query_lengths, std::vector<std::int64_t> key_lengths,
                   double scale, bool causal, const Config& config, const Plan* plan,
                   std::int64_t layer, std::int64_t batch, std::int64_t head,
                   std::optional<std::array<std::int64_t, 2>> window, const std::string& format,
                   const std::string& path) {
  const InputArguments arguments{std::move(query),       std::move(key),  std::move(value),
                                 std::move(mask),        std::move(bias), std::move(query_lengths),
                                 std::move(key_lengths), scale,           causal};
  const nb::gil_scoped_release release;
  const reference::AttentionInputs inputs = arguments.Inputs();
  reference::ValidateInputs(inputs);
  if (plan != nullptr) reference::ValidatePlanFits(*plan, layer, inputs);
  RequireIndex("batch", batch, inputs.batch());
  RequireIndex("head", head, inputs.heads());
  reference::HeadInputs rows(inputs, batch, head);
  const fixed::Job job = fixed::MakeJob(config, rows, plan, layer, head);
  fixed::Candidates candidates;
  if (!job.exact) candidates = fixed::SelectCandidates(config, job);
  const sim::Work work = sim::WorkOf({batch, head, job, job.exact ? nullptr : &candidates});
  if (!window) window = {0, sim::Simulate(config, work).report.cycles};
  const sim::Result run = sim::Simulate(config, work, {.timeline = window});
  io::WriteFileAtomically(path, sim::WriteTimeline(run.timeline, config, format));
}

// {"sentence", "trials": [{"parameter", "from", "to", "cycles", "speedup"}, ...], ...}
nb::dict AdviceDict(const Simulation& simulation, const Config& config) {
  sim::Advice advice;
  {
    const nb::gil_scoped_release release;
    advice = simulation.sample.Advise(config);
  }
  nb::list trials;
  for (const sim::Trial& trial : advice.trials) {
    nb::dict one;
    one["parameter"] = std::string(trial.parameter.substr(trial.parameter.find('.') + 1));
    one["from"] = trial.from;
    one["to"] = trial.to;
    one["cycles"] = trial.cycles;
    one["speedup"] = trial.speedup;
    trials.append(one);
  }
  nb::dict dict;
  dict["sentence"] = advice.sentence;
  dict["heads"] = simulation.sample.size();
  dict["cycles"] = advice.cycles;
  dict["bound"] = std::string(sim::Name(advice.bound));
  dict["bound_share"] = advice.bound_share;
  dict["busy_share"] = advice.busy_share;
  dict["preprocess_share"] = advice.preprocess_share;
  dict["trials"] = trials;
  return dict;
}

template <typename Function>
void DefineAttention(nb::module_& module, const char* name, Function function) {
  module.def(name, function, nb::arg("query").noconvert(), nb::arg("key").noconvert(),
             nb::arg("value").noconvert(), nb::arg("mask").noconvert().none(),
             nb::arg("bias").noconvert().none(), nb::arg("query_lengths"), nb::arg("key_lengths"),
             nb::arg("scale"), nb::arg("causal"), nb::arg("config"), nb::arg("plan").none(),
             nb::arg("layer"), nb::arg("out").noconvert().none(), nb::arg("threads") = 0);
}

}  // namespace

void BindAccelerator(nb::module_& module) {
  nb::class_<Simulation>(module, "Simulation")
      .def(nb::init<>())
      .def("__add__",
           [](const Simulation& a, const Simulation& b) {
             Simulation sum = a;
             sum += b;
             return sum;
           })
      .def("to_dict", &ReportDict)
      .def("advice", &AdviceDict, nb::arg("config"))
      .def(
          "energy",
          [](const Simulation& simulation, const Config& config, const std::string& technology) {
            return EnergyDict(config, technology, simulation.report);
          },
          nb::arg("config"), nb::arg("technology"));
  DefineAttention(module, "fixed_attention", &FixedAttention);
  DefineAttention(module, "sim_attention", &SimAttention);
  module.def("write_timeline", &WriteTimeline, nb::arg("query").noconvert(),
             nb::arg("key").noconvert(), nb::arg("value").noconvert(),
             nb::arg("mask").noconvert().none(), nb::arg("bias").noconvert().none(),
             nb::arg("query_lengths"), nb::arg("key_lengths"), nb::arg("scale"), nb::arg("causal"),
             nb::arg("config"), nb::arg("plan").none(), nb::arg("layer"), nb::arg("batch"),
             nb::arg("head"), nb::arg("window").none(), nb::arg("format"), nb::arg("path"));
}

}  // namespace elsa::python
