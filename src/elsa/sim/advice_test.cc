#include "elsa/sim/advice.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "elsa/sim/testing.h"

namespace elsa::sim {
namespace {

Advice AdviseOn(const Config& config, double share, std::int64_t queries = 128) {
  Work work{.queries = queries, .keys = config.n, .d = 64, .d_v = 64};
  Random random(4);
  const auto candidates = RandomCandidates(work, share, random);
  work.candidates = &candidates;
  return Advise(config, {&work, 1});
}

std::string_view Best(const Advice& advice) { return advice.trials.front().parameter; }

TEST(Advice, NamesTheStageThatWasMadeSlow) {
  Config config;
  config.n = 256;
  EXPECT_EQ(Best(AdviseOn(config, 0.9)), "machine.banks");  // attention: 58 of 64 keys a bank

  Config few_selectors = config;
  few_selectors.selectors_per_bank = 1;
  const Advice scan = AdviseOn(few_selectors, 0.02);
  EXPECT_EQ(scan.bound, Cause::kSelection);
  // Twice the banks also halve each bank's scan; twice the selectors do it for less.
  EXPECT_TRUE(Best(scan) == "machine.selectors_per_bank" || Best(scan) == "machine.banks");
  EXPECT_GT(scan.trials.front().speedup, 1.5);

  Config slow_division = config;
  slow_division.division_multipliers = 1;
  const Advice division = AdviseOn(slow_division, 0.02);
  EXPECT_EQ(Best(division), "machine.division_multipliers");
  EXPECT_EQ(division.bound, Cause::kDivision);

  Config slow_hash = config;
  slow_hash.hash_multipliers = 12;  // 64 cycles a hash
  const Advice hash = AdviseOn(slow_hash, 0.02);
  EXPECT_EQ(Best(hash), "machine.hash_multipliers");
  EXPECT_EQ(hash.bound, Cause::kHash);
  EXPECT_NE(hash.sentence.find("hash_multipliers 12 -> 24"), std::string::npos) << hash.sentence;
}

TEST(Advice, TrialsAreSortedAndTheirCyclesAreThoseOfTheLargerMachine) {
  Config config;
  config.n = 128;
  Work work{.queries = 64, .keys = 128, .d = 64, .d_v = 64};
  Random random(5);
  const auto candidates = RandomCandidates(work, 0.2, random);
  work.candidates = &candidates;
  const Advice advice = Advise(config, {&work, 1});
  EXPECT_TRUE(std::is_sorted(advice.trials.begin(), advice.trials.end(),
                             [](const Trial& a, const Trial& b) { return a.cycles < b.cycles; }));
  for (const Trial& trial : advice.trials) {
    Config changed = config;
    const auto field = std::find_if(Fields().begin(), Fields().end(),
                                    [&](const Field& f) { return f.key == trial.parameter; });
    SetValue(&changed, *field, std::to_string(trial.to));
    EXPECT_EQ(trial.cycles, Simulate(changed, work).report.cycles) << trial.parameter;
  }
}

TEST(Advice, TriesTheLargestValueWhereTwiceIsTooMuch) {
  Config config;
  config.n = 64;
  config.query_buffers = 9;
  const Advice advice = AdviseOn(config, 0.1, 16);
  const auto trial = std::find_if(advice.trials.begin(), advice.trials.end(), [](const Trial& t) {
    return t.parameter == "machine.query_buffers";
  });
  ASSERT_NE(trial, advice.trials.end());
  EXPECT_EQ(trial->to, 16);
}

TEST(Advice, LeavesOutWhatCannotGrow) {
  Config config;
  config.n = 4;  // one key a bank: no more banks, no more selectors
  config.selectors_per_bank = 1;
  config.hash_multipliers = 768;
  config.division_multipliers = 64;
  config.queue_depth = 4096;
  config.query_buffers = 16;
  const Work work{.queries = 4, .keys = 4, .d = 64, .d_v = 64, .exact = true};
  const Advice advice = Advise(config, {&work, 1});
  EXPECT_TRUE(advice.trials.empty());
  EXPECT_NE(advice.sentence.find("No parameter of this machine can grow"), std::string::npos);
}

}  // namespace
}  // namespace elsa::sim
