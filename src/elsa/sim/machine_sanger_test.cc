#include "elsa/sim/machine_sanger.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/sim/machine_testing.h"

namespace elsa::sim {
namespace {

TEST(SangerPacking, CountsSegmentsOfHandMadeMasks) {
  const fixed::Job job = ZeroJob(2, 10, 4);
  fixed::Candidates mask = NoCandidates(2, 10);
  EXPECT_EQ(PackedSegments(mask, job, 4, 2), 0);
  for (const std::int64_t key : {0, 1, 2}) Keep(&mask, 0, key);  // group 0-3: 2 + 1
  EXPECT_EQ(PackedSegments(mask, job, 4, 2), 2);
  Keep(&mask, 0, 3);  // 2 + 2
  EXPECT_EQ(PackedSegments(mask, job, 4, 2), 2);
  Keep(&mask, 0, 9);  // group 8-9: 1
  EXPECT_EQ(PackedSegments(mask, job, 4, 2), 3);
  mask.fallback[1] = 5;  // the other query: 1
  EXPECT_EQ(PackedSegments(mask, job, 4, 2), 4);
  EXPECT_EQ(PackedSegments(mask, job, 10, 2), 3 + 1);  // one group: ceil(5 / 2)
  EXPECT_EQ(PackedSegments(mask, job, 4, 4), 2 + 1);
}

TEST(SangerPacking, BroadMultipliersSplitIntoWholeParts) {
  EXPECT_EQ(ProductsPerMultiplier(9, 4), 4);
  EXPECT_EQ(ProductsPerMultiplier(8, 4), 4);
  EXPECT_EQ(ProductsPerMultiplier(12, 4), 9);
  EXPECT_EQ(ProductsPerMultiplier(9, 9), 1);
  EXPECT_EQ(ProductsPerMultiplier(4, 8), 1);
}

// With components of one magnitude, unit rows need two levels only: the prediction is exact.
fixed::Job SignJob(std::uint64_t seed, std::int64_t n, std::int64_t d, bool causal) {
  fixed::Job job = ZeroJob(n, n, d, causal);
  Random random(seed);
  for (auto& value : job.query) value = random.Below(2) == 0 ? -3 : 3;
  for (auto& value : job.key) value = random.Below(2) == 0 ? -5 : 5;
  job.score_constant = {1, -5};
  return job;
}

TEST(SangerPrediction, IsExactWhereFourBitsAreEnough) {
  const fixed::Job job = SignJob(1, 40, 16, true);
  const double threshold = 0.03;
  SangerOptions options;
  options.weight_threshold = threshold;
  const fixed::Candidates mask = PredictMask(job, options);
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < job.queries; ++i) {
    std::vector<std::int64_t> scores;
    IntegerScores(job, i, &scores);
    double sum = 0;
    for (const std::int64_t score : scores) sum += std::exp2(std::ldexp(score, -5));
    for (std::int64_t j = 0; j < job.Visible(i); ++j) {
      const double weight = std::exp2(std::ldexp(scores[j], -5)) / sum;
      ASSERT_GT(std::abs(weight - threshold), 1e-6);
      EXPECT_EQ(mask.Kept(i, j), weight > threshold);
      kept += mask.Kept(i, j) ? 1 : 0;
    }
    for (std::int64_t j = job.Visible(i); j < job.keys; ++j) EXPECT_FALSE(Uses(mask, i, j));
  }
  EXPECT_GT(kept, 40);
  EXPECT_LT(kept, 40 * 41 / 2);
}

TEST(SangerPrediction, KeepsTheBestWhereNoneIsAboveTheThreshold) {
  fixed::Job job = ZeroJob(1, 10, 2);  // ten equal weights of 0.1
  SangerOptions options;
  options.weight_threshold = 0.1;
  fixed::Candidates mask = PredictMask(job, options);
  EXPECT_EQ(mask.bits[0], 0u);
  EXPECT_EQ(mask.fallback[0], 0);
  options.weight_threshold = 0.09;
  mask = PredictMask(job, options);
  EXPECT_EQ(mask.bits[0], 0x3ffu);
  EXPECT_EQ(mask.fallback[0], -1);
}

TEST(SangerPrediction, MoreBitsComeCloserToTheExactMask) {
  const fixed::Job job = RandomJob(9, 60, 60, 16);
  const auto wrong = [&](std::int64_t bits) {
    SangerOptions exact, options;
    exact.prediction_bits = 16;
    options.prediction_bits = bits;
    exact.weight_threshold = options.weight_threshold = 0.02;
    const fixed::Candidates a = PredictMask(job, exact);
    const fixed::Candidates b = PredictMask(job, options);
    std::int64_t count = 0;
    for (std::int64_t i = 0; i < 60; ++i) {
      for (std::int64_t j = 0; j < 60; ++j) count += a.Kept(i, j) != b.Kept(i, j) ? 1 : 0;
    }
    return count;
  };
  EXPECT_GT(wrong(2), wrong(4));
  EXPECT_GT(wrong(4), wrong(8));
  EXPECT_EQ(wrong(16), 0);
}

TEST(Sanger, HigherThresholdsKeepFewerPairsInLessTime) {
  const fixed::Job job = RandomJob(10, 64, 64, 16);
  double cycles = 1e300;
  std::int64_t kept = INT64_MAX;
  for (const double threshold : {0.0, 1e-4, 2e-3, 2e-2, 0.2, 0.9}) {
    SangerOptions options;
    options.weight_threshold = threshold;
    const MachineResult result = RunSanger(Config(), job, options);
    EXPECT_LE(result.kept_pairs, kept);
    EXPECT_LE(result.cycles, cycles);
    cycles = result.cycles;
    kept = result.kept_pairs;
  }
  EXPECT_EQ(kept, 64);  // one key per query is left
}

TEST(Sanger, KeepingAllTakesPredictionAndEveryPair) {
  SangerOptions options;
  options.weight_threshold = 0;
  const MachineResult result = RunSanger(Config(), ZeroJob(512, 512, 64), options);
  EXPECT_EQ(result.kept_pairs, 512 * 512);
  EXPECT_EQ(result.selection_cycles, std::ceil(512.0 * 512 * 64 / (528 * 4)));
  // 33 rows of 16: 512 queries of 32 full segments each, 128 cycles per step.
  EXPECT_EQ(result.cycles, result.selection_cycles + std::ceil(512.0 * 32 / 33) * 128);
  EXPECT_EQ(result.packed_slots, 497 * 528);
  EXPECT_GT(result.PackingUtilisation(), 0.99);
}

TEST(Sanger, UtilisationIsThatOfTheMask) {
  // One key per query: each occupies a row of 16; 40 rows need two steps of 33.
  SangerOptions options;
  options.weight_threshold = 0.99;
  const MachineResult result = RunSanger(Config(), ZeroJob(40, 40, 64), options);
  EXPECT_EQ(result.kept_pairs, 40);
  EXPECT_EQ(result.packed_slots, 2 * 528);
  EXPECT_DOUBLE_EQ(result.PackingUtilisation(), 40.0 / (2 * 528));
}

TEST(Sanger, OneKeyIsKept) {
  const MachineResult result = RunSanger(Config(), ZeroJob(1, 1, 64), {});
  EXPECT_EQ(result.kept_pairs, 1);
  EXPECT_EQ(result.cycles, 1 + 128);
}

TEST(Sanger, RefusesOptionsOutOfRange) {
  const auto run = [](auto change) {
    SangerOptions options;
    change(&options);
    return RunSanger(Config(), ZeroJob(2, 2, 2), options).cycles;
  };
  EXPECT_THROW(run([](SangerOptions* o) { o->prediction_bits = 1; }), Error);
  EXPECT_THROW(run([](SangerOptions* o) { o->weight_threshold = 1; }), Error);
  EXPECT_THROW(run([](SangerOptions* o) { o->columns = 0; }), Error);
  EXPECT_THROW(run([](SangerOptions* o) { o->elements_per_row = 529; }), Error);
  EXPECT_NO_THROW(run([](SangerOptions* o) { o->elements_per_row = 528; }));
}

}  // namespace
}  // namespace elsa::sim
