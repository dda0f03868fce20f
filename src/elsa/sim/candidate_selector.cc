#include "elsa/sim/candidate_selector.h"

#include <algorithm>

#include "elsa/params/latency.h"

namespace elsa::sim {

CandidateSelector::CandidateSelector(const Config& config, std::int64_t bank, Head& head,
                                     Counters& counters, Recorder& recorder)
    : bank_(bank),
      selectors_(config.selectors_per_bank),
      head_(head),
      counters_(counters),
      recorder_(recorder),
      queues_(config.selectors_per_bank, CandidateQueue(config.queue_depth)),
      // A row that is read in a cycle is at the first stage in that cycle.
      pipeline_(LatenciesOf(config).Select() - 1),
      queued_(config.query_buffers) {}

void CandidateSelector::CheckQueues() {
  blocked_ = false;
  const Row& row = pipeline_[oldest_];
  if (row.query < 0) return;
  const std::int64_t rows = head_.Rows(bank_, row.query);
  for (std::int64_t s = 0; s < selectors_ && row.row + s < rows; ++s) {
    if (queues_[s].full() && head_.Kept(row.query, bank_, row.row + s)) {
      blocked_ = true;
      return;
    }
  }
}

void CandidateSelector::Push(std::int64_t cycle, const Row& row) {
  const std::int64_t rows = head_.Rows(bank_, row.query);
  for (std::int64_t s = 0; s < selectors_ && row.row + s < rows; ++s) {
    ++counters_.key_tests;
    if (!head_.Kept(row.query, bank_, row.row + s)) continue;
    queues_[s].Push({row.query, head_.Key(bank_, row.row + s), cycle + 1});
    longest_queue_ = std::max(longest_queue_, queues_[s].size());
    ++queued_[row.query % queued_.size()];
  }
  if (row.last) ++scanned_;
}

CandidateSelector::Row CandidateSelector::ReadNext(std::int64_t cycle, const HashUnit& hash) {
  if (reading_ == head_.queries()) {
    cause_ = in_flight_ > 0 ? Cause::kFill : Cause::kDone;
    return {};
  }
  if (!hash.Ready(cycle, reading_)) {
    cause_ = hash.blocked() ? Cause::kQueryBuffer : Cause::kHash;
    return {};
  }
  if (next_row_ == 0) {
    head_.Load(reading_);
    scan_began_ = cycle;
  }
  Row row{reading_, next_row_, false};
  ++counters_.scan_rows;
  next_row_ += selectors_;
  if (next_row_ >= head_.Rows(bank_, reading_)) {  // a bank without keys reads one empty row
    row.last = true;
    recorder_.Add({.kind = SpanKind::kScan,
                   .instance = static_cast<std::int32_t>(bank_),
                   .query = static_cast<std::int32_t>(reading_),
                   .begin_cycle = scan_began_,
                   .end_cycle = cycle + 1});
    ++reading_;
    next_row_ = 0;
  }
  cause_ = Cause::kBusy;
  return row;
}

Cause CandidateSelector::Step(std::int64_t cycle, const HashUnit& hash) {
  if (blocked_) {
    recorder_.Add({.kind = SpanKind::kStall,
                   .instance = static_cast<std::int32_t>(bank_),
                   .query = static_cast<std::int32_t>(pipeline_[oldest_].query),
                   .begin_cycle = cycle,
                   .end_cycle = cycle + 1});
    return cause_ = Cause::kQueueFull;
  }
  Row& stage = pipeline_[oldest_];
  if (stage.query >= 0) {
    Push(cycle, stage);
    --in_flight_;
  }
  stage = ReadNext(cycle, hash);
  if (stage.query >= 0) ++in_flight_;
  oldest_ = oldest_ + 1 == pipeline_.size() ? 0 : oldest_ + 1;
  return cause_;
}

}  // namespace elsa::sim
