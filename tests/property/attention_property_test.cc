// Random shapes and option combinations: attention against a brute force that shares no code with
// it, and what must hold for every input. Not for speed, and not the place of hand-made cases.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "elsa/reference/calibration.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

struct Case {
  Problem problem;
  Plan plan;
};

// Small enough to run thousands; every option with and without every other.
Case RandomCase(std::uint64_t seed) {
  Random random(seed);
  const auto below = [&](std::uint64_t bound) {
    return static_cast<std::int64_t>(random.Below(bound));
  };
  const auto chance = [&](double share) { return random.Uniform() < share; };
  const std::int64_t kv_heads = 1 + below(2);
  const ProblemShape shape{.batch = 1 + below(2),
                           .heads = kv_heads * (1 + below(3)),
                           .kv_heads = kv_heads,
                           .queries = below(8),
                           .keys = below(12),
                           .d = 1 + below(12),
                           .d_v = 1 + below(5)};
  Case c{RandomProblem(shape, random.Next()), {}};
  Problem& p = c.problem;
  p.causal = chance(0.3);
  if (chance(0.3)) AddRandomMask(p, random.Uniform(), random.Next());
  if (chance(0.4)) AddRandomBias(p, 2, random.Next());
  if (chance(0.2)) {
    for (float& bias : p.bias.values) {
      if (chance(0.3)) bias = -std::numeric_limits<float>::infinity();
    }
  }
  for (std::int64_t b = 0; b < shape.batch && chance(0.5); ++b) {
    p.key_lengths.resize(shape.batch, shape.keys);
    p.query_lengths.resize(shape.batch, shape.queries);
    p.key_lengths[b] = below(shape.keys + 1);
    p.query_lengths[b] = below(shape.queries + 1);
  }
  Plan& plan = c.plan;
  plan = TestPlan(shape.d, 1 + below(40), shape.heads, 0, static_cast<HashKind>(below(5)),
                  random.Next());
  plan.rule = static_cast<Rule>(below(4));
  plan.remainder = static_cast<Remainder>(below(2));
  if (!p.causal) plan.centring = static_cast<Centring>(below(3));
  if (plan.centring == Centring::kByLength) plan.centring_min_keys = below(8);
  plan.bias_in_test = chance(0.5);
  if (chance(0.2)) plan.dense_below = below(6);
  plan.theta_bias_rad = {{0.3 * random.Uniform()}};
  for (double& t : plan.thresholds[0]) {
    t = plan.rule == Rule::kGap ? 3 * random.Uniform() : 2 * random.Uniform() - 1;
    if (chance(0.1)) t = kExactHead;
  }
  return c;
}

// The keys that each query keeps, [batch * heads * queries], seen from outside: with one-hot values
// and no remainder, output j is the weight of key j, and that is 0 only for a dropped key.
std::vector<std::vector<std::int64_t>> KeptKeys(Problem p, Plan plan) {
  const std::int64_t n = p.key.shape[2];
  p.value = Tensor<float>({p.key.shape[0], p.key.shape[1], n, std::max<std::int64_t>(n, 1)});
  for (std::int64_t b = 0; b < p.key.shape[0]; ++b) {
    for (std::int64_t h = 0; h < p.key.shape[1]; ++h) {
      for (std::int64_t j = 0; j < n; ++j) p.value(b, h, j, j) = 1;
    }
  }
  plan.remainder = Remainder::kNone;
  const Tensor<double> out = RunAttend(p, &plan).out;
  std::vector<std::vector<std::int64_t>> kept;
  for (std::int64_t b = 0; b < out.shape[0]; ++b) {
    for (std::int64_t h = 0; h < out.shape[1]; ++h) {
      for (std::int64_t i = 0; i < out.shape[2]; ++i) {
        kept.emplace_back();
        for (std::int64_t j = 0; j < n; ++j) {
          if (out(b, h, i, j) > 0) kept.back().push_back(j);
        }
      }
    }
  }
  return kept;
}

TEST(AttentionProperty, EqualsBruteForce) {
  std::int64_t dropped = 0;
  for (std::uint64_t seed = 0; seed < 4000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Case c = RandomCase(seed);
    const Problem& p = c.problem;
    ASSERT_NO_THROW(ValidatePlan(c.plan));
    const Attended got = RunAttend(p, &c.plan, {.threads = 1, .measure_mass = true});
    const auto kept = KeptKeys(p, c.plan);
    std::size_t row_at = 0;
    HeadStats want;
    for (std::int64_t b = 0; b < p.query.shape[0]; ++b) {
      for (std::int64_t h = 0; h < p.query.shape[1]; ++h) {
        for (std::int64_t i = 0; i < p.query.shape[2]; ++i) {
          const auto visible = BruteVisible(p, b, h, i);
          const auto& keys = kept[row_at++];
          const bool mean_row = c.plan.remainder == Remainder::kMean;
          const auto row = BruteRow(p, b, h, i, keys, mean_row);
          for (std::size_t v = 0; v < row.size(); ++v) {
            ASSERT_NEAR(got.out(b, h, i, static_cast<std::int64_t>(v)), row[v], 1e-11);
          }
          EXPECT_EQ(keys.empty(), visible.empty());
          const bool padding = !p.query_lengths.empty() && i >= p.query_lengths[b];
          want.queries += padding ? 0 : 1;
          want.empty_queries += !padding && visible.empty() ? 1 : 0;
          want.pairs += static_cast<std::int64_t>(visible.size());
          want.kept += static_cast<std::int64_t>(keys.size());
        }
      }
    }
    const HeadStats stats = Total(got.stats);
    EXPECT_EQ(stats.queries, want.queries);
    EXPECT_EQ(stats.empty_queries, want.empty_queries);
    EXPECT_EQ(stats.pairs, want.pairs);
    EXPECT_EQ(stats.kept, want.kept);
    for (const HeadStats& head : got.stats) {
      EXPECT_LE(head.kept, head.pairs);
      EXPECT_GE(head.mass_kept(), 0);
      EXPECT_LE(head.mass_kept(), 1 + 1e-12);
    }
    dropped += want.pairs - want.kept;
  }
  EXPECT_GT(dropped, 50000);  // the cases do drop keys
}

// The paper's rule from the vectors on.
TEST(AttentionProperty, CandidatesEqualThePapers) {
  std::int64_t compared = 0;
  for (std::uint64_t seed = 0; seed < 1500; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Case c = RandomCase(seed);
    c.plan.rule = Rule::kPaper;
    c.plan.centring = Centring::kOff;
    c.plan.centring_min_keys = 0;
    c.plan.bias_in_test = false;
    c.plan.dense_below = 0;
    const Problem& p = c.problem;
    const auto kept = KeptKeys(p, c.plan);
    std::size_t row_at = 0;
    for (std::int64_t b = 0; b < p.query.shape[0]; ++b) {
      for (std::int64_t h = 0; h < p.query.shape[1]; ++h) {
        for (std::int64_t i = 0; i < p.query.shape[2]; ++i) {
          const auto& got = kept[row_at++];
          const double t = c.plan.thresholds[0][h];
          if (t == kExactHead) continue;
          double margin = 1;
          const auto want = BrutePaperCandidates(p, c.plan.hash, c.plan.theta_bias_rad[0][0], t, b,
                                                 h, i, &margin);
          if (margin < 1e-5) continue;  // within the rounding of binary32
          ASSERT_EQ(got, want);
          ++compared;
        }
      }
    }
  }
  EXPECT_GT(compared, 10000);
}

TEST(AttentionProperty, LargerThresholdsKeepASubset) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Case c = RandomCase(seed);
    Plan tighter = c.plan;
    const double step = c.plan.rule == Rule::kGap ? -0.2 : 0.2;
    for (double& t : tighter.thresholds[0]) t += step;
    const auto loose = KeptKeys(c.problem, c.plan);
    const auto tight = KeptKeys(c.problem, tighter);
    for (std::size_t i = 0; i < loose.size(); ++i) {
      EXPECT_TRUE(
          std::includes(loose[i].begin(), loose[i].end(), tight[i].begin(), tight[i].end()));
    }
  }
}

TEST(AttentionProperty, PermutingKeysPermutesCandidates) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Case c = RandomCase(seed);
    Problem& p = c.problem;
    p.causal = false;
    p.key_lengths.clear();
    p.query_lengths.clear();
    // The mean key is a sum: another order may round otherwise and move a key across the cut.
    c.plan.centring = Centring::kOff;
    c.plan.centring_min_keys = 0;
    const std::int64_t n = p.key.shape[2];
    Random random(seed + 1);
    std::vector<std::int64_t> from(n);
    for (std::int64_t j = 0; j < n; ++j) from[j] = j;
    for (std::int64_t j = n - 1; j > 0; --j) std::swap(from[j], from[random.Below(j + 1)]);
    Problem q = p;
    for (std::int64_t b = 0; b < p.key.shape[0]; ++b) {
      for (std::int64_t h = 0; h < p.query.shape[1]; ++h) {
        for (std::int64_t j = 0; j < n; ++j) {
          if (h < p.key.shape[1]) {
            for (std::int64_t x = 0; x < p.key.shape[3]; ++x) {
              q.key(b, h, j, x) = p.key(b, h, from[j], x);
            }
          }
          for (std::int64_t i = 0; i < p.query.shape[2]; ++i) {
            if (!p.mask.values.empty()) q.mask(b, h, i, j) = p.mask(b, h, i, from[j]);
            if (!p.bias.values.empty()) q.bias(b, h, i, j) = p.bias(b, h, i, from[j]);
          }
        }
      }
    }
    const auto before = KeptKeys(p, c.plan);
    auto after = KeptKeys(q, c.plan);
    // Estimates are discrete: a tie among the best goes to the first key, in either order.
    for (std::size_t i = 0; i < before.size(); ++i) {
      for (std::int64_t& j : after[i]) j = from[j];
      std::sort(after[i].begin(), after[i].end());
      if (before[i].size() == 1 && after[i].size() == 1) continue;
      EXPECT_EQ(after[i], before[i]);
    }
  }
}

TEST(AttentionProperty, PowersOfTwoChangeNoCandidate) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Case c = RandomCase(seed);
    c.plan.rule = Rule::kPaper;
    c.plan.bias_in_test = false;
    c.problem.scale = 1e-3;  // or a weight may round to 0, and the key look dropped
    Problem scaled = c.problem;
    for (float& x : scaled.key.values) x *= 0.125f;
    for (float& x : scaled.query.values) x *= 16;
    EXPECT_EQ(KeptKeys(scaled, c.plan), KeptKeys(c.problem, c.plan));
  }
}

TEST(AttentionProperty, PaddingChangesNothing) {
  for (std::uint64_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    Case c = RandomCase(seed);
    Problem& p = c.problem;
    p.mask = {};
    p.bias = {};
    const auto& qs = p.query.shape;
    const auto& ks = p.key.shape;
    if (p.key_lengths.empty()) {
      p.key_lengths.assign(qs[0], ks[2]);
      p.query_lengths.assign(qs[0], qs[2]);
    }
    Random random(seed + 9);
    Problem longer = p;
    const auto extend = [&](const Tensor<float>& tensor, std::int64_t extra) {
      Tensor<float> more(
          {tensor.shape[0], tensor.shape[1], tensor.shape[2] + extra, tensor.shape[3]},
          std::numeric_limits<float>::quiet_NaN());
      for (std::int64_t b = 0; b < tensor.shape[0]; ++b) {
        for (std::int64_t h = 0; h < tensor.shape[1]; ++h) {
          for (std::int64_t i = 0; i < tensor.shape[2]; ++i) {
            for (std::int64_t x = 0; x < tensor.shape[3]; ++x) {
              more(b, h, i, x) = tensor(b, h, i, x);
            }
          }
        }
      }
      return more;
    };
    longer.query = extend(p.query, 3);
    longer.key = extend(p.key, 5);
    longer.value = extend(p.value, 5);
    const Attended want = RunAttend(p, &c.plan);
    const Attended got = RunAttend(longer, &c.plan);
    EXPECT_EQ(Total(got.stats).kept, Total(want.stats).kept);
    EXPECT_EQ(Total(got.stats).queries, Total(want.stats).queries);
    for (std::int64_t b = 0; b < qs[0]; ++b) {
      for (std::int64_t h = 0; h < qs[1]; ++h) {
        for (std::int64_t i = 0; i < qs[2] + 3; ++i) {
          for (std::int64_t x = 0; x < p.value.shape[3]; ++x) {
            EXPECT_EQ(got.out(b, h, i, x), i < qs[2] ? want.out(b, h, i, x) : 0.0);
          }
        }
      }
    }
  }
}

TEST(AttentionProperty, CalibratedPlansAreValidAndNeverEmpty) {
  for (std::uint64_t seed = 0; seed < 600; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const Case c = RandomCase(seed);
    Plan options = c.plan;
    Random random(seed + 3);
    options.target = options.rule == Rule::kPaper ? 8 * random.Uniform() : 1 - random.Uniform();
    Calibrator calibrator(options, 1, c.problem.query.shape[1]);
    calibrator.Observe(0, c.problem.inputs(), 1);
    const Plan plan = calibrator.Finish();
    ASSERT_NO_THROW(ValidatePlan(plan));
    const Attended got = RunAttend(c.problem, &plan, {.threads = 1, .measure_mass = true});
    for (std::size_t h = 0; h < got.stats.size(); ++h) {
      const HeadStats& stats = got.stats[h];
      EXPECT_GE(stats.kept, stats.queries - stats.empty_queries);
      EXPECT_TRUE(plan.rule != Rule::kGap || stats.fallback_queries == 0);
      // What the tested data lets a gap or mass keep is at least the target.
      if ((plan.rule == Rule::kGap || plan.rule == Rule::kMass) && plan.dense_below == 0) {
        EXPECT_GE(stats.mass_kept(), plan.target - 0.02);
      }
    }
  }
}

}  // namespace
}  // namespace elsa::reference
