#include "elsa/sim/output_divider.h"

#include <algorithm>

#include "elsa/params/latency.h"

namespace elsa::sim {

OutputDivider::OutputDivider(const Config& config, const Work& work, Recorder& recorder)
    : queries_(work.queries),
      groups_((work.d_v + config.division_multipliers - 1) / config.division_multipliers),
      latency_(LatenciesOf(config).Division()),
      recorder_(recorder) {}

Cause OutputDivider::Step(std::int64_t cycle, const std::vector<AttentionUnit>& banks) {
  freeing_ = false;
  if (group_ == 0) {
    if (divided_ == queries_) return Cause::kDone;
    const auto full = std::count_if(banks.begin(), banks.end(),
                                    [](const auto& bank) { return bank.buffer_full(); });
    if (full < static_cast<std::ptrdiff_t>(banks.size())) {
      if (divided_ == 0) return Cause::kFill;
      return full == 0 ? Cause::kSums : Cause::kOtherBanks;
    }
    began_ = cycle;
  }
  if (++group_ == groups_) {
    group_ = 0;
    freeing_ = true;
    written_at_ = cycle + latency_;
    recorder_.Add({.kind = SpanKind::kDivide,
                   .query = static_cast<std::int32_t>(divided_),
                   .begin_cycle = began_,
                   .end_cycle = written_at_});
    ++divided_;
  }
  return Cause::kBusy;
}

}  // namespace elsa::sim
