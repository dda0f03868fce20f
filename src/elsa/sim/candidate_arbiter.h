// The arbiter of one bank: which candidate goes to the attention module in this cycle.
// Source: Sec. IV-C, "longest-queue-first". The longest queue of those whose first entry is of the
// current query; the first of them on a tie (Our choice). Lengths are those at the start of the
// cycle. Queries follow each other without a gap: the last candidate carries a mark.
#ifndef ELSA_SIM_CANDIDATE_ARBITER_H_
#define ELSA_SIM_CANDIDATE_ARBITER_H_

#include <cstdint>
#include <vector>

#include "elsa/sim/candidate_selector.h"
#include "elsa/sim/hash_unit.h"
#include "elsa/sim/head.h"

namespace elsa::sim {

// What the arbiter hands to the attention module in a cycle.
struct Token {
  enum Kind : std::uint8_t { kNothing, kCandidate, kMeanRow, kMark };
  Kind kind = kNothing;  // kMark: no key, but the end of the query
  bool last = false;     // the query's last in this bank
  std::int64_t query = 0;
  std::int64_t key = -1;
};

class CandidateArbiter {
 public:
  CandidateArbiter(const Config& config, std::int64_t bank, Head& head, Recorder& recorder);

  // Picks for this cycle. `selectors` are those of all banks, as they were at its start.
  Token Step(std::int64_t cycle, const HashUnit& hash, std::vector<CandidateSelector>& selectors);
  // Why the last Step picked no candidate; kBusy if it did.
  Cause cause() const { return cause_; }
  // Queries whose last candidate was picked.
  std::int64_t attended() const { return query_; }

 private:
  Token Exact(std::int64_t cycle, const HashUnit& hash);
  Token FromQueues(std::int64_t cycle, std::vector<CandidateSelector>& selectors);
  Token AfterQueues(std::vector<CandidateSelector>& selectors);
  bool MeanRowIsHere(std::int64_t dropped) const;
  Token Finish(Token token);

  std::int64_t bank_;
  bool mean_bank_;  // the bank that takes the mean rows
  Head& head_;
  Recorder& recorder_;
  std::int64_t query_ = 0;
  std::int64_t next_row_ = 0;     // exact mode
  bool fallback_picked_ = false;  // of this query
  bool started_ = false;          // something was picked in this head
  Cause cause_ = Cause::kFill;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_CANDIDATE_ARBITER_H_
