// The example that docs/reference/accelerator.md computes by hand, cycle by cycle: three queries
// and four keys on configs/tiny.toml.
#include <gtest/gtest.h>

#include <array>
#include <map>
#include <tuple>
#include <vector>

#include "elsa/params/repository_file_test.h"
#include "elsa/sim/accelerator.h"
#include "elsa/sim/testing.h"

namespace elsa::sim {
namespace {

// Execution begins in this cycle: one of command, 19 of preprocessing.
constexpr std::int64_t kBegin = 20;

class ThreeQueries : public testing::Test {
 protected:
  ThreeQueries() {
    config_ = ParseConfig(RepositoryFile("configs/tiny.toml"), "tiny.toml");
    Work work{.queries = 3, .keys = 4, .d = 8, .d_v = 8};
    // Query 0 keeps keys 0 and 2, both in bank 0; query 1 keeps 0 and 1; query 2 none, so that key
    // 3 stands in.
    auto candidates = CandidatesWhere(work, [](auto i, auto j) {
      return (i == 0 && (j == 0 || j == 2)) || (i == 1 && (j == 0 || j == 1));
    });
    candidates.fallback[2] = 3;
    work.candidates = &candidates;
    result_ = Simulate(config_, work, {.record_order = true, .timeline = {{0, 1000}}});
  }
  // Begin and end of the spans of a kind, from the begin of execution: (instance, query, key).
  std::map<std::array<std::int64_t, 3>, std::array<std::int64_t, 2>> Spans(SpanKind kind) {
    std::map<std::array<std::int64_t, 3>, std::array<std::int64_t, 2>> spans;
    for (const Span& span : result_.timeline.spans) {
      if (span.kind != kind) continue;
      spans[{span.instance, span.query, span.key}] = {span.begin_cycle - kBegin,
                                                      span.end_cycle - kBegin};
    }
    return spans;
  }
  using Table = std::map<std::array<std::int64_t, 3>, std::array<std::int64_t, 2>>;
  Config config_;
  Result result_;
};

TEST_F(ThreeQueries, TakeTheCyclesOfTheHandComputedTable) {
  // Preprocessing: the last of four keys is read in its cycle 9 and its norm's chain takes 10.
  EXPECT_EQ(result_.report.preprocess_cycles, 9 + 10);
  EXPECT_EQ(result_.report.execute_cycles, 34);
  EXPECT_EQ(result_.report.cycles, 1 + 19 + 34 + 1);
}

TEST_F(ThreeQueries, HashesRunThreeCyclesApart) {
  EXPECT_EQ(Spans(SpanKind::kHashQuery),
            (Table{{{0, 0, -1}, {12 - 19, 17 - 19}}, {{0, 1, -1}, {0, 5}}, {{0, 2, -1}, {3, 8}}}));
}

TEST_F(ThreeQueries, ScansBeginWhenTheHashIsThere) {
  EXPECT_EQ(Spans(SpanKind::kScan), (Table{{{0, 0, -1}, {0, 1}},
                                           {{1, 0, -1}, {0, 1}},
                                           {{0, 1, -1}, {5, 6}},
                                           {{1, 1, -1}, {5, 6}},
                                           {{0, 2, -1}, {8, 9}},
                                           {{1, 2, -1}, {8, 9}}}));
}

TEST_F(ThreeQueries, CandidatesWaitForTheirTurn) {
  EXPECT_EQ(Spans(SpanKind::kQueued), (Table{{{0, 0, 0}, {5, 6}},  // equal queues: the first
                                             {{0, 0, 2}, {5, 7}},
                                             {{0, 1, 0}, {10, 11}},
                                             {{1, 1, 1}, {10, 11}}}));
  EXPECT_EQ(Spans(SpanKind::kAttend), (Table{{{0, 0, 0}, {5, 17}},
                                             {{0, 0, 2}, {6, 18}},
                                             {{0, 1, 0}, {10, 22}},
                                             {{1, 1, 1}, {10, 22}},
                                             {{1, 2, 3}, {13, 25}}}));
}

TEST_F(ThreeQueries, DividerTakesTwoCyclesAndItsLatency) {
  EXPECT_EQ(Spans(SpanKind::kDivide),
            (Table{{{0, 0, -1}, {18, 27}}, {{0, 1, -1}, {22, 31}}, {{0, 2, -1}, {25, 34}}}));
}

TEST_F(ThreeQueries, CyclesAreAttributedAsInTheTable) {
  const auto cycles = [&](Module module, Cause cause) {
    return result_.report
        .modules[static_cast<std::size_t>(module)][static_cast<std::size_t>(cause)];
  };
  EXPECT_EQ(cycles(Module::kAttentionUnit, Cause::kBusy), 5);
  EXPECT_EQ(cycles(Module::kOutputDivider, Cause::kBusy), 6);
  EXPECT_EQ(cycles(Module::kHashUnit, Cause::kBusy), 5 * 3 + 2 * 3);
  EXPECT_EQ(cycles(Module::kCandidateSelector, Cause::kBusy), 6);
  EXPECT_EQ(result_.order.keys, (std::vector<std::int32_t>{0, 2, 0, 1, 3}));
  EXPECT_EQ(result_.order.begin, (std::vector<std::int64_t>{0, 2, 2, 3, 4, 4, 5}));
}

}  // namespace
}  // namespace elsa::sim
