#include "elsa/sim/machine_spatten.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/sim/machine_testing.h"

namespace elsa::sim {
namespace {

TEST(SpattenQuickSelect, CountsThePassesOfHandMadeScores) {
  SpattenOptions options;
  options.comparators = 2;
  options.pass_cycles = 1;
  // Pivot 7 of 5 scores: 3 + 1 cycles. One is larger, so the largest needs a pass over {9}.
  EXPECT_EQ(QuickSelectCycles({1, 9, 7, 3, 5}, 2, options), 4);
  EXPECT_EQ(QuickSelectCycles({1, 9, 7, 3, 5}, 1, options), 4 + 2);
  // Third largest: of {1, 3, 5} the first; pivot 3, then {5}.
  EXPECT_EQ(QuickSelectCycles({1, 9, 7, 3, 5}, 3, options), 4 + 3 + 2);
  EXPECT_EQ(QuickSelectCycles({4}, 1, options), 2);
  EXPECT_EQ(QuickSelectCycles(std::vector<std::int64_t>(9, 4), 5, options), 6);  // all equal
}

TEST(SpattenQuickSelect, TakesAtLeastOnePassAndAtMostOnePerScore) {
  Random random(4);
  SpattenOptions options;
  for (int round = 0; round < 50; ++round) {
    std::vector<std::int64_t> scores(100);
    for (auto& score : scores) score = static_cast<std::int64_t>(random.Below(1000));
    const std::int64_t cycles = QuickSelectCycles(scores, 1 + round, options);
    EXPECT_GE(cycles, 7 + 3);
    EXPECT_LE(cycles, 100 * 10);
  }
}

TEST(Spatten, KeepsTheShareOfBestScoresOfEachQuery) {
  const fixed::Job job = RandomJob(2, 20, 33, 8, true);
  for (const double share : {0.01, 0.25, 0.5, 0.99, 1.0}) {
    SpattenOptions options;
    options.value_keep = share;
    fixed::Candidates kept;
    const MachineResult result = RunSpatten(Config(), job, options, nullptr, &kept);
    for (std::int64_t i = 0; i < job.queries; ++i) {
      EXPECT_EQ(CountUsed(kept, job, i), std::ceil(share * static_cast<double>(job.Visible(i))));
      std::vector<std::int64_t> scores;
      IntegerScores(job, i, &scores);
      std::int64_t worst_kept = INT64_MAX, best_dropped = INT64_MIN;
      for (std::int64_t j = 0; j < job.Visible(i); ++j) {
        if (kept.Kept(i, j)) {
          worst_kept = std::min(worst_kept, scores[j]);
        } else {
          best_dropped = std::max(best_dropped, scores[j]);
        }
      }
      EXPECT_GE(worst_kept, best_dropped);
    }
    EXPECT_EQ(result.scored_pairs, result.pairs);  // every score is computed
  }
}

TEST(Spatten, KeepingAllIsTheIdealMachinesTime) {
  SpattenOptions options;
  options.value_keep = 1;
  const MachineResult result = RunSpatten(Config(), ZeroJob(100, 100, 64), options);
  EXPECT_NEAR(result.cycles, 2.0 * 100 * 100 * 64 / 528, 1e-9);
  EXPECT_EQ(result.selection_cycles, 0);
}

TEST(Spatten, EngineOrMultipliersSetThePace) {
  // 64 equal scores: one pass of 64 / 16 + 3 cycles; (64 + 32) * 64 / 528 = 11.6 is longer.
  SpattenOptions options;
  EXPECT_NEAR(RunSpatten(Config(), ZeroJob(1, 64, 64), options).cycles, 96 * 64.0 / 528, 1e-12);
  options.comparators = 1;
  const MachineResult slow = RunSpatten(Config(), ZeroJob(1, 64, 64), options);
  EXPECT_EQ(slow.cycles, 67);
  EXPECT_EQ(slow.selection_cycles, 67);
}

TEST(Spatten, EqualScoresKeepTheFirst) {
  SpattenOptions options;
  options.value_keep = 0.3;
  fixed::Candidates kept;
  RunSpatten(Config(), ZeroJob(1, 10, 4), options, nullptr, &kept);
  EXPECT_EQ(kept.bits[0], 0b111u);
}

TEST(Spatten, OneKeyIsKept) {
  EXPECT_EQ(RunSpatten(Config(), ZeroJob(1, 1, 64), {}).kept_pairs, 1);
}

TEST(SpattenTokens, ImportanceIsTheSoftmaxWeightThatAKeyReceives) {
  // Two queries with weights (1/2, 1/4, 1/4) and, negated scores, (1/5, 2/5, 2/5).
  fixed::Job job = ZeroJob(2, 3, 1);
  job.query = {1, -1};
  job.key = {1, 0, 0};
  SpattenTokens tokens;
  RunSpatten(Config(), job, {}, &tokens);
  EXPECT_NEAR(tokens.importance[0], 0.5 + 0.2, 1e-12);
  EXPECT_NEAR(tokens.importance[1], 0.25 + 0.4, 1e-12);
  EXPECT_NEAR(tokens.importance[2], 0.25 + 0.4, 1e-12);
  RunSpatten(Config(), job, {}, &tokens);  // another head of the layer
  EXPECT_NEAR(tokens.importance[0], 1.4, 1e-12);
}

TEST(SpattenTokens, PruningKillsTheLeastImportantAndNeverRevives) {
  SpattenTokens tokens;
  tokens.importance = {5, 1, 3, 1, 9};
  tokens.alive.assign(5, 1);
  PruneTokens(0.7, &tokens);  // ceil(3.5) = 4 live: of the two equal ones the first
  EXPECT_EQ(tokens.alive, (std::vector<std::uint8_t>{1, 1, 1, 0, 1}));
  tokens.importance[3] = 100;
  PruneTokens(0.4, &tokens);
  EXPECT_EQ(tokens.alive, (std::vector<std::uint8_t>{1, 0, 0, 0, 1}));
  PruneTokens(1, &tokens);
  EXPECT_EQ(tokens.alive, (std::vector<std::uint8_t>{1, 0, 0, 0, 1}));
  EXPECT_THROW(PruneTokens(0, &tokens), Error);
}

TEST(SpattenTokens, DeadTokensAreNeitherKeysNorQueries) {
  const fixed::Job job = RandomJob(3, 10, 10, 8);
  SpattenTokens tokens;
  RunSpatten(Config(), job, {}, &tokens);
  PruneTokens(0.6, &tokens);
  SpattenOptions options;
  options.value_keep = 1;
  fixed::Candidates kept;
  const MachineResult result = RunSpatten(Config(), job, options, &tokens, &kept);
  EXPECT_EQ(result.kept_pairs, 6 * 6);
  EXPECT_EQ(result.scored_pairs, 6 * 6);
  for (std::int64_t i = 0; i < 10; ++i) {
    for (std::int64_t j = 0; j < 10; ++j) {
      EXPECT_EQ(kept.Kept(i, j), tokens.alive[i] != 0 && tokens.alive[j] != 0);
    }
  }
}

TEST(SpattenTokens, OfAnotherLengthAreRefused) {
  SpattenTokens tokens;
  RunSpatten(Config(), ZeroJob(4, 4, 4), {}, &tokens);
  EXPECT_THROW(RunSpatten(Config(), ZeroJob(5, 5, 4), {}, &tokens), Error);
}

TEST(Spatten, RefusesOptionsOutOfRange) {
  SpattenOptions options;
  options.value_keep = 0;
  EXPECT_THROW(RunSpatten(Config(), ZeroJob(2, 2, 2), options), Error);
  options = {};
  options.comparators = 0;
  EXPECT_THROW(RunSpatten(Config(), ZeroJob(2, 2, 2), options), Error);
}

}  // namespace
}  // namespace elsa::sim
