#include "elsa/reference/selection.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Keys = std::vector<std::int32_t>;

// An estimate with these norms and cosines; key j is number 10 + j.
QueryEstimate Estimate(const std::vector<float>& norms, const std::vector<float>& cosines,
                       float query_scale = 1, const std::vector<float>& bias = {}) {
  QueryEstimate e;
  e.query_norm = query_scale;
  e.query_scale = query_scale;
  e.bias = bias;
  for (std::size_t j = 0; j < norms.size(); ++j) {
    e.keys.push_back(static_cast<std::int32_t>(10 + j));
    e.key_norms.push_back(norms[j]);
    e.distances.push_back(0);
    e.similarities.push_back(norms[j] * cosines[j]);
    if (std::isfinite(norms[j])) e.key_norm_max = std::max(e.key_norm_max, norms[j]);
  }
  return e;
}

Selection Selected(const QueryEstimate& e, Rule rule, double threshold) {
  Selection selection{{77, 78, 79}, true};  // what an earlier query left
  Select(e, rule, threshold, selection);
  return selection;
}

TEST(Selection, EqualsABruteForceFromThePaper) {
  int compared = 0;
  int fallbacks = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Random random(seed);
    const auto d = static_cast<std::int64_t>(1 + random.Below(16));
    const auto n = static_cast<std::int64_t>(1 + random.Below(24));
    const auto k = static_cast<std::int64_t>(1 + random.Below(2 * d + 40));
    const auto kind = static_cast<HashKind>(random.Below(5));
    const double t = seed % 10 == 0 ? 0.0 : 2.2 * random.Uniform() - 1.1;
    Problem p = RandomProblem(
        {.batch = 1, .heads = 1, .kv_heads = 1, .queries = 1, .keys = n, .d = d, .d_v = 1}, seed);
    if (seed % 3 == 0) AddRandomMask(p, 0.7, seed);
    const AttentionInputs inputs = p.inputs();
    // Another seed: with the problem's, rows would be orthogonal to its first query.
    const HashSpec hash = MakeHash(kind, d, k, 1000 + seed);
    const double bias = 0.3 * random.Uniform();
    HeadInputs head(inputs, 0, 0);
    SimilarityEstimator estimator(head, {.hash = &hash, .theta_bias_rad = bias});
    double margin = 1;
    const auto want = BrutePaperCandidates(p, hash, bias, t, 0, 0, 0, &margin);
    if (margin < 1e-6) continue;  // within the rounding of binary32
    ++compared;
    const Selection got = Selected(estimator.Estimate(0), Rule::kPaper, t);
    EXPECT_EQ(std::vector<std::int64_t>(got.kept.begin(), got.kept.end()), want);
    fallbacks += got.fallback ? 1 : 0;
  }
  EXPECT_GE(compared, 250);
  EXPECT_GE(fallbacks, 20);
}

TEST(Selection, TestIsStrict) {
  // 0.5 * 4 is exactly the cut of t = 0.5 with a largest norm of 4.
  const QueryEstimate e = Estimate({4, 4, 2}, {0.5f, 0.50001f, 1});
  EXPECT_EQ(Selected(e, Rule::kPaper, 0.5).kept, Keys({11}));
  EXPECT_EQ(Selected(e, Rule::kPaper, 0.49).kept, Keys({10, 11, 12}));
}

TEST(Selection, ThresholdOfZeroKeepsAcuteAngles) {
  const QueryEstimate e = Estimate({1, 1, 1, 0}, {1e-30f, 0, -1e-30f, 1});
  EXPECT_EQ(Selected(e, Rule::kPaper, 0).kept, Keys({10}));
  EXPECT_EQ(Selected(e, Rule::kPaper, -1e-20).kept, Keys({10, 11, 12, 13}));
}

TEST(Selection, ZeroNormsCompareAsZero) {
  const QueryEstimate e = Estimate({0, 0, 0}, {1, 0, -1});
  // The cut is t * 0 whatever t: nothing is above it, so the first is the fallback.
  for (double t : {-1.0, 0.0, 1.0}) {
    const Selection selection = Selected(e, Rule::kPaper, t);
    EXPECT_EQ(selection.kept, Keys({10}));
    EXPECT_TRUE(selection.fallback);
  }
}

TEST(Selection, WorksOnDenormalNorms) {
  const QueryEstimate e = Estimate({4e-45f, 1e-44f}, {0.25f, 1});
  EXPECT_EQ(Selected(e, Rule::kPaper, 0.5).kept, Keys({11}));
}

TEST(Selection, KeepsEveryKeyWithoutAFiniteNorm) {
  for (Rule rule : {Rule::kPaper, Rule::kMass, Rule::kBudget, Rule::kGap}) {
    for (const std::vector<float>& bias : {std::vector<float>(), {0, 0, 0, 0}}) {
      const QueryEstimate e = Estimate({1, kNan, kInfinity, 2}, {-1, 1, 0, 1}, 1, bias);
      const Selection selection = Selected(e, rule, 0.5);
      EXPECT_EQ(selection.kept, Keys({11, 12, 13})) << Name(rule);
      EXPECT_FALSE(selection.fallback);
    }
  }
}

TEST(Selection, KeepsTheBestEstimateWhereTheTestKeepsNone) {
  const Selection one = Selected(Estimate({1, 2, 3}, {0.5f, 0.9f, 0.1f}), Rule::kPaper, 2);
  EXPECT_EQ(one.kept, Keys({11}));
  EXPECT_TRUE(one.fallback);
  // A tie goes to the first.
  EXPECT_EQ(Selected(Estimate({1, 2, 2}, {-1, 0.5f, 0.5f}), Rule::kPaper, 2).kept, Keys({11}));
  // With the bias in the test the score decides: 2 * .5 - 4, 1 * .5 + 0.
  EXPECT_EQ(Selected(Estimate({2, 1}, {0.5f, 0.5f}, 1, {-4, 0}), Rule::kPaper, 9).kept, Keys({11}));
}

TEST(Selection, AlwaysKeepsTheFirstAndLastKeysThatTheQuerySees) {
  const QueryEstimate e = Estimate({1, 1, 1, 1, 1}, {0, 0, 0.9f, 0, 0});
  const auto kept = [&](double threshold, const AlwaysKeep& always) {
    Selection selection;
    Select(e, Rule::kPaper, threshold, selection, always);
    EXPECT_FALSE(selection.fallback);
    return selection.kept;
  };
  EXPECT_EQ(kept(0.5, {1, 0}), Keys({10, 12}));
  EXPECT_EQ(kept(0.5, {0, 2}), Keys({12, 13, 14}));
  EXPECT_EQ(kept(0.5, {2, 1}), Keys({10, 11, 12, 14}));
  EXPECT_EQ(kept(2, {1, 0}), Keys({10}));  // none passes the test, yet this is no fallback
  EXPECT_EQ(kept(2, {9, 9}), Keys({10, 11, 12, 13, 14}));
}

TEST(Selection, IsEmptyWhereNothingIsVisible) {
  const Selection selection = Selected(Estimate({}, {}), Rule::kPaper, 0.5);
  EXPECT_TRUE(selection.kept.empty());
  EXPECT_FALSE(selection.fallback);
}

TEST(Selection, AddsTheBiasInUnitsOfTheScore) {
  // scale * |q| = 2, cut = .5 * 4 = 2: 2 (similarity - 2) + bias > 0.
  const QueryEstimate e = Estimate({4, 4, 4}, {0.25f, 0.25f, 0.75f}, 2, {1.9f, 2.1f, -2.1f});
  EXPECT_EQ(Selected(e, Rule::kPaper, 0.5).kept, Keys({11}));
}

TEST(Selection, GapKeepsWhatLiesNearTheBest) {
  // Scores 6, 4, 2, -6.
  const QueryEstimate e = Estimate({3, 2, 1, 3}, {1, 1, 1, -1}, 2);
  EXPECT_EQ(Selected(e, Rule::kGap, 1e-6).kept, Keys({10}));
  EXPECT_EQ(Selected(e, Rule::kGap, 2).kept, Keys({10}));  // strict
  EXPECT_EQ(Selected(e, Rule::kGap, 2.5).kept, Keys({10, 11}));
  EXPECT_EQ(Selected(e, Rule::kGap, 100).kept, Keys({10, 11, 12, 13}));
  // With a bias, the scores are 6, 14, 2, -6.
  const QueryEstimate biased = Estimate({3, 2, 1, 3}, {1, 1, 1, -1}, 2, {0, 10, 0, 0});
  EXPECT_EQ(Selected(biased, Rule::kGap, 5).kept, Keys({11}));
}

TEST(Selection, LargestEstimateIsAlwaysKept) {
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    SCOPED_TRACE(seed);
    Random random(seed);
    std::vector<float> norms(1 + random.Below(9));
    std::vector<float> cosines(norms.size());
    std::vector<float> bias(seed % 2 == 0 ? norms.size() : 0);
    for (float& x : norms) x = static_cast<float>(random.Below(4));
    for (float& x : cosines) x = static_cast<float>(random.Below(9)) / 4 - 1;
    for (float& x : bias) x = static_cast<float>(random.Below(5)) - 2;
    const QueryEstimate e = Estimate(norms, cosines, 1.5f, bias);
    const Rule rule = seed % 3 == 0 ? Rule::kGap : Rule::kPaper;
    const double t = rule == Rule::kGap ? 0.1 + random.Uniform() : 3 * random.Uniform() - 1.5;
    const Selection selection = Selected(e, rule, t);
    const std::int32_t best = e.keys[LargestEstimate(e)];
    EXPECT_TRUE(std::count(selection.kept.begin(), selection.kept.end(), best) == 1);
  }
}

TEST(Selection, CutOffIsWhatTheTestComparesWith) {
  const QueryEstimate e = Estimate({3, 2, 1, 3}, {1, 1, 1, -1}, 2);
  EXPECT_EQ(CutOff(e, Rule::kPaper, 0.5), 1.5);
  EXPECT_EQ(CutOff(e, Rule::kGap, 2.5), 3.5);
  EXPECT_EQ(BestEstimatedScore(e), 6);
  EXPECT_EQ(EstimatedScore(e, 1), 4);
}

}  // namespace
}  // namespace elsa::reference
