// Queues, arbiter and back-pressure on hand-made candidates.
#include <gtest/gtest.h>

#include <vector>

#include "elsa/params/latency.h"
#include "elsa/sim/accelerator.h"
#include "elsa/sim/candidate_selector.h"
#include "elsa/sim/testing.h"

namespace elsa::sim {
namespace {

std::int64_t Cycles(const Report& r, Module module, Cause cause) {
  return r.modules[static_cast<std::size_t>(module)][static_cast<std::size_t>(cause)];
}

// 128 keys in 4 banks of 32, 8 selectors a bank: a scan of 4 cycles.
Config SmallMachine(std::int64_t depth) {
  Config config;
  config.n = 128;
  config.queue_depth = depth;
  return config;
}

Result RunKept(const Config& config, std::int64_t queries,
               const std::function<bool(std::int64_t, std::int64_t)>& kept) {
  Work work{.queries = queries, .keys = config.n, .d = 64, .d_v = 64};
  const auto candidates = CandidatesWhere(work, kept);
  work.candidates = &candidates;
  return Simulate(config, work, {.record_order = true, .timeline = {{0, 1'000'000}}});
}

TEST(CandidateQueue, KeepsOrderAndKnowsItsRoom) {
  CandidateQueue queue(3);
  std::int64_t pushed = 0;
  std::int64_t popped = 0;
  for (int round = 0; round < 5; ++round) {
    while (!queue.full()) queue.Push({0, pushed++, 0});
    EXPECT_EQ(queue.size(), 3);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(queue.front().key, popped++);
      queue.Pop();
    }
    EXPECT_EQ(queue.size(), 1);
  }
}

TEST(Arbiter, TakesTheLongestQueueAndTheFirstOfEqualOnes) {
  // Bank 0, rows by selector: selector 2 keeps 3 of its 4 keys, selector 5 keeps 2, selector 1 one.
  // Rows arrive 8 at a time, from the cycle in which row 0's keys can be popped:
  //   1: queues 2, 5, 1 hold one each -> selector 1 (the first)
  //   2: 2 holds two, 5 holds two -> selector 2; and so on.
  const auto kept = [](std::int64_t, std::int64_t j) {
    if (j % 4 != 0) return false;
    const std::int64_t row = j / 4;
    return row == 1 || row == 2 || row == 5 || row == 8 + 2 || row == 8 + 5 || row == 16 + 2;
  };
  const Result r = RunKept(SmallMachine(4), 1, kept);
  // cycle 1: lengths 1:1 2:1 5:1 -> row 1. cycle 2: 2:2 5:2 -> row 2. cycle 3: 2:2 5:2 (row 18 has
  // come) -> row 10. cycle 4: 2:1 5:2 -> row 5. cycle 5: 2:1 5:1 -> row 18. cycle 6: row 13.
  EXPECT_EQ(r.order.keys, (std::vector<std::int32_t>{4, 8, 40, 20, 72, 52}));
}

TEST(Arbiter, KeepsQueriesApartHoweverLongTheirQueues) {
  // Query 0 keeps two keys of one selector, query 1 all keys: query 0's come first nevertheless.
  const Result r = RunKept(SmallMachine(64), 2, [](std::int64_t i, std::int64_t j) {
    return i == 1 || j == 0 || j == 32;
  });
  EXPECT_EQ(r.order.begin[1] - r.order.begin[0], 2);
  EXPECT_EQ(r.order.keys[0], 0);
  EXPECT_EQ(r.order.keys[1], 32);
  EXPECT_EQ(r.order.keys.size(), 2u + 128);
}

TEST(BackPressure, AllCandidatesInOneBankTakeTheirNumberPerQuery) {
  const Result r =
      RunKept(SmallMachine(8), 64, [](std::int64_t, std::int64_t j) { return j % 4 == 2; });
  // Bank 2 picks one in every cycle, 64 x 32; the others wait for it.
  const Latencies l = LatenciesOf(SmallMachine(8));
  EXPECT_EQ(r.report.execute_cycles,
            64 * 32 + l.Select() + (l.Attention() - 1) + (4 - 1) + l.Division());
  EXPECT_EQ(Cycles(r.report, Module::kAttentionUnit, Cause::kBusy), 64 * 32);
  EXPECT_GT(r.report.machine[static_cast<std::size_t>(Cause::kOtherBanks)], 60 * 32);
}

TEST(BackPressure, NoCandidatesAtAllMeanOneFallbackPerQuery) {
  const Result r = RunKept(SmallMachine(8), 64, [](auto, auto) { return false; });
  EXPECT_EQ(r.report.counters.fallback_queries, 64);
  EXPECT_EQ(r.report.counters.candidates, 64);
  EXPECT_EQ(r.report.longest_queue, 0);
  EXPECT_EQ(Cycles(r.report, Module::kCandidateSelector, Cause::kQueueFull), 0);
}

TEST(BackPressure, AllKeysFillTheQueuesAndStopTheScan) {
  for (std::int64_t depth : {1, 2, 3, 8, 64}) {
    const Config config = SmallMachine(depth);
    const Result r = RunKept(config, 16, [](auto, auto) { return true; });
    SCOPED_TRACE(depth);
    EXPECT_LE(r.report.longest_queue, depth);
    EXPECT_EQ(r.report.counters.candidates, 16 * 128);
    // The eight queues of a bank together keep the attention module fed, but for depth 1: a row of
    // eight can follow only when all queues have been seen empty, a cycle after the last pop.
    const Latencies l = LatenciesOf(config);
    const std::int64_t picks = depth == 1 ? 16 * 4 * (8 + 1) - 1 : 16 * 32;
    EXPECT_EQ(r.report.execute_cycles,
              picks + l.Select() + (l.Attention() - 1) + (4 - 1) + l.Division());
    const std::int64_t stalls = Cycles(r.report, Module::kCandidateSelector, Cause::kQueueFull);
    if (depth == 64) {
      EXPECT_EQ(stalls, 0);
    } else {
      EXPECT_GT(stalls, 0);
    }
  }
}

TEST(BackPressure, OneQueueOfDepthOneTakesACandidateEverySecondCycle) {
  // Every kept key belongs to selector 0 of bank 0: a push needs an empty queue, and room made by a
  // pop shows a cycle later. Four keys a query: pushes at cycles 0, 2, 4, 6 of its time.
  Config config = SmallMachine(1);
  const auto kept = [](std::int64_t, std::int64_t j) { return j % 32 == 0; };
  const Result narrow = RunKept(config, 50, kept);
  config.queue_depth = 2;
  const Result wide = RunKept(config, 50, kept);
  EXPECT_NEAR(narrow.report.execute_cycles, 50 * 8, 40);
  EXPECT_NEAR(wide.report.execute_cycles, 50 * 4, 40);
  EXPECT_GE(Cycles(narrow.report, Module::kCandidateSelector, Cause::kQueueFull), 50 * 3);
}

TEST(BackPressure, SlowDividerHoldsUpTheBanks) {
  Config config = SmallMachine(8);
  config.division_multipliers = 1;  // 64 cycles a query, against 8 candidates a bank
  const Result r = RunKept(config, 40, [](std::int64_t, std::int64_t j) { return j < 32; });
  const Latencies l = LatenciesOf(config);
  const std::int64_t first_sums = l.Select() + 8 - 1 + l.Attention();
  EXPECT_EQ(r.report.execute_cycles, first_sums + 40 * 64 - 1 + l.Division());
  EXPECT_GT(Cycles(r.report, Module::kAttentionUnit, Cause::kDivision), 4 * 30 * 40);
  EXPECT_GT(r.report.machine[static_cast<std::size_t>(Cause::kDivision)], 30 * 40);
}

TEST(BackPressure, BankImbalanceCostsWhatTheSlowestBankNeeds) {
  // Bank 0 gets 24 candidates of every even query, bank 1 of every odd one. One output buffer
  // lets a bank run one query ahead: over two queries each bank needs 24 cycles, not 48.
  const Result r = RunKept(SmallMachine(8), 100, [](std::int64_t i, std::int64_t j) {
    return j % 4 == i % 2 && j / 4 < 24;
  });
  EXPECT_GT(r.report.execute_cycles, 100 * 12);
  EXPECT_LT(r.report.execute_cycles, 100 * 24);
}

TEST(BackPressure, MoreQueryBuffersNeverHurtAndHideTheLatencyOfShortScans) {
  Config config = SmallMachine(8);
  std::int64_t last = 1 << 30;
  for (std::int64_t buffers : {2, 3, 4, 6, 8, 16}) {
    config.query_buffers = buffers;
    const Result r = RunKept(config, 128, [](std::int64_t, std::int64_t j) { return j < 8; });
    EXPECT_LE(r.report.execute_cycles, last);
    last = r.report.execute_cycles;
  }
  EXPECT_LT(last, 128 * 4 + 60);  // the scan's 4 cycles a query, and the fill
}

}  // namespace
}  // namespace elsa::sim
