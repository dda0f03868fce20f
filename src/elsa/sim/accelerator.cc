#include "elsa/sim/accelerator.h"

#include <algorithm>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/params/derived.h"
#include "elsa/sim/attention_unit.h"
#include "elsa/sim/candidate_arbiter.h"
#include "elsa/sim/candidate_selector.h"
#include "elsa/sim/controller.h"
#include "elsa/sim/hash_unit.h"
#include "elsa/sim/head.h"
#include "elsa/sim/output_divider.h"
#include "elsa/sim/recorder.h"

namespace elsa::sim {
namespace {

[[noreturn]] void Mismatch(const std::string& what, std::int64_t expected, std::int64_t got) {
  throw Error(ErrorCode::kMismatch, what + ": expected at most the machine's " +
                                        std::to_string(expected) + ", got " + std::to_string(got));
}

void ValidateWork(const Config& config, const Work& work) {
  if (work.queries > config.n) Mismatch("queries", config.n, work.queries);
  if (work.keys > config.n) Mismatch("keys", config.n, work.keys);
  if (work.d > config.d) Mismatch("d", config.d, work.d);
  if (work.d_v > config.d) Mismatch("d_v", config.d, work.d_v);
  if (work.d < 1 || work.d_v < 1) {
    throw Error(ErrorCode::kMismatch, "d, d_v: expected at least 1, got " + std::to_string(work.d) +
                                          " and " + std::to_string(work.d_v));
  }
  if (work.mean_row && config.remainder != Remainder::kMean) {
    throw Error(ErrorCode::kMismatch,
                "machine.remainder: expected mean for a plan with the mean row, got none");
  }
  if (work.mean_row && work.causal) {
    throw Error(ErrorCode::kUnsupported,
                "mean row: expected attention that is not causal, got causal");
  }
  if (work.exact || work.queries == 0 || work.keys == 0) return;
  const std::int64_t words = (work.keys + 63) / 64;
  const fixed::Candidates* candidates = work.candidates;
  if (candidates == nullptr || candidates->words != words ||
      static_cast<std::int64_t>(candidates->bits.size()) != work.queries * words ||
      static_cast<std::int64_t>(candidates->fallback.size()) != work.queries) {
    throw Error(ErrorCode::kMismatch, "candidates: expected those of " +
                                          std::to_string(work.queries) + " queries and " +
                                          std::to_string(work.keys) + " keys, got others");
  }
}

// The candidates in the order in which each bank took them.
class OrderRecorder {
 public:
  OrderRecorder(bool on, std::int64_t banks) : on_(on), keys_(banks), ends_(banks) {}
  void Add(std::int64_t bank, const Token& token) {
    if (!on_) return;
    if (token.kind == Token::kCandidate) {
      keys_[bank].push_back(static_cast<std::int32_t>(token.key));
    }
    if (token.last) ends_[bank].push_back(keys_[bank].size());
  }
  fixed::IssueOrder Take(std::int64_t queries) const {
    fixed::IssueOrder order;
    if (!on_) return order;
    order.begin.push_back(0);
    for (std::int64_t query = 0; query < queries; ++query) {
      for (std::size_t bank = 0; bank < keys_.size(); ++bank) {
        const std::size_t from = query == 0 ? 0 : ends_[bank][query - 1];
        order.keys.insert(order.keys.end(), keys_[bank].begin() + from,
                          keys_[bank].begin() + ends_[bank][query]);
        order.begin.push_back(static_cast<std::int64_t>(order.keys.size()));
      }
    }
    return order;
  }

 private:
  bool on_;
  std::vector<std::vector<std::int32_t>> keys_;
  std::vector<std::vector<std::size_t>> ends_;  // of each query
};

// The execution phase: all modules and the clock.
class Execution {
 public:
  Execution(const Config& config, const Work& work, std::int64_t begin, bool record_order,
            Report& report, Recorder& recorder)
      : config_(config),
        head_(config, work),
        cycle_(begin),
        report_(report),
        recorder_(recorder),
        order_(record_order, config.banks),
        hash_(config, work, work.exact ? 0 : 1, recorder),
        divider_(config, work, recorder) {
    for (std::int64_t bank = 0; bank < config.banks; ++bank) {
      selectors_.emplace_back(config, bank, head_, report.counters, recorder);
      arbiters_.emplace_back(config, bank, head_, recorder);
      attention_.emplace_back(config, bank, recorder);
    }
    queued_.resize(config.banks);
  }

  // Runs to the last output; returns the cycle after it.
  std::int64_t Run() {
    while (divider_.divided() < head_.queries()) {
      Step();
      ++cycle_;
    }
    for (; cycle_ < divider_.written_at(); ++cycle_) CountDrain();
    for (const CandidateSelector& selector : selectors_) {
      report_.longest_queue = std::max(report_.longest_queue, selector.longest_queue());
    }
    return cycle_;
  }
  fixed::IssueOrder TakeOrder() const { return order_.Take(head_.queries()); }

 private:
  // One cycle. Every module sees the others as they were at its start.
  void Step() {
    const bool exact = head_.work().exact;
    std::int64_t attended = arbiters_[0].attended();
    for (const CandidateArbiter& arbiter : arbiters_) {
      attended = std::min(attended, arbiter.attended());
    }
    Count(Module::kHashUnit, hash_.Step(cycle_, attended));
    if (!exact) {
      for (CandidateSelector& selector : selectors_) selector.CheckQueues();
    }
    Count(Module::kOutputDivider, divider_.Step(cycle_, attention_));
    StepBanks(attended);
    for (std::int64_t bank = 0; bank < config_.banks; ++bank) {
      Count(Module::kCandidateSelector,
            exact ? Cause::kPhase : selectors_[bank].Step(cycle_, hash_));
      attention_[bank].Commit(divider_.freeing());
      if (recorder_.on()) RecordQueues(bank);
    }
    Count(Module::kController, Cause::kPhase);
    Count(Module::kNormUnit, Cause::kPhase);
  }

  void StepBanks(std::int64_t attended) {
    Cause behind = Cause::kBusy;  // the bank that is furthest behind
    bool found = false;
    bool all_busy = true;
    for (std::int64_t bank = 0; bank < config_.banks; ++bank) {
      const bool is_behind = !found && arbiters_[bank].attended() == attended;
      const Cause cause = StepBank(bank);
      Count(Module::kAttentionUnit, cause);
      all_busy = all_busy && cause == Cause::kBusy;
      if (is_behind) {
        behind = cause;
        found = true;
      }
    }
    if (behind == Cause::kBusy && !all_busy) behind = Cause::kOtherBanks;
    if (behind == Cause::kDone) behind = Cause::kFill;
    ++report_.machine[static_cast<std::size_t>(behind)];
  }

  // What the bank's attention module did.
  Cause StepBank(std::int64_t bank) {
    if (attention_[bank].Frozen(divider_.freeing())) {
      recorder_.Add({.kind = SpanKind::kHeld,
                     .instance = static_cast<std::int32_t>(bank),
                     .begin_cycle = cycle_,
                     .end_cycle = cycle_ + 1});
      return divider_.reading() ? Cause::kDivision : Cause::kOtherBanks;
    }
    const Token token = arbiters_[bank].Step(cycle_, hash_, selectors_);
    attention_[bank].Step(cycle_, token);
    if (token.kind == Token::kNothing) return arbiters_[bank].cause();
    order_.Add(bank, token);
    Counters& counters = report_.counters;
    if (token.kind == Token::kCandidate) {
      ++counters.candidates;
      if (!head_.work().exact && head_.Fallback(token.query) == token.key) {
        ++counters.fallback_queries;
      }
    }
    counters.mean_rows += token.kind == Token::kMeanRow ? 1 : 0;
    return arbiters_[bank].cause();
  }

  // A cycle in which only the divider's pipeline still moves.
  void CountDrain() {
    const bool exact = head_.work().exact;
    Count(Module::kController, Cause::kPhase);
    Count(Module::kNormUnit, Cause::kPhase);
    Count(Module::kHashUnit, exact ? Cause::kPhase : Cause::kDone);
    Count(Module::kOutputDivider, Cause::kFill);
    for (std::int64_t bank = 0; bank < config_.banks; ++bank) {
      Count(Module::kCandidateSelector, exact ? Cause::kPhase : Cause::kDone);
      Count(Module::kAttentionUnit, Cause::kDone);
    }
    ++report_.machine[static_cast<std::size_t>(Cause::kFill)];
  }

  void Count(Module module, Cause cause) {
    ++report_.modules[static_cast<std::size_t>(module)][static_cast<std::size_t>(cause)];
  }

  void RecordQueues(std::int64_t bank) {
    std::int32_t queued = 0;
    for (const CandidateQueue& queue : selectors_[bank].queues()) {
      queued += static_cast<std::int32_t>(queue.size());
    }
    if (queued == queued_[bank]) return;
    queued_[bank] = queued;
    recorder_.Queued(static_cast<std::int32_t>(bank), cycle_ + 1, queued);
  }

  const Config& config_;
  Head head_;
  std::int64_t cycle_;
  Report& report_;
  Recorder& recorder_;
  OrderRecorder order_;
  HashUnit hash_;
  OutputDivider divider_;
  std::vector<CandidateSelector> selectors_;
  std::vector<CandidateArbiter> arbiters_;
  std::vector<AttentionUnit> attention_;
  std::vector<std::int32_t> queued_;  // as last recorded
};

// What the modules do outside execution.
void CountOutside(const Config& config, const Work& work, const PhaseCycles& phases,
                  Report& report) {
  const std::int64_t transfers = report.command_cycles + report.copy_cycles;
  const auto add = [&](Module module, Cause cause, std::int64_t cycles) {
    report.modules[static_cast<std::size_t>(module)][static_cast<std::size_t>(cause)] += cycles;
  };
  const std::int64_t hashing = work.exact ? 0 : (work.keys + 1) * Derive(config).hash_cycles;
  const std::int64_t norms = work.exact ? 0 : work.keys;
  add(Module::kController, Cause::kBusy, transfers);
  add(Module::kController, Cause::kPhase, phases.preprocess);
  add(Module::kHashUnit, Cause::kPhase, transfers);
  add(Module::kHashUnit, Cause::kBusy, hashing);
  add(Module::kHashUnit, Cause::kFill, phases.preprocess - hashing);
  add(Module::kNormUnit, Cause::kPhase, transfers);
  add(Module::kNormUnit, Cause::kBusy, norms);
  add(Module::kNormUnit, Cause::kHash, phases.preprocess - norms);
  add(Module::kOutputDivider, Cause::kPhase, transfers + phases.preprocess);
  for (Module module : {Module::kCandidateSelector, Module::kAttentionUnit}) {
    add(module, Cause::kPhase, (transfers + phases.preprocess) * config.banks);
  }
  report.machine[static_cast<std::size_t>(Cause::kPhase)] += transfers + phases.preprocess;
}

void CountRows(const Work& work, Counters& counters) {
  counters.queries = work.queries;
  for (std::int64_t i = 0; i < work.queries; ++i) {
    counters.pairs += work.Visible(i);
  }
  const std::int64_t preprocessed = work.exact ? 0 : work.keys;
  counters.hashes = work.exact ? 0 : work.keys + work.queries;
  counters.norms = preprocessed;
  counters.key_hash_writes = preprocessed;
  counters.key_row_reads = preprocessed + counters.candidates;
  counters.value_row_reads = (work.mean_row ? preprocessed : 0) + counters.candidates;
  counters.query_row_reads = work.queries;
  counters.output_row_writes = work.queries;
  counters.divided_rows = work.queries;
}

void RecordPhases(const PhaseCycles& phases, const Report& report, Recorder& recorder) {
  std::int64_t at = 0;
  const auto add = [&](Phase phase, std::int64_t cycles) {
    if (cycles > 0) {
      recorder.Add({.kind = SpanKind::kPhase,
                    .key = static_cast<std::int32_t>(phase),
                    .begin_cycle = at,
                    .end_cycle = at + cycles});
    }
    at += cycles;
  };
  add(Phase::kCommand, phases.command);
  add(Phase::kCopyIn, phases.copy_in);
  add(Phase::kPreprocess, phases.preprocess);
  add(Phase::kExecute, report.execute_cycles);
  add(Phase::kCopyOut, phases.copy_out);
  add(Phase::kCommand, phases.command);
}

}  // namespace

Result Simulate(const Config& config, const Work& work, const Options& options) {
  ValidateWork(config, work);
  Result result;
  Recorder recorder(options.timeline);
  Report& report = result.report;
  report.heads = 1;
  report.instances = {1, 1, 1, config.banks, config.banks, 1};
  PhaseCycles phases;
  if (work.queries > 0 && work.keys > 0) {
    phases = PhasesOf(config, work);
    RecordPreprocessing(config, work, phases.command + phases.copy_in, recorder);
    Execution execution(config, work, phases.Before(), options.record_order, report, recorder);
    report.execute_cycles = execution.Run() - phases.Before();
    result.order = execution.TakeOrder();
    CountRows(work, report.counters);
  } else {
    phases.command = PhasesOf(config, {.exact = true}).command;  // nothing to do is soon done
  }
  report.command_cycles = 2 * phases.command;
  report.copy_cycles = phases.copy_in + phases.copy_out;
  report.preprocess_cycles = phases.preprocess;
  report.counters.copied_bytes = phases.copied_bytes;
  report.cycles =
      report.command_cycles + report.copy_cycles + report.preprocess_cycles + report.execute_cycles;
  if (report.execute_cycles > 0) {
    CountOutside(config, work, phases, report);
  } else {
    CountOutside(config, {.exact = true}, phases, report);
  }
  RecordPhases(phases, report, recorder);
  result.timeline = recorder.Take();
  return result;
}

}  // namespace elsa::sim
