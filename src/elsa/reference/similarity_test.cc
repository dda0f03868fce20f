#include "elsa/reference/similarity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "elsa/reference/angle.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

// The definition of similarity.h, written anew: 16 running sums, then a tree.
float OrderedNorm(const std::vector<float>& x) {
  float sums[16];
  for (int lane = 0; lane < 16; ++lane) {
    volatile float sum = 0;  // volatile: every step rounds to binary32
    for (std::size_t i = lane; i < x.size(); i += 16) {
      volatile float square = x[i] * x[i];
      sum = sum + square;
    }
    sums[lane] = sum;
  }
  const auto tree = [&](const auto& self, int first, int step) -> float {
    if (step == 16) return sums[first];
    return self(self, first, 2 * step) + self(self, first + step, 2 * step);
  };
  return std::sqrt(tree(tree, 0, 1));
}

TEST(Norm, AddsInItsDefinedOrder) {
  Random random(12);
  for (std::size_t d : {1u, 2u, 7u, 15u, 16u, 17u, 31u, 32u, 64u, 100u, 128u}) {
    for (int repeat = 0; repeat < 50; ++repeat) {
      std::vector<float> x(d);
      for (float& value : x) value = static_cast<float>(random.Normal());
      double square = 0;
      for (float value : x) square += static_cast<double>(value) * value;
      EXPECT_EQ(Norm(x), OrderedNorm(x)) << d;
      // Each sum takes d / 16 + 5 roundings of at most 2^-24, halved by the root.
      EXPECT_NEAR(Norm(x) / std::sqrt(square), 1, (static_cast<double>(d) / 16 + 6) * 0x1p-24) << d;
    }
  }
}

TEST(Norm, HandlesTheEnds) {
  const auto of = [](float x) { return Norm(std::vector<float>{x}); };
  EXPECT_EQ(of(0), 0);
  EXPECT_EQ(of(-3), 3);
  EXPECT_EQ(of(1e-30f), 0);  // its square underflows
  EXPECT_TRUE(std::isinf(of(1e30f)));
  EXPECT_TRUE(std::isinf(of(-std::numeric_limits<float>::infinity())));
  EXPECT_TRUE(std::isnan(of(std::numeric_limits<float>::quiet_NaN())));
}

struct Masking {
  const char* name;
  Problem problem;
};

std::vector<Masking> EveryMasking() {
  const ProblemShape shape{
      .batch = 3, .heads = 4, .kv_heads = 2, .queries = 7, .keys = 11, .d = 5, .d_v = 3};
  const Problem plain = RandomProblem(shape, 1);
  std::vector<Masking> all;
  const auto add = [&](const char* name, const auto& change) {
    all.push_back({name, plain});
    change(all.back().problem);
  };
  add("none", [](Problem&) {});
  add("causal", [](Problem& p) { p.causal = true; });
  add("lengths", [](Problem& p) {
    p.key_lengths = {11, 0, 4};
    p.query_lengths = {7, 2, 0};
  });
  add("mask", [](Problem& p) { AddRandomMask(p, 0.6, 2); });
  add("bias", [](Problem& p) {
    AddRandomBias(p, 2, 3);
    for (std::size_t i = 0; i < p.bias.values.size(); i += 3) {
      p.bias.values[i] = i % 2 == 0 ? -std::numeric_limits<float>::infinity()
                                    : std::numeric_limits<float>::lowest();
    }
  });
  add("all", [](Problem& p) {
    p.causal = true;
    p.key_lengths = {9, 3, 1};
    p.query_lengths = {5, 7, 2};
    AddRandomMask(p, 0.7, 4);
    AddRandomBias(p, 1, 5);
    for (std::size_t i = 0; i < p.bias.values.size(); i += 5) p.bias.values[i] = -1e31f;
  });
  return all;
}

TEST(HeadInputs, ShowsEachQueryItsVisibleKeys) {
  for (const Masking& masking : EveryMasking()) {
    const Problem& p = masking.problem;
    const AttentionInputs inputs = p.inputs();
    for (std::int64_t b = 0; b < inputs.batch(); ++b) {
      for (std::int64_t h = 0; h < inputs.heads(); ++h) {
        HeadInputs head(inputs, b, h);
        for (std::int64_t i = 0; i < head.queries(); ++i) {
          const auto want = BruteVisible(p, b, h, i);
          const auto& got = head.VisibleKeys(i);
          EXPECT_EQ(std::vector<std::int64_t>(got.begin(), got.end()), want)
              << masking.name << " " << b << " " << h << " " << i;
          for (std::int64_t j : want) {
            EXPECT_EQ(head.Bias(i, j), p.bias.values.empty() ? 0.0f : p.bias(b, h, i, j));
          }
        }
      }
    }
  }
}

TEST(HeadInputs, KnowsWhenAllQueriesSeeTheSameKeys) {
  Problem p = RandomProblem({}, 1);
  EXPECT_TRUE(HeadInputs(p.inputs(), 0, 0).uniform());
  p.key_lengths = {4};
  EXPECT_TRUE(HeadInputs(p.inputs(), 0, 0).uniform());
  AddRandomMask(p, 0.5, 1);
  AttentionInputs inputs = p.inputs();
  EXPECT_FALSE(HeadInputs(inputs, 0, 0).uniform());
  inputs.mask.stride[2] = 0;  // one row for all queries, as padding masks are
  EXPECT_TRUE(HeadInputs(inputs, 0, 0).uniform());
  inputs.causal = true;
  EXPECT_FALSE(HeadInputs(inputs, 0, 0).uniform());
}

TEST(SimilarityEstimator, MultipliesNormAndCosineOverVisibleKeys) {
  for (const Masking& masking : EveryMasking()) {
    const Problem& p = masking.problem;
    const AttentionInputs inputs = p.inputs();
    const HashSpec hash = MakeHash(HashKind::kKronecker3, 5, 70, 6);
    const std::vector<float> cosines = CosineTable(70, 0.1);
    for (std::int64_t b = 0; b < inputs.batch(); ++b) {
      for (std::int64_t h = 0; h < inputs.heads(); ++h) {
        HeadInputs head(inputs, b, h);
        SimilarityEstimator estimator(head, {.hash = &hash, .theta_bias_rad = 0.1});
        for (std::int64_t i = head.queries() - 1; i >= 0; --i) {  // any order
          SCOPED_TRACE(testing::Message() << masking.name << " " << b << " " << h << " " << i);
          const QueryEstimate& e = estimator.Estimate(i);
          const auto visible = BruteVisible(p, b, h, i);
          ASSERT_EQ(e.keys.size(), visible.size());
          const auto vector = [&](const Tensor<float>& rows, std::int64_t g, std::int64_t j) {
            return std::vector<float>(&rows(b, g, j, 0), &rows(b, g, j, 0) + 5);
          };
          const std::vector<float> q = vector(p.query, h, i);
          EXPECT_EQ(e.query_norm, Norm(q));
          EXPECT_EQ(e.query_scale, static_cast<float>(p.scale) * Norm(q));
          float largest = 0;
          for (std::size_t v = 0; v < visible.size(); ++v) {
            const std::vector<float> k = vector(p.key, p.kv_head(h), visible[v]);
            const int distance = HammingDistance(HashVectors(hash, q), HashVectors(hash, k));
            EXPECT_EQ(e.distances[v], distance);
            EXPECT_EQ(e.key_norms[v], Norm(k));
            EXPECT_EQ(e.similarities[v], Norm(k) * cosines[distance]);
            largest = std::max(largest, Norm(k));
          }
          EXPECT_EQ(e.key_norm_max, largest);
          EXPECT_TRUE(e.bias.empty());
          EXPECT_FALSE(e.centred);
        }
      }
    }
  }
}

TEST(SimilarityEstimator, LargestNormIsOverVisibleFiniteNormsOnly) {
  Problem p =
      RandomProblem({.batch = 1, .heads = 1, .kv_heads = 1, .queries = 4, .keys = 4, .d = 2}, 1);
  p.key.values = {3, 4, 6, 8, std::numeric_limits<float>::quiet_NaN(), 0, 30, 40};
  p.causal = true;
  const AttentionInputs inputs = p.inputs();
  const HashSpec hash = MakeHash(HashKind::kDense, 2, 2, 1);
  HeadInputs head(inputs, 0, 0);
  SimilarityEstimator estimator(head, {.hash = &hash});
  EXPECT_EQ(estimator.Estimate(0).key_norm_max, 5);
  EXPECT_EQ(estimator.Estimate(1).key_norm_max, 10);
  EXPECT_EQ(estimator.Estimate(2).key_norm_max, 10);  // the NaN has no say
  EXPECT_EQ(estimator.Estimate(3).key_norm_max, 50);
  p.key.values[0] = std::numeric_limits<float>::infinity();
  HeadInputs infinite(inputs, 0, 0);
  SimilarityEstimator again(infinite, {.hash = &hash});
  EXPECT_EQ(again.Estimate(0).key_norm_max, 0);
  EXPECT_EQ(again.Estimate(3).key_norm_max, 50);
}

TEST(SimilarityEstimator, ListsTheBiasOnlyInTheTest) {
  Problem p = RandomProblem({}, 1);
  AddRandomBias(p, 1, 2);
  const AttentionInputs inputs = p.inputs();
  const HashSpec hash = MakeHash(HashKind::kDense, 8, 8, 1);
  HeadInputs head(inputs, 0, 1);
  EXPECT_TRUE(SimilarityEstimator(head, {.hash = &hash}).Estimate(3).bias.empty());
  SimilarityEstimator with(head, {.hash = &hash, .bias_in_test = true});
  const QueryEstimate& e = with.Estimate(3);
  ASSERT_EQ(e.bias.size(), 9u);
  for (int j = 0; j < 9; ++j) EXPECT_EQ(e.bias[j], p.bias(0, 1, 3, j));

  p.bias = {};
  const AttentionInputs without = p.inputs();
  HeadInputs bare(without, 0, 1);
  EXPECT_TRUE(
      SimilarityEstimator(bare, {.hash = &hash, .bias_in_test = true}).Estimate(3).bias.empty());
}

// Centring equals subtracting, by hand, the mean over the keys that some query sees.
TEST(SimilarityEstimator, CentringSubtractsTheMeanKey) {
  for (bool masked : {false, true}) {
    SCOPED_TRACE(masked);
    Problem p = RandomProblem({.queries = 5, .keys = 9}, 3);
    p.key_lengths = {8};
    if (masked) {
      AddRandomMask(p, 0.8, 4);
      for (int i = 0; i < 5; ++i) p.mask(0, 0, i, 2) = 0;  // seen by none: not in the mean
    }
    Problem centred = p;
    std::vector<double> mean(8, 0.0);
    int count = 0;
    for (int j = 0; j < 8; ++j) {
      if (masked && j == 2) continue;
      ++count;
      for (int c = 0; c < 8; ++c) mean[c] += p.key(0, 0, j, c);
    }
    for (int j = 0; j < 8; ++j) {
      for (int c = 0; c < 8; ++c) {
        centred.key(0, 0, j, c) -= static_cast<float>(mean[c] / count);
      }
    }
    const AttentionInputs inputs = p.inputs();
    const AttentionInputs by_hand = centred.inputs();
    const HashSpec hash = MakeHash(HashKind::kKronecker2, 8, 24, 1);
    HeadInputs head(inputs, 0, 0);
    HeadInputs head_by_hand(by_hand, 0, 0);
    SimilarityEstimator on(head, {.hash = &hash, .centring = Centring::kOn});
    SimilarityEstimator want(head_by_hand, {.hash = &hash});
    for (int i = 0; i < 5; ++i) {
      const QueryEstimate& got = on.Estimate(i);
      EXPECT_TRUE(got.centred);
      EXPECT_EQ(got.key_norms, want.Estimate(i).key_norms);
      EXPECT_EQ(got.distances, want.Estimate(i).distances);
      EXPECT_EQ(got.similarities, want.Estimate(i).similarities);
      for (std::int32_t j : got.keys) {
        for (int c = 0; c < 8; ++c) {
          EXPECT_EQ(on.KeyVector(j, true)[c], centred.key(0, 0, j, c));
        }
      }
    }
  }
}

TEST(SimilarityEstimator, CentresByTheNumberOfKeysSeen) {
  Problem p = RandomProblem({.queries = 3, .keys = 6}, 3);
  p.mask = Tensor<std::uint8_t>(p.pairs(), 1);
  p.mask(0, 0, 1, 4) = 0;  // query 1 sees five keys
  const AttentionInputs inputs = p.inputs();
  const HashSpec hash = MakeHash(HashKind::kDense, 8, 8, 1);
  HeadInputs head(inputs, 0, 0);
  SimilarityEstimator by_length(
      head, {.hash = &hash, .centring = Centring::kByLength, .centring_min_keys = 6});
  SimilarityEstimator off(head, {.hash = &hash});
  SimilarityEstimator on(head, {.hash = &hash, .centring = Centring::kOn});
  EXPECT_TRUE(by_length.Estimate(0).centred);
  EXPECT_EQ(by_length.Estimate(0).key_norms, on.Estimate(0).key_norms);
  EXPECT_FALSE(by_length.Estimate(1).centred);
  EXPECT_EQ(by_length.Estimate(1).key_norms, off.Estimate(1).key_norms);
  EXPECT_EQ(by_length.Estimate(2).key_norms, on.Estimate(2).key_norms);
}

TEST(EstimatorOptions, ComeFromThePlan) {
  Plan plan = TestPlan(8, 8, 2, 0.1);
  plan.theta_bias_rad = {{0.25, 0.5}};
  plan.centring = Centring::kByLength;
  plan.centring_min_keys = 7;
  plan.bias_in_test = true;
  const EstimatorOptions options = EstimatorOptionsOf(plan, 0, 1);
  EXPECT_EQ(options.hash, &plan.hash);
  EXPECT_EQ(options.theta_bias_rad, 0.5);
  EXPECT_EQ(options.centring, Centring::kByLength);
  EXPECT_EQ(options.centring_min_keys, 7);
  EXPECT_TRUE(options.bias_in_test);
}

}  // namespace
}  // namespace elsa::reference
