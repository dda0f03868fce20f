// The candidate selection modules of one bank with their output queues. The P_c modules read one
// wide row of hashes and norms per cycle and work in step: a key that finds its queue full stops
// them all, until there is room. Source: Sec. IV-C "Candidate Selection Module".
#ifndef ELSA_SIM_CANDIDATE_SELECTOR_H_
#define ELSA_SIM_CANDIDATE_SELECTOR_H_

#include <cstdint>
#include <vector>

#include "elsa/sim/hash_unit.h"
#include "elsa/sim/head.h"
#include "elsa/sim/recorder.h"

namespace elsa::sim {

// A key in a queue. The query is there modulo the query buffers in hardware.
struct QueueEntry {
  std::int64_t query = 0;
  std::int64_t key = 0;
  std::int64_t pushed_at = 0;  // first cycle in which it can be popped
};

// The output queue of one module.
class CandidateQueue {
 public:
  explicit CandidateQueue(std::int64_t depth) : entries_(depth) {}
  std::int64_t size() const { return size_; }
  bool full() const { return size_ == static_cast<std::int64_t>(entries_.size()); }
  const QueueEntry& front() const { return entries_[head_]; }
  void Push(const QueueEntry& entry) {
    std::size_t at = head_ + size_;
    if (at >= entries_.size()) at -= entries_.size();
    entries_[at] = entry;
    ++size_;
  }
  void Pop() {
    head_ = head_ + 1 == entries_.size() ? 0 : head_ + 1;
    --size_;
  }

 private:
  std::vector<QueueEntry> entries_;
  std::size_t head_ = 0;
  std::int64_t size_ = 0;
};

class CandidateSelector {
 public:
  CandidateSelector(const Config& config, std::int64_t bank, Head& head, Counters& counters,
                    Recorder& recorder);

  // First half of a cycle, before any queue is popped: does a key find its queue full?
  void CheckQueues();
  // Second half: moves the pipeline, pushes, reads the next row. Returns what the bank did.
  Cause Step(std::int64_t cycle, const HashUnit& hash);

  std::vector<CandidateQueue>& queues() { return queues_; }
  // Queries whose keys have all been tested, and pushed if they pass.
  std::int64_t scanned() const { return scanned_; }
  // What the last Step said.
  Cause cause() const { return cause_; }
  // Candidates of a query in flight that wait in the bank's queues.
  std::int64_t queued(std::int64_t query) const { return queued_[query % queued_.size()]; }
  void Popped(std::int64_t query) { --queued_[query % queued_.size()]; }
  std::int64_t longest_queue() const { return longest_queue_; }

 private:
  struct Row {                // one read of P_c keys, on its way through the pipeline
    std::int64_t query = -1;  // -1: a bubble
    std::int64_t row = 0;
    bool last = false;  // of its query in this bank
  };
  void Push(std::int64_t cycle, const Row& row);
  Row ReadNext(std::int64_t cycle, const HashUnit& hash);

  std::int64_t bank_;
  std::int64_t selectors_;
  Head& head_;
  Counters& counters_;
  Recorder& recorder_;
  std::vector<CandidateQueue> queues_;
  std::vector<Row> pipeline_;   // ring: one row per stage
  std::size_t oldest_ = 0;      // the stage that compares
  std::int64_t in_flight_ = 0;  // rows in the pipeline
  std::int64_t reading_ = 0;    // the query whose rows are read
  std::int64_t next_row_ = 0;
  std::int64_t scanned_ = 0;
  std::int64_t scan_began_ = 0;
  std::int64_t longest_queue_ = 0;
  std::vector<std::int64_t> queued_;  // [query buffers]
  bool blocked_ = false;
  Cause cause_ = Cause::kFill;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_CANDIDATE_SELECTOR_H_
