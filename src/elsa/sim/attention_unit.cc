#include "elsa/sim/attention_unit.h"

#include "elsa/params/latency.h"

namespace elsa::sim {

AttentionUnit::AttentionUnit(const Config& config, std::int64_t bank, Recorder& recorder)
    : bank_(bank), pipeline_(LatenciesOf(config).Attention() - 1), recorder_(recorder) {}

void AttentionUnit::Step(std::int64_t cycle, const Token& token) {
  Stage& stage = pipeline_[oldest_];
  arrived_ = stage.last;
  if (recorder_.on() &&
      (stage.token.kind == Token::kCandidate || stage.token.kind == Token::kMeanRow)) {
    recorder_.Add({.kind = SpanKind::kAttend,
                   .instance = static_cast<std::int32_t>(bank_),
                   .query = static_cast<std::int32_t>(stage.token.query),
                   .key = static_cast<std::int32_t>(stage.token.key),
                   .begin_cycle = stage.picked_at,
                   .end_cycle = cycle + 1});
  }
  stage = {token, cycle, token.last};
  oldest_ = oldest_ + 1 == pipeline_.size() ? 0 : oldest_ + 1;
}

void AttentionUnit::Commit(bool freed) {
  if (freed) buffer_full_ = false;
  if (arrived_) buffer_full_ = true;
  arrived_ = false;
}

}  // namespace elsa::sim
