// What happened when, for a window of cycles of one head: the data behind the timeline files
// (elsa/sim/perfetto.h, elsa/sim/kanata.h). Recorded by Accelerator on request.
#ifndef ELSA_SIM_TIMELINE_H_
#define ELSA_SIM_TIMELINE_H_

#include <cstdint>
#include <vector>

#include "elsa/sim/report.h"

namespace elsa::sim {

enum class SpanKind {
  kPhase,      // controller: query = -1, key = number of the phase (Phase)
  kHashKey,    // hash unit, a key's hash from its read until it can be used
  kHashQuery,  // hash unit (exact mode: controller reads the vector)
  kNorm,       // norm unit, a key
  kScan,       // selectors of a bank scan the keys for a query: first to last row read
  kStall,      // selectors of a bank stand still: queue full
  kQueued,     // a candidate in its selector's queue, from the push to the pop
  kAttend,     // a candidate in the bank's attention module, issue to sums; key = -1: mean row
  kHeld,       // the bank's attention module stands still: its last sums are not taken yet
  kDivide,     // a query in the output divider, first read of sums to last write
};
enum class Phase { kCommand, kCopyIn, kPreprocess, kExecute, kCopyOut };

// begin <= cycle < end. `instance` is the bank for per-bank modules, else 0; for kQueued also the
// selector within the bank.
struct Span {
  SpanKind kind = SpanKind::kPhase;
  std::int32_t instance = 0;
  std::int32_t selector = 0;
  std::int32_t query = -1;
  std::int32_t key = -1;
  std::int64_t begin_cycle = 0;
  std::int64_t end_cycle = 0;
};

// Candidates in all queues of a bank at the start of a cycle; recorded when it changes.
struct QueueSample {
  std::int32_t bank = 0;
  std::int64_t cycle = 0;
  std::int32_t queued = 0;
};

struct Timeline {
  std::int64_t from_cycle = 0;  // the window; spans that touch it are recorded whole
  std::int64_t to_cycle = 0;
  std::vector<Span> spans;  // in the order of their ends
  std::vector<QueueSample> samples;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_TIMELINE_H_
