// Timelines for the tests of their formats: one made by hand, of the shape that the simulator
// records, and some that it did record.
#ifndef ELSA_SIM_TIMELINE_TESTING_H_
#define ELSA_SIM_TIMELINE_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/params/latency.h"
#include "elsa/sim/accelerator.h"
#include "elsa/sim/testing.h"
#include "elsa/sim/timeline.h"

namespace elsa::sim {

inline constexpr int kMadeQueries = 3;
inline constexpr int kMadeCandidates = 6;  // of each query in each bank

// Keys are hashed, then every query is hashed, scanned, attended and divided in every bank: a
// candidate per cycle, so candidates overlap in queue and attention unit without nesting. With all
// of a query's candidates in flight, the attention units are held for two cycles.
inline Timeline MadeTimeline(int banks, bool mean_row) {
  const std::int64_t attention = LatenciesOf(Config()).Attention();
  Timeline t;
  t.to_cycle = 400;
  const auto add = [&t](SpanKind kind, int instance, int selector, int query, int key,
                        std::int64_t begin, std::int64_t end) {
    t.spans.push_back({kind, instance, selector, query, key, begin, end});
  };
  add(SpanKind::kPhase, 0, 0, -1, 0, 0, 1);
  add(SpanKind::kPhase, 0, 0, -1, 2, 1, 40);
  add(SpanKind::kPhase, 0, 0, -1, 3, 40, 300);
  for (int key = 0; key < 8; ++key) {  // hashes overlap, too
    add(SpanKind::kHashKey, 0, 0, -1, key, 1 + 3 * key, 6 + 3 * key);
    add(SpanKind::kNorm, 0, 0, -1, key, 1 + 3 * key, 12 + 3 * key);
  }
  for (int query = 0; query < kMadeQueries; ++query) {
    const std::int64_t start = 40 + 20 * query;
    std::int64_t last = 0;
    add(SpanKind::kHashQuery, 0, 0, query, -1, start, start + 5);
    for (int bank = 0; bank < banks; ++bank) {
      add(SpanKind::kScan, bank, 0, query, -1, start + 5, start + 20);
      for (int i = 0; i < bank; ++i) {
        add(SpanKind::kStall, bank, 0, query, -1, start + 9 + i, start + 10 + i);
      }
      for (const int cycle : {20, 21}) {
        add(SpanKind::kHeld, bank, 0, -1, -1, start + cycle, start + cycle + 1);
      }
      for (int i = 0; i < kMadeCandidates; ++i) {
        const int key = banks * i + bank;
        const std::int64_t pop = start + 14 + i;
        last = pop + attention + 2;
        add(SpanKind::kQueued, bank, i % 2, query, key, start + 10 + i / 2, pop + 1);
        add(SpanKind::kAttend, bank, 0, query, key, pop, last);
        t.samples.push_back({bank, start + 10 + i, i % 4});
      }
    }
    if (mean_row) {
      add(SpanKind::kAttend, banks - 1, 0, query, -1, last - attention - 1, last + 1);
      ++last;
    }
    add(SpanKind::kDivide, 0, 0, query, -1, last, last + 10);
  }
  std::stable_sort(t.spans.begin(), t.spans.end(),
                   [](const Span& a, const Span& b) { return a.end_cycle < b.end_cycle; });
  return t;
}

// Small heads of every kind as the simulator records them: approximate (with queries that keep
// nothing, and so many that queues fill), causal, with the mean row, exact.
struct SimulatedHead {
  std::string name;
  Config config;
  Timeline timeline;
};
inline std::vector<SimulatedHead> SimulatedHeads() {
  std::vector<SimulatedHead> heads;
  Random random(11);
  for (const std::string name : {"few", "many", "causal", "mean", "exact"}) {
    SimulatedHead head{name, Config(), {}};
    head.config.queue_depth = 2;
    Work work;
    work.queries = 20;
    work.keys = 37;
    work.d = work.d_v = head.config.d;
    work.exact = name == "exact";
    work.causal = name == "causal";
    work.mean_row = name == "mean";
    if (work.mean_row) head.config.remainder = Remainder::kMean;
    const fixed::Candidates kept =
        RandomCandidates(work, name == "few" || name == "mean" ? 0.04 : 0.7, random);
    if (!work.exact) work.candidates = &kept;
    head.timeline = Simulate(head.config, work, {.timeline = {{0, 1'000'000}}}).timeline;
    heads.push_back(head);
  }
  return heads;
}

// What a recorder keeps of it for the window: spans that touch it, whole; samples inside.
inline Timeline Cut(const Timeline& all, std::int64_t from, std::int64_t to) {
  Timeline t;
  t.from_cycle = from;
  t.to_cycle = to;
  for (const Span& span : all.spans) {
    if (span.begin_cycle < to && span.end_cycle > from) t.spans.push_back(span);
  }
  for (const QueueSample& sample : all.samples) {
    if (sample.cycle >= from && sample.cycle < to) t.samples.push_back(sample);
  }
  return t;
}

}  // namespace elsa::sim

#endif  // ELSA_SIM_TIMELINE_TESTING_H_
