#include "elsa/sim/machine_top_k.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "elsa/sim/machine_testing.h"

namespace elsa::sim {
namespace {

// One query whose ELSA candidates are the given keys.
fixed::Candidates Chosen(const fixed::Job& job, const std::vector<std::int64_t>& keys) {
  fixed::Candidates candidates = NoCandidates(job.queries, job.keys);
  for (const std::int64_t key : keys) Keep(&candidates, 0, key);
  return candidates;
}

std::int64_t Count(const fixed::Job& job, const std::vector<std::int64_t>& elsa_keys) {
  const fixed::Candidates candidates = Chosen(job, elsa_keys);
  return RunTopK(Config(), job, &candidates, TopKGoal::kEqualMass).kept_pairs;
}

TEST(TopK, IsExactOnHandMadeScores) {
  // Weights 8, 4, 2, 1, 1 by powers of two.
  const fixed::Job job = ScoresJob({0, 3, 1, 2, 0});
  EXPECT_EQ(Count(job, {1}), 1);
  EXPECT_EQ(Count(job, {0}), 1);           // 1 of 16: the best key is enough
  EXPECT_EQ(Count(job, {3, 2, 0}), 1);     // 4 + 2 + 1 < 8
  EXPECT_EQ(Count(job, {3, 2, 0, 4}), 1);  // exactly 8
  EXPECT_EQ(Count(job, {1, 0}), 2);
  EXPECT_EQ(Count(job, {1, 2, 0, 4}), 2);  // 12 = 8 + 4
  EXPECT_EQ(Count(job, {1, 3, 2, 0, 4}), 5);
  EXPECT_EQ(Count(job, {}), 0);
}

TEST(TopK, CountsTheFallbackAsElsas) {
  const fixed::Job job = ScoresJob({0, 3, 1});
  fixed::Candidates candidates = NoCandidates(1, 3);
  candidates.fallback[0] = 2;
  fixed::Candidates kept;
  EXPECT_EQ(RunTopK(Config(), job, &candidates, TopKGoal::kEqualMass, &kept).kept_pairs, 1);
  EXPECT_TRUE(kept.Kept(0, 1));
}

TEST(TopK, NeverKeepsMoreThanElsaNorLessMass) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const fixed::Job job = RandomJob(seed, 25, 70, 8, seed % 2 == 0);
    const fixed::Candidates elsa = RandomCandidates(seed + 100, job, 0.02 + 0.04 * seed);
    fixed::Candidates kept;
    RunTopK(Config(), job, &elsa, TopKGoal::kEqualMass, &kept);
    for (std::int64_t i = 0; i < job.queries; ++i) {
      EXPECT_LE(CountUsed(kept, job, i), CountUsed(elsa, job, i));
      std::vector<std::int64_t> scores;
      IntegerScores(job, i, &scores);
      double elsa_mass = 0, mass = 0, smallest = 1e300;
      for (std::int64_t j = 0; j < job.Visible(i); ++j) {
        const double weight = std::exp2(std::ldexp(static_cast<double>(scores[j]), -8));
        if (Uses(elsa, i, j)) elsa_mass += weight;
        if (Uses(kept, i, j)) mass += weight, smallest = std::min(smallest, weight);
      }
      EXPECT_GE(mass, elsa_mass * (1 - 1e-12));
      EXPECT_LT(mass - smallest, elsa_mass);  // one key fewer is not enough
    }
  }
}

TEST(TopK, EqualCountKeepsAsManyAndTheBest) {
  const fixed::Job job = RandomJob(1, 10, 40, 8);
  const fixed::Candidates elsa = RandomCandidates(2, job, 0.3);
  fixed::Candidates kept;
  RunTopK(Config(), job, &elsa, TopKGoal::kEqualCount, &kept);
  for (std::int64_t i = 0; i < job.queries; ++i) {
    EXPECT_EQ(CountUsed(kept, job, i), CountUsed(elsa, job, i));
    std::vector<std::int64_t> scores;
    IntegerScores(job, i, &scores);
    std::int64_t worst_kept = INT64_MAX, best_dropped = INT64_MIN;
    for (std::int64_t j = 0; j < job.keys; ++j) {
      if (Uses(kept, i, j)) {
        worst_kept = std::min(worst_kept, scores[j]);
      } else {
        best_dropped = std::max(best_dropped, scores[j]);
      }
    }
    EXPECT_GE(worst_kept, best_dropped);
  }
}

TEST(TopK, AllEqualScoresNeedAsManyKeysAsElsa) {
  const fixed::Job job = ScoresJob(std::vector<std::int16_t>(33, 7));
  EXPECT_EQ(Count(job, {0, 5, 31, 32}), 4);
}

TEST(TopK, WithoutCandidatesKeepsWhatSoftmaxSees) {
  const fixed::Job job = RandomJob(7, 5, 20, 8, true);
  for (const TopKGoal goal : {TopKGoal::kEqualMass, TopKGoal::kEqualCount}) {
    EXPECT_EQ(RunTopK(Config(), job, nullptr, goal).kept_pairs, 1 + 2 + 3 + 4 + 5);
  }
}

TEST(TopK, TimeIsTheLargerOfKeysPerBankAndDivision) {
  const fixed::Job job = ScoresJob(std::vector<std::int16_t>(64, 0));
  fixed::Job wide = job;
  wide.d_v = 64;
  // Four banks: 64 equal keys take 16 cycles; 5 keys take 2, the division of 64 values 4.
  EXPECT_EQ(RunTopK(Config(), wide, nullptr, TopKGoal::kEqualMass).cycles, 16);
  const fixed::Candidates five = Chosen(wide, {0, 1, 2, 3, 4});
  EXPECT_EQ(RunTopK(Config(), wide, &five, TopKGoal::kEqualMass).cycles, 4);
  EXPECT_EQ(RunTopK(Config(), job, &five, TopKGoal::kEqualMass).cycles, 2);
}

}  // namespace
}  // namespace elsa::sim
