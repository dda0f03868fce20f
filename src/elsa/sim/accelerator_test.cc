#include "elsa/sim/accelerator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "elsa/base/error.h"
#include "elsa/params/derived.h"
#include "elsa/params/latency.h"
#include "elsa/sim/testing.h"

namespace elsa::sim {
namespace {

std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

Work FullWork(const Config& config) {
  return {.queries = config.n, .keys = config.n, .d = config.d, .d_v = config.d};
}

// Every cycle has one cause, of the machine and of each module.
void ExpectCausesSumUp(const Report& r) {
  EXPECT_EQ(Sum(r.machine), r.cycles);
  EXPECT_EQ(r.command_cycles + r.copy_cycles + r.preprocess_cycles + r.execute_cycles, r.cycles);
  for (std::size_t m = 0; m < kModules; ++m) {
    EXPECT_EQ(Sum(r.modules[m]), r.cycles * r.instances[m]) << Name(static_cast<Module>(m));
  }
}

std::int64_t Busy(const Report& r, Module module) {
  return r.modules[static_cast<std::size_t>(module)][static_cast<std::size_t>(Cause::kBusy)];
}

// The fill of the execution phase: the first pick comes when the query's vector has been read, or
// the first key has been tested; after the last pick, the sums, all groups of the last query's
// components and their quotients.
std::int64_t Fill(const Config& config, bool exact, std::int64_t d_v) {
  const Latencies l = LatenciesOf(config);
  const std::int64_t first_pick = exact ? l.query_read_cycles : l.Select();
  const std::int64_t groups = CeilDiv(d_v, config.division_multipliers);
  return first_pick + (l.Attention() - 1) + (groups - 1) + l.Division();
}

TEST(Accelerator, ExactModeTakes65536CyclesAndTheFill) {
  const Config config;
  Work work = FullWork(config);
  work.exact = true;
  const Report r = Simulate(config, work).report;
  EXPECT_EQ(r.execute_cycles, 65536 + Fill(config, true, 64));
  EXPECT_EQ(Fill(config, true, 64), 25);  // as docs/reference/accelerator.md states
  EXPECT_EQ(r.preprocess_cycles, 0);
  EXPECT_EQ(Busy(r, Module::kAttentionUnit), 4 * 65536);
  EXPECT_EQ(r.counters.candidates, 512 * 512);
  const double ideal = Derive(config).ideal_cycles;
  EXPECT_NEAR(static_cast<double>(r.cycles) / ideal, 1.031, 0.001);
  ExpectCausesSumUp(r);
}

TEST(Accelerator, PreprocessingTakes1539CyclesAndTheFill) {
  const Config config;
  Work work = FullWork(config);
  const auto candidates = CandidatesWhere(work, [](auto, auto j) { return j % 16 < 4; });
  work.candidates = &candidates;
  const Report r = Simulate(config, work).report;
  EXPECT_EQ(Busy(r, Module::kHashUnit), 1539 + 511 * 3);
  // The last key's norm takes longer than the first query's hash.
  const Latencies l = LatenciesOf(config);
  EXPECT_EQ(r.preprocess_cycles, 511 * 3 + l.Norm());
  EXPECT_EQ(r.preprocess_cycles, 1539 + 5);
  ExpectCausesSumUp(r);
}

// The closed form of Sec. IV-D per query, on inputs of which every query keeps the same number of
// keys in each bank, spread so that the queues never fill.
TEST(Accelerator, QueryTakesTheSlowestStageWhereverNoQueueFills) {
  for (std::int64_t banks : {1, 2, 4}) {
    for (std::int64_t selectors : {1, 4, 8}) {
      for (std::int64_t hash_multipliers : {24, 64, 256}) {
        for (std::int64_t division_multipliers : {1, 4, 16}) {
          for (std::int64_t kept_every : {1, 2, 5, 64}) {
            Config config;
            config.n = 256;
            config.banks = banks;
            config.selectors_per_bank = selectors;
            config.hash_multipliers = hash_multipliers;
            config.division_multipliers = division_multipliers;
            config.query_buffers = 16;
            config.queue_depth = 1024;
            Work work = FullWork(config);
            const auto candidates =
                CandidatesWhere(work, [&](auto, auto j) { return (j / banks) % kept_every == 0; });
            work.candidates = &candidates;
            const Report r = Simulate(config, work).report;
            const std::int64_t rows = config.n / banks;
            const std::int64_t hash = 768 / hash_multipliers;
            const std::int64_t scan = CeilDiv(rows, selectors);
            const std::int64_t kept = CeilDiv(rows, kept_every);
            const std::int64_t divide = 64 / division_multipliers;
            const std::int64_t slowest = std::max({hash, scan, kept, divide});
            // Before the first query's stage that decides and after the last one there is at most
            // one pass through all stages.
            const Latencies l = LatenciesOf(config);
            const std::int64_t pass =
                hash + scan + kept + divide + l.Hash() + l.Select() + l.Attention() + l.Division();
            SCOPED_TRACE(testing::Message() << banks << " " << selectors << " " << hash_multipliers
                                            << " " << division_multipliers << " " << kept_every);
            EXPECT_GE(r.execute_cycles, 256 * slowest);
            EXPECT_LE(r.execute_cycles, 255 * slowest + pass);
            ExpectCausesSumUp(r);
          }
        }
      }
    }
  }
}

TEST(Accelerator, GainEndsAtTheNumberOfSelectors) {
  const Config config;
  Work work = FullWork(config);
  Work exact = work;
  exact.exact = true;
  const double base = static_cast<double>(Simulate(config, exact).report.execute_cycles);
  for (const auto& [kept_every, gain] : {std::pair{4, 4.0}, {8, 8.0}, {16, 8.0}, {64, 8.0}}) {
    const auto candidates =
        CandidatesWhere(work, [every = kept_every](auto, auto j) { return (j / 4) % every == 0; });
    work.candidates = &candidates;
    const double cycles = static_cast<double>(Simulate(config, work).report.execute_cycles);
    EXPECT_NEAR(base / cycles, gain, 0.01 * gain) << kept_every;
  }
}

// What holds whatever the candidates: no stage works faster than its rate, and queries never wait
// longer than the sum of what the stages take.
TEST(Accelerator, StaysBetweenTheStagesBoundsOnRandomInput) {
  Random random(5);
  for (int round = 0; round < 60; ++round) {
    Config config;
    config.n = 128;
    config.queue_depth = 1 + static_cast<std::int64_t>(random.Below(20));
    config.query_buffers = 2 + static_cast<std::int64_t>(random.Below(8));
    Work work = FullWork(config);
    work.queries = 1 + static_cast<std::int64_t>(random.Below(128));
    work.keys = 1 + static_cast<std::int64_t>(random.Below(128));
    const auto candidates = RandomCandidates(work, random.Uniform() * 0.6, random);
    work.candidates = &candidates;
    const Report r = Simulate(config, work).report;
    std::int64_t longest = 0;
    std::int64_t slowest_sum = 0;
    std::vector<std::int64_t> by_bank(4);
    for (std::int64_t i = 0; i < work.queries; ++i) {
      std::vector<std::int64_t> kept(4);
      for (std::int64_t j = 0; j < work.keys; ++j) {
        if (candidates.Kept(i, j) || candidates.fallback[i] == j) ++kept[j % 4];
      }
      std::int64_t most = CeilDiv(CeilDiv(work.keys, 4), 8);
      for (int b = 0; b < 4; ++b) {
        by_bank[b] += kept[b];
        most = std::max(most, kept[b]);
      }
      slowest_sum += most;
    }
    longest = *std::max_element(by_bank.begin(), by_bank.end());
    EXPECT_GE(r.execute_cycles, longest);
    EXPECT_GE(r.execute_cycles, work.queries * 4);  // the divider
    const Latencies l = LatenciesOf(config);
    const std::int64_t latencies = l.Hash() + l.Select() + l.Attention() + l.Division() + 16;
    EXPECT_LE(r.execute_cycles, slowest_sum + (work.queries + 1) * latencies + 2 * longest);
    EXPECT_EQ(r.counters.candidates, by_bank[0] + by_bank[1] + by_bank[2] + by_bank[3]);
    ExpectCausesSumUp(r);
  }
}

TEST(Accelerator, OrderHoldsEveryCandidateOnceInItsBank) {
  Random random(6);
  for (const bool causal : {false, true}) {
    Config config;
    config.n = 64;
    config.queue_depth = 2;
    Work work{.queries = 50, .keys = 61, .d = 64, .d_v = 64, .causal = causal};
    const auto candidates = RandomCandidates(work, 0.2, random);
    work.candidates = &candidates;
    const Result result = Simulate(config, work, {.record_order = true, .timeline = {}});
    ASSERT_EQ(result.order.begin.size(), 50u * 4 + 1);
    for (std::int64_t i = 0; i < 50; ++i) {
      std::set<std::int64_t> keys;
      for (std::int64_t b = 0; b < 4; ++b) {
        for (auto at = result.order.begin[i * 4 + b]; at < result.order.begin[i * 4 + b + 1];
             ++at) {
          EXPECT_EQ(result.order.keys[at] % 4, b);
          EXPECT_TRUE(keys.insert(result.order.keys[at]).second);
        }
      }
      std::set<std::int64_t> expected;
      for (std::int64_t j = 0; j < 61; ++j) {
        if (candidates.Kept(i, j) || candidates.fallback[i] == j) expected.insert(j);
      }
      EXPECT_EQ(keys, expected) << i;
    }
    Work exact = work;
    exact.exact = true;
    const Result all = Simulate(config, exact, {.record_order = true, .timeline = {}});
    EXPECT_EQ(static_cast<std::int64_t>(all.order.keys.size()), all.report.counters.pairs);
    EXPECT_EQ(all.report.counters.pairs, causal ? 50 * 51 / 2 : 50 * 61);
  }
}

TEST(Accelerator, CopiesCostTheirBytes) {
  Config config;
  config.transfer = HostTransfer::kCopy;
  Work work{.queries = 100, .keys = 200, .d = 32, .d_v = 32, .exact = true};
  const Report copied = Simulate(config, work).report;
  // 9 bits a component: 100 x 32, twice 200 x 32 in; 100 x 32 out; 64 bytes a cycle.
  EXPECT_EQ(copied.copy_cycles, CeilDiv(3600 + 2 * 7200, 64) + CeilDiv(3600, 64));
  EXPECT_EQ(copied.counters.copied_bytes, 2 * 3600 + 2 * 7200);
  config.transfer = HostTransfer::kReference;
  const Report referenced = Simulate(config, work).report;
  EXPECT_EQ(referenced.cycles, copied.cycles - copied.copy_cycles);
  ExpectCausesSumUp(copied);
}

TEST(Accelerator, ShortInputsTakeWhatTheyNeed) {
  const Config config;
  Work work{.queries = 100, .keys = 100, .d = 32, .d_v = 32, .exact = true};
  // Not divisible by anything: 25 keys a bank, 2 groups of 16 outputs.
  EXPECT_EQ(Simulate(config, work).report.execute_cycles, 100 * 25 + Fill(config, true, 32));
  work = {.queries = 3, .keys = 2, .d = 64, .d_v = 64, .exact = true};  // two banks have no key
  const Report r = Simulate(config, work).report;
  EXPECT_EQ(r.counters.candidates, 6);
  ExpectCausesSumUp(r);
}

TEST(Accelerator, NothingToDoIsACommandAndItsCompletion) {
  const Config config;
  for (const Work& work : {Work{.queries = 0, .keys = 5, .d = 64, .d_v = 64},
                           Work{.queries = 5, .keys = 0, .d = 64, .d_v = 64}}) {
    const Report r = Simulate(config, work).report;
    EXPECT_EQ(r.cycles, 2);
    EXPECT_EQ(r.counters.candidates, 0);
    ExpectCausesSumUp(r);
  }
}

TEST(Accelerator, MeanRowIsOneMoreCandidateOfTheLastBank) {
  Config config;
  config.remainder = Remainder::kMean;
  Work work = FullWork(config);
  work.mean_row = true;
  // Query 0 keeps all: no mean row. The others keep every 16th row of each bank.
  const auto candidates =
      CandidatesWhere(work, [](auto i, auto j) { return i == 0 || (j / 4) % 16 == 0; });
  work.candidates = &candidates;
  const Report r = Simulate(config, work).report;
  EXPECT_EQ(r.counters.mean_rows, 511);
  EXPECT_EQ(r.counters.candidates, 512 + 511 * 32);
  ExpectCausesSumUp(r);
}

TEST(Accelerator, CausalQueriesScanOnlyWhatTheySee) {
  Config config;
  Work work{.queries = 256, .keys = 256, .d = 64, .d_v = 64, .causal = true};
  const auto candidates = CandidatesWhere(work, [](auto i, auto j) { return i == j; });
  work.candidates = &candidates;
  const Report r = Simulate(config, work).report;
  EXPECT_EQ(r.counters.key_tests, 256 * 257 / 2);
  EXPECT_EQ(r.counters.pairs, 256 * 257 / 2);
  EXPECT_EQ(r.counters.candidates, 256);
  ExpectCausesSumUp(r);
}

TEST(Accelerator, CountsAreThoseOfTheInput) {
  Config config;
  Work work{.queries = 40, .keys = 70, .d = 64, .d_v = 64};
  const auto candidates = CandidatesWhere(work, [](auto i, auto j) { return i % 2 == 0 && j < 7; });
  work.candidates = &candidates;
  const Counters c = Simulate(config, work).report.counters;
  EXPECT_EQ(c.hashes, 110);
  EXPECT_EQ(c.norms, 70);
  EXPECT_EQ(c.key_tests, 40 * 70);
  EXPECT_EQ(c.scan_rows, 40 * 4 * 3);  // 18 or 17 keys a bank, 8 at once
  EXPECT_EQ(c.candidates, 20 * 7 + 20);
  EXPECT_EQ(c.fallback_queries, 20);
  EXPECT_EQ(c.key_row_reads, 70 + c.candidates);
  EXPECT_EQ(c.value_row_reads, c.candidates);
  EXPECT_EQ(c.query_row_reads, 40);
  EXPECT_EQ(c.divided_rows, 40);
}

TEST(Accelerator, RefusesWorkThatItCannotDo) {
  const Config config;
  const auto message = [&](const Work& work) -> std::string {
    try {
      Simulate(config, work);
    } catch (const Error& error) {
      return std::string(ErrorCodeName(error.code())) + "; " + error.what();
    }
    return "no error";
  };
  Work work{.queries = 4, .keys = 4, .d = 64, .d_v = 64, .exact = true};
  const auto with = [&](auto member, std::int64_t value) {
    Work changed = work;
    changed.*member = value;
    return message(changed);
  };
  EXPECT_EQ(with(&Work::queries, 513),
            "mismatch; queries: expected at most the machine's 512, got 513");
  EXPECT_EQ(with(&Work::keys, 1000),
            "mismatch; keys: expected at most the machine's 512, got 1000");
  EXPECT_EQ(with(&Work::d, 65), "mismatch; d: expected at most the machine's 64, got 65");
  EXPECT_EQ(with(&Work::d_v, 65), "mismatch; d_v: expected at most the machine's 64, got 65");
  EXPECT_EQ(with(&Work::d_v, 0), "mismatch; d, d_v: expected at least 1, got 64 and 0");
  work.exact = false;
  EXPECT_EQ(message(work),
            "mismatch; candidates: expected those of 4 queries and 4 keys, got others");
  work.exact = true;
  work.mean_row = true;
  EXPECT_EQ(message(work),
            "mismatch; machine.remainder: expected mean for a plan with the mean row, got none");
}

TEST(Report, SumsAndNamesAreComplete) {
  std::set<std::string_view> names;
  for (std::size_t c = 0; c < kCauses; ++c) names.insert(Name(static_cast<Cause>(c)));
  EXPECT_EQ(names.size(), kCauses);
  names.clear();
  for (std::size_t m = 0; m < kModules; ++m) names.insert(Name(static_cast<Module>(m)));
  EXPECT_EQ(names.size(), kModules);
  const Config config;
  Work work{.queries = 9, .keys = 9, .d = 64, .d_v = 64, .exact = true};
  const Report one = Simulate(config, work).report;
  Report two = one;
  two += one;
  EXPECT_EQ(two.cycles, 2 * one.cycles);
  EXPECT_EQ(two.heads, 2);
  EXPECT_EQ(two.counters.candidates, 2 * 81);
  EXPECT_EQ(two.counters.pairs, 2 * 81);
  ExpectCausesSumUp(two);
}

}  // namespace
}  // namespace elsa::sim
