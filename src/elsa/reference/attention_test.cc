#include "elsa/reference/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>

#include "elsa/reference/selection.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();
// Outputs are sums of weights of 1 times values of a few units, in double over short rows.
constexpr double kRounding = 1e-12;

// Problems with every kind of mask, shape and length.
std::map<std::string, Problem> Problems() {
  const ProblemShape shape{
      .batch = 2, .heads = 4, .kv_heads = 2, .queries = 9, .keys = 12, .d = 10, .d_v = 7};
  std::map<std::string, Problem> all;
  for (const char* name : {"plain", "causal", "lengths", "mask", "bias", "everything"}) {
    all[name] = RandomProblem(shape, 21);
  }
  all["causal"].causal = true;
  all["lengths"].key_lengths = {5, 12};
  all["lengths"].query_lengths = {9, 3};
  AddRandomMask(all["mask"], 0.4, 22);
  AddRandomBias(all["bias"], 2, 23);
  Problem& p = all["everything"];
  p.causal = true;
  p.key_lengths = {7, 12};
  p.query_lengths = {8, 9};
  AddRandomMask(p, 0.8, 24);
  AddRandomBias(p, 2, 25);
  for (std::size_t i = 0; i < p.bias.values.size(); i += 7) p.bias.values[i] = -kInfinity;
  for (std::size_t i = 3; i < p.bias.values.size(); i += 7) {
    p.bias.values[i] = std::numeric_limits<float>::lowest();
  }
  return all;
}

TEST(ExactAttention, EqualsNaiveSoftmax) {
  for (const auto& [name, p] : Problems()) {
    EXPECT_LT(MaxDifference(RunAttend(p, nullptr).out, BruteExact(p)), kRounding) << name;
  }
}

TEST(ExactAttention, HasClosedForms) {
  // One key: its value. Equal keys: the mean value. One key far above the others: its value.
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1, .queries = 3, .keys = 1, .d_v = 4}, 1);
  Tensor<double> out = RunAttend(p, nullptr).out;
  for (int i = 0; i < 3; ++i) {
    for (int c = 0; c < 4; ++c) EXPECT_EQ(out(0, 0, i, c), p.value(0, 0, 0, c));
  }
  p = RandomProblem({.heads = 1, .kv_heads = 1, .queries = 3, .keys = 4, .d_v = 1}, 2);
  for (int j = 0; j < 4; ++j) {
    for (int c = 0; c < 8; ++c) p.key(0, 0, j, c) = p.key(0, 0, 0, c);
  }
  p.value.values = {1, 2, 3, 10};
  out = RunAttend(p, nullptr).out;
  for (int i = 0; i < 3; ++i) EXPECT_NEAR(out(0, 0, i, 0), 4, kRounding);
  for (int c = 0; c < 8; ++c) p.key(0, 0, 2, c) = 1000 * p.query(0, 0, 1, c);
  EXPECT_NEAR(RunAttend(p, nullptr).out(0, 0, 1, 0), 3, kRounding);
}

TEST(ExactAttention, CountsPairs) {
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1, .queries = 4, .keys = 4}, 1);
  p.causal = true;
  HeadStats stats = RunAttend(p, nullptr).stats[0];
  EXPECT_EQ(stats.queries, 4);
  EXPECT_EQ(stats.exact_queries, 4);
  EXPECT_EQ(stats.pairs, 10);
  EXPECT_EQ(stats.kept, 10);
  EXPECT_EQ(stats.kept_fraction(), 1);
  EXPECT_EQ(stats.empty_queries + stats.fallback_queries, 0);
  p.key_lengths = {2};
  p.query_lengths = {3};
  stats = RunAttend(p, nullptr).stats[0];
  EXPECT_EQ(stats.queries, 3);
  EXPECT_EQ(stats.pairs, 1 + 2 + 2);
}

TEST(Attend, EqualsExactWhereEverythingIsKept) {
  for (const auto& [name, p] : Problems()) {
    const Tensor<double> exact = BruteExact(p);
    for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
      // Thresholds below -1 keep all; so does p = 0, whatever the threshold; and a null threshold.
      Plan plan = TestPlan(10, 32, 4, -1.5);
      plan.remainder = remainder;
      Attended got = RunAttend(p, &plan);
      EXPECT_LT(MaxDifference(got.out, exact), kRounding) << name;
      EXPECT_EQ(Total(got.stats).kept, Total(got.stats).pairs);
      EXPECT_EQ(Total(got.stats).exact_queries, 0);

      plan.thresholds = {std::vector<double>(4, 5.0)};
      plan.target = 0;
      got = RunAttend(p, &plan);
      EXPECT_LT(MaxDifference(got.out, exact), kRounding) << name;
      EXPECT_EQ(Total(got.stats).exact_queries + Total(got.stats).empty_queries,
                Total(got.stats).queries);

      plan.target = 1;
      plan.thresholds = {std::vector<double>(4, kExactHead)};
      got = RunAttend(p, &plan);
      EXPECT_LT(MaxDifference(got.out, exact), kRounding) << name;

      plan.thresholds = {std::vector<double>(4, 1e6)};
      plan.rule = Rule::kGap;
      EXPECT_LT(MaxDifference(RunAttend(p, &plan).out, exact), kRounding) << name;
    }
  }
}

// The rows that Attend computes for every query, from selections made key by key and an explicit
// matrix in which each dropped row is left out or replaced.
TEST(Attend, EqualsAttentionOverAnExplicitMatrix) {
  for (const auto& [name, p] : Problems()) {
    for (Rule rule : {Rule::kPaper, Rule::kGap}) {
      for (bool mean_row : {false, true}) {
        for (bool bias_in_test : {false, true}) {
          SCOPED_TRACE(testing::Message() << name << " " << Name(rule) << mean_row << bias_in_test);
          Plan plan = TestPlan(10, 32, 4, rule == Rule::kGap ? 1.0 : 0.3);
          plan.rule = rule;
          plan.remainder = mean_row ? Remainder::kMean : Remainder::kNone;
          plan.bias_in_test = bias_in_test;
          plan.always_keep_first = mean_row ? 1 : 0;
          plan.always_keep_recent = bias_in_test ? 2 : 0;
          const Attended got = RunAttend(p, &plan, {.measure_mass = true});
          const AttentionInputs inputs = p.inputs();
          std::int64_t kept = 0;
          std::int64_t pairs = 0;
          double mass = 0;
          for (std::int64_t b = 0; b < 2; ++b) {
            for (std::int64_t h = 0; h < 4; ++h) {
              HeadInputs head(inputs, b, h);
              SimilarityEstimator estimator(head, EstimatorOptionsOf(plan, 0, h));
              for (std::int64_t i = 0; i < 9; ++i) {
                const auto visible = BruteVisible(p, b, h, i);
                std::vector<std::int64_t> keys;
                if (i < head.queries()) {
                  Selection selection;
                  Select(estimator.Estimate(i), rule, plan.thresholds[0][h], selection,
                         AlwaysKeepOf(plan));
                  keys.assign(selection.kept.begin(), selection.kept.end());
                }
                const auto row = BruteRow(p, b, h, i, keys, mean_row);
                for (std::int64_t c = 0; c < 7; ++c) {
                  ASSERT_NEAR(got.out(b, h, i, c), row[c], kRounding) << b << " " << h << " " << i;
                }
                kept += static_cast<std::int64_t>(keys.size());
                pairs += static_cast<std::int64_t>(visible.size());
                std::vector<double> weights;
                for (std::int64_t j : visible) weights.push_back(BruteScore(p, b, h, i, j));
                weights = BruteSoftmax(weights);
                for (std::size_t v = 0; v < visible.size(); ++v) {
                  const bool is_kept = std::count(keys.begin(), keys.end(), visible[v]) > 0;
                  mass += is_kept ? weights[v] : 0;
                }
              }
            }
          }
          const HeadStats stats = Total(got.stats);
          EXPECT_EQ(stats.kept, kept);
          EXPECT_EQ(stats.pairs, pairs);
          EXPECT_LT(stats.kept, stats.pairs);
          EXPECT_NEAR(stats.mass_kept_sum, mass, 1e-10);
        }
      }
    }
  }
}

TEST(Attend, MatchesThePaperFromEndToEnd) {
  Problem p = RandomProblem({.queries = 12, .keys = 20}, 4);
  p.causal = true;
  const Plan plan = TestPlan(8, 24, 2, 0.35);
  const Attended got = RunAttend(p, &plan);
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t i = 0; i < 12; ++i) {
      double margin = 1;
      const auto kept = BrutePaperCandidates(p, plan.hash, 0.12, 0.35, 0, h, i, &margin);
      ASSERT_GT(margin, 1e-6);
      const auto row = BruteRow(p, 0, h, i, kept, false);
      for (std::int64_t c = 0; c < 8; ++c) EXPECT_NEAR(got.out(0, h, i, c), row[c], kRounding);
    }
  }
}

TEST(Attend, IgnoresPadding) {
  for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
    for (Centring centring : {Centring::kOff, Centring::kOn}) {
      for (bool with_plan : {false, true}) {
        Problem p = RandomProblem({.batch = 2, .queries = 9, .keys = 9}, 5);
        p.key_lengths = {6, 2};
        p.query_lengths = {5, 9};
        Plan plan = TestPlan(8, 16, 2, 0.3);
        plan.remainder = remainder;
        plan.centring = centring;
        const Attended want = RunAttend(p, with_plan ? &plan : nullptr, {.measure_mass = true});
        for (float junk : {1e30f, kNan, kInfinity}) {
          for (std::int64_t b = 0; b < 2; ++b) {
            for (std::int64_t h = 0; h < 2; ++h) {
              for (std::int64_t i = 0; i < 9; ++i) {
                for (std::int64_t c = 0; c < 8; ++c) {
                  if (i >= p.key_lengths[b]) p.key(b, h, i, c) = p.value(b, h, i, c) = junk;
                  if (i >= p.query_lengths[b]) p.query(b, h, i, c) = junk;
                }
              }
            }
          }
          const Attended got = RunAttend(p, with_plan ? &plan : nullptr, {.measure_mass = true});
          EXPECT_EQ(got.out.values, want.out.values);
          EXPECT_EQ(Total(got.stats).kept, Total(want.stats).kept);
          EXPECT_EQ(Total(got.stats).mass_kept_sum, Total(want.stats).mass_kept_sum);
        }
        for (std::int64_t i = 5; i < 9; ++i) {
          for (std::int64_t c = 0; c < 8; ++c) EXPECT_EQ(want.out(0, 1, i, c), 0);
        }
        EXPECT_EQ(Total(want.stats).queries, 2 * (5 + 9));
      }
    }
  }
}

// Masked keys do not leak either, whatever they hold.
TEST(Attend, IgnoresMaskedKeys) {
  for (bool by_bias : {false, true}) {
    Problem p = RandomProblem({}, 6);
    if (by_bias) {
      p.bias = Tensor<float>(p.pairs(), 0.0f);
    } else {
      p.mask = Tensor<std::uint8_t>(p.pairs(), 1);
    }
    for (std::int64_t h = 0; h < 2; ++h) {
      for (std::int64_t i = 0; i < 9; ++i) {
        if (by_bias) p.bias(0, h, i, 4) = -kInfinity;
        if (!by_bias) p.mask(0, h, i, 4) = 0;
      }
    }
    Plan plan = TestPlan(8, 16, 2, 0.3);
    plan.remainder = Remainder::kMean;
    const Attended want = RunAttend(p, &plan);
    for (std::int64_t h = 0; h < 2; ++h) {
      for (std::int64_t c = 0; c < 8; ++c) p.key(0, h, 4, c) = p.value(0, h, 4, c) = kNan;
    }
    EXPECT_EQ(RunAttend(p, &plan).out.values, want.out.values);
  }
}

TEST(Attend, TreatsAMaskAsABiasOfMinusInfinity) {
  Problem masked = RandomProblem({.batch = 2}, 7);
  AddRandomMask(masked, 0.5, 8);
  for (float hidden : {-kInfinity, std::numeric_limits<float>::lowest(), -3.38e38f}) {
    Problem biased = masked;
    biased.mask = {};
    biased.bias = Tensor<float>(masked.pairs(), 0.0f);
    for (std::size_t i = 0; i < masked.mask.values.size(); ++i) {
      if (masked.mask.values[i] == 0) biased.bias.values[i] = hidden;
    }
    Plan plan = TestPlan(8, 16, 2, 0.3);
    plan.remainder = Remainder::kMean;
    for (bool bias_in_test : {false, true}) {
      plan.bias_in_test = bias_in_test;
      EXPECT_LT(MaxDifference(RunAttend(biased, &plan).out, RunAttend(masked, &plan).out),
                kRounding);
    }
    EXPECT_EQ(RunAttend(biased, nullptr).out.values, RunAttend(masked, nullptr).out.values);
  }
}

TEST(Attend, GroupedKeysEqualRepeatedHeads) {
  const Problem grouped = RandomProblem({.batch = 2, .heads = 6, .kv_heads = 2}, 9);
  Problem repeated = grouped;
  repeated.key = Tensor<float>({2, 6, 9, 8});
  repeated.value = Tensor<float>({2, 6, 9, 8});
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t h = 0; h < 6; ++h) {
      for (std::int64_t j = 0; j < 9; ++j) {
        for (std::int64_t c = 0; c < 8; ++c) {
          repeated.key(b, h, j, c) = grouped.key(b, h / 3, j, c);
          repeated.value(b, h, j, c) = grouped.value(b, h / 3, j, c);
        }
      }
    }
  }
  const Plan plan = TestPlan(8, 16, 6, 0.3);
  EXPECT_EQ(RunAttend(grouped, &plan).out.values, RunAttend(repeated, &plan).out.values);
  EXPECT_EQ(RunAttend(grouped, nullptr).out.values, RunAttend(repeated, nullptr).out.values);
}

TEST(Attend, ReadsStridedViews) {
  // [batch, n, heads, d] as models hold it, against packed [batch, heads, n, d].
  const Problem p = RandomProblem({.batch = 2, .heads = 3, .kv_heads = 3}, 10);
  AttentionInputs inputs = p.inputs();
  std::vector<std::vector<float>> stores;
  for (View<const float, 4>* view : {&inputs.query, &inputs.key, &inputs.value}) {
    std::vector<float> store(2 * 3 * 9 * 8);
    View<float, 4> to(store.data(), {2, 3, 9, 8}, {9 * 3 * 8, 8, 3 * 8, 1});
    for (int b = 0; b < 2; ++b) {
      for (int h = 0; h < 3; ++h) {
        for (int i = 0; i < 9; ++i) {
          for (int c = 0; c < 8; ++c) to(b, h, i, c) = (*view)(b, h, i, c);
        }
      }
    }
    stores.push_back(std::move(store));
    *view = View<const float, 4>(stores.back().data(), to.shape, to.stride);
  }
  const Plan plan = TestPlan(8, 16, 3, 0.3);
  std::vector<double> out(2 * 3 * 9 * 8);
  Attend(inputs, &plan, 0, View<double, 4>(out.data(), {2, 3, 9, 8}, {216, 8, 24, 1}));
  const Attended want = RunAttend(p, &plan);
  for (int i = 0; i < 9; ++i) EXPECT_EQ(out[216 + 2 * 8 + i * 24 + 5], want.out(1, 2, i, 5));
}

TEST(Attend, WritesFloatAsTheRoundedDouble) {
  const Problem p = RandomProblem({}, 11);
  const Plan plan = TestPlan(8, 16, 2, 0.3);
  const Attended want = RunAttend(p, &plan);
  std::vector<float> out(want.out.values.size());
  Attend(p.inputs(), &plan, 0, View<float, 4>(out.data(), want.out.shape));
  for (std::size_t i = 0; i < out.size(); ++i) {
    EXPECT_EQ(out[i], static_cast<float>(want.out.values[i]));
  }
}

TEST(Attend, GivesZerosToQueriesThatSeeNothing) {
  Problem p = RandomProblem({.queries = 4, .keys = 5}, 12);
  p.mask = Tensor<std::uint8_t>(p.pairs(), 1);
  for (int j = 0; j < 5; ++j) p.mask(0, 1, 2, j) = 0;
  Plan plan = TestPlan(8, 16, 2, 0.3);
  plan.remainder = Remainder::kMean;
  for (const Plan* use : {static_cast<const Plan*>(nullptr), static_cast<const Plan*>(&plan)}) {
    const Attended got = RunAttend(p, use, {.measure_mass = true});
    for (int c = 0; c < 8; ++c) EXPECT_EQ(got.out(0, 1, 2, c), 0);
    EXPECT_EQ(got.stats[0].empty_queries, 0);
    EXPECT_EQ(got.stats[1].empty_queries, 1);
    EXPECT_EQ(got.stats[1].queries, 4);
    EXPECT_EQ(got.stats[1].pairs, 15);
    EXPECT_LE(got.stats[1].mass_kept_sum, 3 + 1e-12);
  }
}

TEST(Attend, AcceptsNoKeysAndNoQueries) {
  const Plan plan = TestPlan(8, 16, 2, 0.3);
  for (const auto& [queries, keys] : {std::pair{0, 5}, std::pair{3, 0}, std::pair{0, 0}}) {
    const Problem p = RandomProblem({.queries = queries, .keys = keys}, 13);
    for (const Plan* use : {static_cast<const Plan*>(nullptr), &plan}) {
      const Attended got = RunAttend(p, use, {.measure_mass = true});
      for (double value : got.out.values) EXPECT_EQ(value, 0);
      EXPECT_EQ(Total(got.stats).empty_queries, 2 * queries);
      EXPECT_EQ(got.stats[0].kept_fraction(), 1);
      EXPECT_EQ(got.stats[0].mass_kept(), 1);
    }
  }
  const Problem none = RandomProblem({.batch = 0}, 13);
  EXPECT_EQ(Total(RunAttend(none, &plan).stats).queries, 0);
}

TEST(Attend, ShowsANanInsteadOfHidingIt) {
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1}, 14);
  p.key(0, 0, 3, 2) = kNan;
  Plan plan = TestPlan(8, 16, 1, 0.9);
  for (const Plan* use : {static_cast<const Plan*>(nullptr), static_cast<const Plan*>(&plan)}) {
    for (double value : RunAttend(p, use).out.values) EXPECT_TRUE(std::isnan(value));
  }
  p = RandomProblem({.heads = 1, .kv_heads = 1}, 14);
  p.query(0, 0, 3, 2) = kNan;
  for (Rule rule : {Rule::kPaper, Rule::kGap}) {
    plan.rule = rule;
    const Tensor<double> out = RunAttend(p, &plan).out;
    for (int c = 0; c < 8; ++c) EXPECT_TRUE(std::isnan(out(0, 0, 3, c)));
    for (int c = 0; c < 8; ++c) EXPECT_FALSE(std::isnan(out(0, 0, 2, c)));
  }
}

TEST(Attend, GivesTheSameBitsForEveryNumberOfThreads) {
  for (const auto& [name, p] : Problems()) {
    Plan plan = TestPlan(10, 32, 4, 0.3);
    plan.remainder = Remainder::kMean;
    for (std::optional<std::uint64_t> seed : {std::optional<std::uint64_t>(), {7}}) {
      const Attended one = RunAttend(p, &plan, {1, true, seed});
      for (int threads : {0, 2, 5}) {
        const Attended more = RunAttend(p, &plan, {threads, true, seed});
        EXPECT_EQ(more.out.values, one.out.values) << name;
        for (int h = 0; h < 4; ++h) {
          EXPECT_EQ(more.stats[h].kept, one.stats[h].kept);
          EXPECT_EQ(more.stats[h].mass_kept_sum, one.stats[h].mass_kept_sum);
        }
      }
    }
  }
}

TEST(Attend, RandomControlKeepsAsManyKeys) {
  for (const auto& [name, p] : Problems()) {
    const Plan plan = TestPlan(10, 32, 4, 0.3);
    const Attended chosen = RunAttend(p, &plan);
    const Attended random = RunAttend(p, &plan, {.random_keys_seed = 5});
    EXPECT_EQ(Total(random.stats).kept, Total(chosen.stats).kept) << name;
    EXPECT_GT(MaxDifference(random.out, chosen.out), 0.01) << name;
    EXPECT_EQ(RunAttend(p, &plan, {.random_keys_seed = 5}).out.values, random.out.values);
    EXPECT_NE(RunAttend(p, &plan, {.random_keys_seed = 6}).out.values, random.out.values);
  }
}

TEST(Attend, RandomControlDrawsAnewForEachSequenceAndHead) {
  Problem p = RandomProblem({.batch = 2, .heads = 2, .kv_heads = 1}, 20);
  for (Tensor<float>* tensor : {&p.query, &p.key, &p.value}) {  // all sequences and heads alike
    const std::size_t rows = static_cast<std::size_t>(tensor->shape[2] * tensor->shape[3]);
    for (std::size_t i = rows; i < tensor->values.size(); ++i) {
      tensor->values[i] = tensor->values[i - rows];
    }
  }
  const Plan plan = TestPlan(8, 32, 2, 0.3);
  const Tensor<double> out = RunAttend(p, &plan, {.random_keys_seed = 4}).out;
  std::vector<std::vector<double>> parts;
  for (std::size_t i = 0; i < out.values.size(); i += 72) {
    parts.emplace_back(out.values.begin() + i, out.values.begin() + i + 72);
    for (std::size_t other = 0; other + 1 < parts.size(); ++other) {
      EXPECT_NE(parts.back(), parts[other]);
    }
  }
  EXPECT_EQ(parts.size(), 4u);
}

TEST(Attend, RandomControlIsUniform) {
  // Values are unit vectors and all scores are equal: the output says which keys were kept.
  Problem p =
      RandomProblem({.heads = 1, .kv_heads = 1, .queries = 4000, .keys = 8, .d = 8, .d_v = 8}, 15);
  p.scale = 1e-30;
  std::fill(p.value.values.begin(), p.value.values.end(), 0.0f);
  for (int j = 0; j < 8; ++j) p.value(0, 0, j, j) = 1;
  const Plan plan = TestPlan(8, 64, 1, 0.3);
  const Attended got = RunAttend(p, &plan, {.random_keys_seed = 3});
  double kept[8] = {};
  for (int i = 0; i < 4000; ++i) {
    for (int j = 0; j < 8; ++j) kept[j] += got.out(0, 0, i, j) > 0 ? 1 : 0;
  }
  const double mean = static_cast<double>(got.stats[0].kept) / 8;
  for (double count : kept) EXPECT_NEAR(count, mean, 5 * std::sqrt(4000 * 0.25));
}

TEST(Attend, RunsShortQueriesDense) {
  Problem p = RandomProblem({.queries = 9, .keys = 9}, 16);
  p.causal = true;
  Plan plan = TestPlan(8, 16, 2, 0.5);
  const Tensor<double> exact = BruteExact(p);
  const Attended sparse = RunAttend(p, &plan);
  plan.dense_below = 5;  // query i sees i + 1 keys
  const Attended got = RunAttend(p, &plan);
  EXPECT_EQ(got.stats[0].exact_queries, 4);
  for (int i = 0; i < 9; ++i) {
    for (int c = 0; c < 8; ++c) {
      EXPECT_NEAR(got.out(0, 0, i, c), i < 4 ? exact(0, 0, i, c) : sparse.out(0, 0, i, c),
                  kRounding);
    }
  }
}

TEST(Attend, MeanRowOnlyEverAddsTheDroppedShare) {
  // Equal keys: every weight is 1/n with the mean row, however few are kept.
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1, .queries = 2, .keys = 6}, 17);
  for (int j = 0; j < 6; ++j) {
    for (int c = 0; c < 8; ++c) p.key(0, 0, j, c) = p.key(0, 0, 0, c);
  }
  Plan plan = TestPlan(8, 16, 1, 5.0);  // keeps the fallback only
  plan.remainder = Remainder::kMean;
  const Attended got = RunAttend(p, &plan);
  EXPECT_EQ(got.stats[0].fallback_queries, 2);
  EXPECT_EQ(got.stats[0].kept, 2);
  for (int c = 0; c < 8; ++c) {
    double mean = 0;
    for (int j = 0; j < 6; ++j) mean += p.value(0, 0, j, c) / 6.0;
    EXPECT_NEAR(got.out(0, 0, 0, c), (p.value(0, 0, 0, c) + 5 * mean) / 6, kRounding);
  }
}

TEST(Attend, MeanRowStandsFarScoresApart) {
  // Scores of several thousands either side of the mean row's: no exponential overflows.
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1}, 19);
  for (float& x : p.query.values) x *= 4000;
  Plan plan = TestPlan(8, 32, 1, 0.4);
  plan.remainder = Remainder::kMean;
  const Attended got = RunAttend(p, &plan, {.measure_mass = true});
  EXPECT_LT(got.stats[0].kept, got.stats[0].pairs);
  for (double value : got.out.values) EXPECT_TRUE(std::abs(value) < 10);
}

// Keys and values moved by their means: the sum of exponentials starts at the number of dropped
// keys.
TEST(Attend, MeanRowEqualsItsCentredForm) {
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1, .queries = 5, .keys = 20}, 18);
  Plan plan = TestPlan(8, 32, 1, 0.4);
  plan.remainder = Remainder::kMean;
  const Attended got = RunAttend(p, &plan);
  const AttentionInputs inputs = p.inputs();
  HeadInputs head(inputs, 0, 0);
  SimilarityEstimator estimator(head, EstimatorOptionsOf(plan, 0, 0));
  double k0[8] = {};
  double v0[8] = {};
  for (int j = 0; j < 20; ++j) {
    for (int c = 0; c < 8; ++c) k0[c] += p.key(0, 0, j, c) / 20.0;
    for (int c = 0; c < 8; ++c) v0[c] += p.value(0, 0, j, c) / 20.0;
  }
  for (int i = 0; i < 5; ++i) {
    Selection selection;
    Select(estimator.Estimate(i), plan.rule, 0.4, selection);
    double sum = 20.0 - static_cast<double>(selection.kept.size());
    EXPECT_GT(sum, 0);
    double row[8] = {};
    for (std::int32_t j : selection.kept) {
      double dot = 0;
      for (int c = 0; c < 8; ++c) dot += p.query(0, 0, i, c) * (p.key(0, 0, j, c) - k0[c]);
      const double weight = std::exp(p.scale * dot);
      sum += weight;
      for (int c = 0; c < 8; ++c) row[c] += weight * (p.value(0, 0, j, c) - v0[c]);
    }
    for (int c = 0; c < 8; ++c) EXPECT_NEAR(got.out(0, 0, i, c), v0[c] + row[c] / sum, kRounding);
  }
}

}  // namespace
}  // namespace elsa::reference
