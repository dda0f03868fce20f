#include "elsa/sim/candidate_arbiter.h"

#include <algorithm>

namespace elsa::sim {

CandidateArbiter::CandidateArbiter(const Config& config, std::int64_t bank, Head& head,
                                   Recorder& recorder)
    : bank_(bank),
      mean_bank_(head.work().mean_row && bank + 1 == config.banks),
      head_(head),
      recorder_(recorder) {}

Token CandidateArbiter::Finish(Token token) {
  token.query = query_;
  cause_ = token.kind == Token::kMark ? Cause::kSelection : Cause::kBusy;
  started_ = true;
  if (token.last) {
    ++query_;
    next_row_ = 0;
    fallback_picked_ = false;
  }
  return token;
}

Token CandidateArbiter::Step(std::int64_t cycle, const HashUnit& hash,
                             std::vector<CandidateSelector>& selectors) {
  if (query_ == head_.queries()) {
    cause_ = Cause::kDone;
    return {};
  }
  if (head_.work().exact) return Exact(cycle, hash);
  const Token token = FromQueues(cycle, selectors);
  return token.kind == Token::kNothing ? AfterQueues(selectors) : token;
}

Token CandidateArbiter::Exact(std::int64_t cycle, const HashUnit& hash) {
  if (!hash.Ready(cycle, query_)) {
    cause_ = !started_ ? Cause::kFill : hash.blocked() ? Cause::kOtherBanks : Cause::kHash;
    return {};
  }
  const std::int64_t rows = head_.Rows(bank_, query_);
  if (rows == 0) {
    const Token mark = Finish({.kind = Token::kMark, .last = true});
    cause_ = Cause::kOtherBanks;
    return mark;
  }
  const std::int64_t row = next_row_++;
  return Finish({.kind = Token::kCandidate, .last = row + 1 == rows, .key = head_.Key(bank_, row)});
}

Token CandidateArbiter::FromQueues(std::int64_t cycle, std::vector<CandidateSelector>& selectors) {
  CandidateSelector& own = selectors[bank_];
  if (own.queued(query_) == 0) return {};
  CandidateQueue* longest = nullptr;
  std::int32_t at = 0;
  for (std::size_t s = 0; s < own.queues().size(); ++s) {
    CandidateQueue& queue = own.queues()[s];
    if (queue.size() == 0 || queue.front().query != query_) continue;
    if (longest != nullptr && queue.size() <= longest->size()) continue;
    longest = &queue;
    at = static_cast<std::int32_t>(s);
  }
  const QueueEntry entry = longest->front();
  longest->Pop();
  own.Popped(query_);
  recorder_.Add({.kind = SpanKind::kQueued,
                 .instance = static_cast<std::int32_t>(bank_),
                 .selector = at,
                 .query = static_cast<std::int32_t>(query_),
                 .key = static_cast<std::int32_t>(entry.key),
                 .begin_cycle = entry.pushed_at,
                 .end_cycle = cycle + 1});
  bool last = own.scanned() > query_ && own.queued(query_) == 0;
  if (last && mean_bank_) {  // the mean row may have to follow; known when all banks are done
    const bool all = std::all_of(selectors.begin(), selectors.end(),
                                 [&](const auto& bank) { return bank.scanned() > query_; });
    last = all && head_.Dropped(query_) == 0;
  }
  return Finish({.kind = Token::kCandidate, .last = last, .key = entry.key});
}

Token CandidateArbiter::AfterQueues(std::vector<CandidateSelector>& selectors) {
  const CandidateSelector& own = selectors[bank_];
  if (own.scanned() <= query_) {
    cause_ = !started_                            ? Cause::kFill
             : own.cause() == Cause::kHash        ? Cause::kHash
             : own.cause() == Cause::kQueryBuffer ? Cause::kQueryBuffer
                                                  : Cause::kSelection;
    return {};
  }
  // A bank that kept a key of its own is done with the query, unless the mean row is its business.
  if (head_.kept(query_, bank_) > 0 && !mean_bank_) {
    return Finish({.kind = Token::kMark, .last = true});
  }
  for (const CandidateSelector& bank : selectors) {
    if (bank.scanned() > query_) continue;
    cause_ = started_ ? Cause::kOtherBanks : Cause::kFill;
    return {};
  }
  const std::int64_t fallback = head_.Fallback(query_);
  const bool here = fallback >= 0 && fixed::BankOf(fallback, head_.banks()) == bank_;
  const bool mean_follows = mean_bank_ && head_.Dropped(query_) > 0;
  if (here && !fallback_picked_) {
    fallback_picked_ = true;
    return Finish({.kind = Token::kCandidate, .last = !mean_follows, .key = fallback});
  }
  if (mean_follows) return Finish({.kind = Token::kMeanRow, .last = true});
  return Finish({.kind = Token::kMark, .last = true});
}

}  // namespace elsa::sim
