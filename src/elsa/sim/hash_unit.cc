#include "elsa/sim/hash_unit.h"

#include "elsa/params/derived.h"
#include "elsa/params/latency.h"

namespace elsa::sim {

HashUnit::HashUnit(const Config& config, const Work& work, std::int64_t ready, Recorder& recorder)
    : queries_(work.queries),
      exact_(work.exact),
      interval_(work.exact ? 1 : Derive(config).hash_cycles),
      latency_(work.exact ? LatenciesOf(config).query_read_cycles : LatenciesOf(config).Hash()),
      buffers_(config.query_buffers),
      started_(ready),
      ready_at_(config.query_buffers, 0),
      recorder_(recorder) {}

Cause HashUnit::Step(std::int64_t cycle, std::int64_t attended) {
  const Cause work = exact_ ? Cause::kPhase : Cause::kBusy;
  blocked_ = false;
  if (cycle < busy_until_) return work;
  if (started_ == queries_) return exact_ ? Cause::kPhase : Cause::kDone;
  if (started_ - attended >= buffers_) {
    blocked_ = true;
    return exact_ ? Cause::kPhase : Cause::kQueryBuffer;
  }
  ready_at_[started_ % buffers_] = cycle + latency_;
  recorder_.Add({.kind = SpanKind::kHashQuery,
                 .query = static_cast<std::int32_t>(started_),
                 .begin_cycle = cycle,
                 .end_cycle = cycle + latency_});
  ++started_;
  busy_until_ = cycle + interval_;
  return work;
}

}  // namespace elsa::sim
