#include "elsa/sim/controller.h"

#include <algorithm>

#include "elsa/base/integer_math.h"
#include "elsa/params/derived.h"
#include "elsa/params/latency.h"

namespace elsa::sim {
PhaseCycles PhasesOf(const Config& config, const Work& work) {
  const Derived derived = Derive(config);
  const Latencies latency = LatenciesOf(config);
  PhaseCycles phases;
  phases.command = latency.command_cycles;
  if (config.transfer == HostTransfer::kCopy) {
    const auto bytes = [&](std::int64_t rows, std::int64_t columns) {
      return CeilDiv(rows * columns * derived.qkv_bits, 8);
    };
    const std::int64_t in =
        bytes(work.queries, work.d) + bytes(work.keys, work.d) + bytes(work.keys, work.d_v);
    const std::int64_t out = bytes(work.queries, work.d_v);
    phases.copy_in = CeilDiv(in, config.bytes_per_cycle);
    phases.copy_out = CeilDiv(out, config.bytes_per_cycle);
    phases.copied_bytes = in + out;
  }
  if (!work.exact) {
    const std::int64_t last_key = (work.keys - 1) * derived.hash_cycles;
    const std::int64_t query = work.keys * derived.hash_cycles;
    phases.preprocess = std::max(query + latency.Hash(), last_key + latency.Norm());
    if (work.mean_row) {
      phases.preprocess = std::max(phases.preprocess,
                                   last_key + latency.hash_read_cycles + latency.mean_row_cycles);
    }
  }
  return phases;
}

void RecordPreprocessing(const Config& config, const Work& work, std::int64_t begin,
                         Recorder& recorder) {
  if (!recorder.on() || work.exact) return;
  const Derived derived = Derive(config);
  const Latencies latency = LatenciesOf(config);
  for (std::int64_t row = 0; row <= work.keys; ++row) {
    const std::int64_t at = begin + row * derived.hash_cycles;
    const bool query = row == work.keys;
    Span hash{.kind = query ? SpanKind::kHashQuery : SpanKind::kHashKey,
              .query = query ? 0 : -1,
              .key = query ? -1 : static_cast<std::int32_t>(row),
              .begin_cycle = at,
              .end_cycle = at + latency.Hash()};
    recorder.Add(hash);
    if (query) break;
    hash.kind = SpanKind::kNorm;
    hash.end_cycle = at + latency.Norm() - latency.norm_threshold_cycles;
    recorder.Add(hash);
  }
}

}  // namespace elsa::sim
