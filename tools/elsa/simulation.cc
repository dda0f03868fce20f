#include "elsa/simulation.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/params/built_in.h"
#include "elsa/params/paper_figures.h"
#include "elsa/progress.h"
#include "elsa/sim/machine_scores.h"
#include "elsa/trace_inputs.h"

namespace elsa {
namespace {

// The heads that advice is computed on: each is simulated a handful of times.
constexpr std::int64_t kAdviceHeads = 12;

// A head kept for later.
struct KeptHead {
  sim::Work work;
  fixed::Candidates candidates;
};

// One layer at a time; results of heads are put where they belong whatever thread they ran on.
class TraceSimulation {
 public:
  TraceSimulation(const Config& config, const io::Trace& trace, const Plan* plan,
                  const SimulationOptions& options)
      : config_(config),
        trace_(trace),
        plan_(plan),
        options_(options),
        published_(PaperFigures::Parse(BuiltInData("evaluation"), "evaluation")) {}

  TraceRun Run() {
    Progress progress("simulation", trace_.layers());
    std::int64_t jobs = 0;
    for (std::int64_t layer = 0; layer < trace_.layers(); ++layer) {
      jobs += trace_.batch() * trace_.shape(layer).heads;
    }
    advice_step_ = std::max<std::int64_t>(1, jobs / kAdviceHeads);
    std::int64_t busy = 0;
    for (std::int64_t layer = 0; layer < trace_.layers(); ++layer) {
      busy += RunLayer(layer);
      progress.Step();
    }
    const double room = static_cast<double>(run_.makespan_cycles * config_.accelerators);
    run_.utilisation = room > 0 ? static_cast<double>(busy) / room : 1;
    if (options_.advice && !kept_.empty()) Advise();
    return std::move(run_);
  }

 private:
  // Returns the cycles of all its jobs.
  std::int64_t RunLayer(std::int64_t layer) {
    const io::LayerTensors tensors = trace_.Layer(layer);
    const reference::AttentionInputs inputs = InputsOf(trace_, tensors);
    const std::array<std::int64_t, 4> shape{inputs.batch(), inputs.heads(), inputs.query.shape[2],
                                            inputs.value.shape[3]};
    std::vector<float> output(options_.values ? View<float, 4>(nullptr, shape).size() : 0);
    const View<float, 4> out(output.data(), shape);
    const std::int64_t items = inputs.batch() * inputs.heads();
    std::vector<std::vector<sim::MachineResult>> others(items);
    std::vector<std::optional<KeptHead>> kept(items);
    std::vector<double> mass(items);
    const std::int64_t first = heads_seen_;
    heads_seen_ += items;

    sim::AttendOptions attend;
    attend.threads = options_.threads;
    attend.values = options_.values;
    attend.observe = [&](const fixed::HeadJob& head, const sim::Report&) {
      const std::int64_t item = head.batch * inputs.heads() + head.head;
      others[item] = RunOthers(head, inputs.query.shape[3]);
      if (options_.values && head.job.keys > 0) {
        for (std::int64_t i = 0; i < head.job.queries; ++i) mass[item] += MassOf(head, i);
      }
      if (options_.advice && (first + item) % advice_step_ == 0 && head.job.queries > 0 &&
          head.job.keys > 0) {
        kept[item] = KeptHead{sim::WorkOf(head), {}};
        if (head.candidates != nullptr) kept[item]->candidates = *head.candidates;
      }
    };
    const sim::AttendResult result = sim::Attend(config_, inputs, plan_, layer, out, attend);
    AddHeads(inputs, result, out);
    for (const auto& head : others) AddOthers(head);
    for (const double head : mass) run_.mass_sum += head;
    for (auto& head : kept) {
      if (head) kept_.push_back(std::move(*head));
    }
    std::vector<std::int64_t> cycles;
    std::int64_t busy = 0;
    for (const sim::Report& report : result.reports) {
      cycles.push_back(report.cycles);
      busy += report.cycles;
    }
    run_.makespan_cycles += sim::ScheduleJobs(config_, cycles).cycles;
    return busy;
  }

  void AddHeads(const reference::AttentionInputs& inputs, const sim::AttendResult& result,
                const View<float, 4>& out) {
    std::vector<double> exact_values;
    if (options_.values) exact_values.resize(out.size());
    const View<double, 4> exact(exact_values.data(), out.shape);
    if (options_.values) {
      reference::AttendOptions plain;
      plain.threads = options_.threads;
      reference::Attend(inputs, nullptr, 0, exact, plain);
    }
    std::vector<HeadRun> heads(inputs.heads());
    for (std::int64_t head = 0; head < inputs.heads(); ++head) {
      HeadRun& run = heads[head];
      for (std::int64_t b = 0; b < inputs.batch(); ++b) {
        run.report += result.reports[b * inputs.heads() + head];
      }
      run.stats = result.fixed.heads[head];
      run.formats = result.fixed.formats[head];
      if (options_.values) run.error = ErrorOf(out, exact, head);
      run_.total += run;
      if (options_.values) run_.mass_queries += run.stats.queries - run.stats.empty_queries;
    }
    run_.heads.push_back(std::move(heads));
  }

  static double MassOf(const fixed::HeadJob& head, std::int64_t query) {
    return head.candidates == nullptr ? 1 : sim::MassKept(head.job, *head.candidates, query);
  }

  std::vector<sim::MachineResult> RunOthers(const fixed::HeadJob& head, std::int64_t d) const {
    std::vector<sim::MachineResult> results;
    if (head.job.queries == 0 || head.job.keys == 0) return results;
    sim::MachineOptions machine;
    machine.published = &published_;
    machine.d = d;
    machine.padded_n = std::max(trace_.n_q(), trace_.n_k());
    machine.mass = options_.values;
    for (const std::string& name : options_.others) {
      results.push_back(sim::RunMachine(name, config_, head.job, head.candidates, machine));
    }
    return results;
  }

  void AddOthers(const std::vector<sim::MachineResult>& head) {
    if (head.empty()) return;
    run_.others.resize(head.size());
    for (std::size_t m = 0; m < head.size(); ++m) run_.others[m] += head[m];
  }

  void Advise() {
    std::vector<sim::Work> work;
    for (KeptHead& head : kept_) {
      if (!head.work.exact) head.work.candidates = &head.candidates;
      work.push_back(head.work);
    }
    run_.advice = sim::Advise(config_, work);
    run_.advice_heads = static_cast<std::int64_t>(work.size());
  }

  const Config& config_;
  const io::Trace& trace_;
  const Plan* plan_;
  const SimulationOptions& options_;
  PaperFigures published_;
  std::int64_t advice_step_ = 1;
  std::int64_t heads_seen_ = 0;
  std::vector<KeptHead> kept_;
  TraceRun run_;
};

}  // namespace

HeadRun& HeadRun::operator+=(const HeadRun& other) {
  report += other.report;
  stats += other.stats;
  formats += other.formats;
  if (other.error) {
    if (!error) error.emplace();
    *error += *other.error;
  }
  return *this;
}

TraceRun SimulateTrace(const Config& config, const io::Trace& trace, const Plan* plan,
                       const SimulationOptions& options) {
  return TraceSimulation(config, trace, plan, options).Run();
}

sim::MachineResult MeasureCpu(const io::Trace& trace, const Plan* plan, int threads) {
  sim::MachineResult result;
  result.machine = "cpu";
  result.model = sim::MachineModel::kMeasured;
  result.notes = {plan == nullptr
                      ? "Exact attention by the engine reference: plain code in double, not a "
                        "fast library."
                      : "The plan's attention by the engine reference: plain code, not a fast "
                        "library.",
                  "Median of three runs on this computer; one head after the other on all "
                  "threads."};
  reference::AttendOptions attend;
  attend.threads = threads;
  std::array<double, 3> seconds{};
  for (double& time : seconds) {
    for (std::int64_t layer = 0; layer < trace.layers(); ++layer) {
      const io::LayerTensors tensors = trace.Layer(layer);
      const reference::AttentionInputs inputs = InputsOf(trace, tensors);
      const std::array<std::int64_t, 4> shape{inputs.batch(), inputs.heads(), inputs.query.shape[2],
                                              inputs.value.shape[3]};
      std::vector<float> output(View<float, 4>(nullptr, shape).size());
      const View<float, 4> out(output.data(), shape);
      const auto start = std::chrono::steady_clock::now();
      const auto stats = reference::Attend(inputs, plan, layer, out, attend);
      time += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      if (&time != &seconds[0]) continue;
      result.heads += inputs.batch() * inputs.heads();
      for (const reference::HeadStats& head : stats) {
        result.pairs += head.pairs;
        result.scored_pairs += head.kept;
        result.kept_pairs += head.kept;
      }
    }
  }
  std::sort(seconds.begin(), seconds.end());
  result.latency_s = result.batch_s = result.batch_min_s = result.batch_max_s = seconds[1];
  return result;
}

sim::Timeline RecordTimeline(const Config& config, const io::Trace& trace, const Plan* plan,
                             const TimelineRequest& request) {
  const auto require = [](const char* what, std::int64_t got, std::int64_t count) {
    if (got >= 0 && got < count) return;
    throw Error(ErrorCode::kInvalidArgument, std::string("timeline: ") + what + ": expected 0 to " +
                                                 std::to_string(count - 1) + ", got " +
                                                 std::to_string(got));
  };
  require("layer", request.layer, trace.layers());
  require("batch", request.batch, trace.batch());
  require("head", request.head, trace.shape(request.layer).heads);
  const io::LayerTensors tensors = trace.Layer(request.layer);
  const reference::AttentionInputs inputs = InputsOf(trace, tensors);
  reference::HeadInputs rows(inputs, request.batch, request.head);
  const fixed::Job job = fixed::MakeJob(config, rows, plan, request.layer, request.head);
  fixed::Candidates candidates;
  if (!job.exact) candidates = fixed::SelectCandidates(config, job);
  const sim::Work work =
      sim::WorkOf({request.batch, request.head, job, job.exact ? nullptr : &candidates});
  return sim::Simulate(config, work, {.record_order = false, .timeline = request.window}).timeline;
}

}  // namespace elsa
