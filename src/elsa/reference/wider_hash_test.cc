// A hash that takes more components than the vectors have (Sec. IV-E: a machine built for d = 64
// runs a model of d = 32): everything equals the same on vectors written with zeros between their
// components.
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/calibration.h"
#include "elsa/reference/explain.h"
#include "elsa/reference/similarity.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

constexpr std::int64_t kHashD = 64;
constexpr Rule kRules[] = {Rule::kPaper, Rule::kMass, Rule::kBudget, Rule::kGap};

// Where a hash of 4 x 4 x 4 columns takes d components: 4 at 000 013 022 031 in base 4, 32 at even
// digit sums, 60 at all but the last sums of 3 or 7: 300 313 322 331.
std::vector<std::int64_t> Positions(std::int64_t d) {
  if (d == 4) return {0, 7, 10, 13};
  if (d == 32) return PositionsOf32In64(HashKind::kKronecker3);
  std::vector<std::int64_t> positions;
  for (std::int64_t p = 0; p < kHashD; ++p) {
    if (p != 48 && p != 55 && p != 58 && p != 61) positions.push_back(p);
  }
  return positions;
}

Tensor<float> Spread(const Tensor<float>& t) {
  const std::vector<std::int64_t> positions = Positions(t.shape[3]);
  Tensor<float> wide({t.shape[0], t.shape[1], t.shape[2], kHashD});
  for (std::int64_t b = 0; b < t.shape[0]; ++b) {
    for (std::int64_t h = 0; h < t.shape[1]; ++h) {
      for (std::int64_t i = 0; i < t.shape[2]; ++i) {
        for (std::int64_t c = 0; c < t.shape[3]; ++c) wide(b, h, i, positions[c]) = t(b, h, i, c);
      }
    }
  }
  return wide;
}

// Queries and keys spread among zeros; the scale stays that of the real components.
Problem Spread(Problem p) {
  p.query = Spread(p.query);
  p.key = Spread(p.key);
  return p;
}

// Components are quarters and lengths powers of two, so that dot products, squared norms and mean
// keys are exact, hence equal to the last bit in whatever order they are summed.
Problem Narrow(std::int64_t d, std::uint64_t seed) {
  Problem p = RandomProblem(
      {.batch = 2, .heads = 4, .kv_heads = 2, .queries = 14, .keys = 16, .d = d, .d_v = 6}, seed);
  for (float& x : p.query.values) x = std::round(4 * x) / 4;
  for (float& x : p.key.values) x = std::round(4 * x) / 4;
  p.key_lengths = {16, 8};
  AddRandomBias(p, 0.5, seed + 1);
  return p;
}

Plan WidePlan(double threshold, std::uint64_t seed) {
  return TestPlan(kHashD, 64, 4, threshold, HashKind::kKronecker3, seed);
}

TEST(WiderHash, AttendsAsOnVectorsSpreadAmongZeros) {
  std::int64_t dropped = 0;
  for (std::int64_t d : {4, 32, 60}) {
    for (Rule rule : kRules) {
      for (Centring centring : {Centring::kOff, Centring::kOn}) {
        for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
          SCOPED_TRACE(testing::Message() << d << " " << Name(rule) << " " << Name(centring));
          const Problem p = Narrow(d, 50 + d);
          Plan plan = WidePlan(rule == Rule::kGap ? 1.5 : 0.2, 3);
          plan.rule = rule;
          plan.centring = centring;
          plan.remainder = remainder;
          plan.bias_in_test = remainder == Remainder::kMean;
          const Attended narrow = RunAttend(p, &plan, {.measure_mass = true});
          const Attended wide = RunAttend(Spread(p), &plan, {.measure_mass = true});
          EXPECT_EQ(narrow.out.values, wide.out.values);
          for (std::int64_t h = 0; h < 4; ++h) {
            EXPECT_EQ(narrow.stats[h].kept, wide.stats[h].kept);
            EXPECT_EQ(narrow.stats[h].mass_kept_sum, wide.stats[h].mass_kept_sum);
            dropped += narrow.stats[h].pairs - narrow.stats[h].kept;
          }
        }
      }
    }
  }
  // About half of the 4 * 14 * (16 + 8) pairs of each case.
  EXPECT_GT(dropped, 48 * 400);
}

TEST(WiderHash, ExplainsAsOnVectorsSpreadAmongZeros) {
  for (Centring centring : {Centring::kOff, Centring::kOn}) {
    const Problem p = Narrow(32, 61);
    const Problem wide = Spread(p);
    Plan plan = WidePlan(0.2, 4);
    plan.centring = centring;
    for (std::int64_t i = 0; i < 14; ++i) {
      const QueryExplanation a = Explain(p.inputs(), plan, 0, 1, 3, i);
      const QueryExplanation b = Explain(wide.inputs(), plan, 0, 1, 3, i);
      EXPECT_EQ(a.query_norm, b.query_norm);
      EXPECT_EQ(a.key_norm_max, b.key_norm_max);
      ASSERT_EQ(a.keys.size(), b.keys.size());
      for (std::size_t v = 0; v < a.keys.size(); ++v) {
        EXPECT_EQ(a.keys[v].distance, b.keys[v].distance);
        EXPECT_EQ(a.keys[v].key_norm, b.keys[v].key_norm);
        EXPECT_EQ(a.keys[v].true_angle_rad, b.keys[v].true_angle_rad);
        EXPECT_EQ(a.keys[v].score, b.keys[v].score);
        EXPECT_EQ(a.keys[v].kept, b.keys[v].kept);
      }
    }
  }
}

TEST(WiderHash, LearnsAsOnVectorsSpreadAmongZeros) {
  const std::vector<Problem> problems{Narrow(32, 70), Narrow(32, 80)};
  for (Rule rule : kRules) {
    SCOPED_TRACE(Name(rule));
    Plan options = WidePlan(0, 5);
    options.rule = rule;
    options.target = rule == Rule::kPaper ? 1 : 0.6;
    ThetaBiasMeter narrow_meter(options, 1, 4);
    ThetaBiasMeter wide_meter(options, 1, 4);
    Calibrator narrow(options, 1, 4);
    Calibrator wide(options, 1, 4);
    for (const Problem& p : problems) {
      narrow_meter.Observe(0, p.inputs());
      wide_meter.Observe(0, Spread(p).inputs());
      narrow.Observe(0, p.inputs());
      wide.Observe(0, Spread(p).inputs());
    }
    EXPECT_EQ(narrow_meter.Finish(), wide_meter.Finish());
    EXPECT_EQ(narrow.Finish(), wide.Finish());
  }
}

TEST(WiderHash, MeasuresAHeadWithoutPairsOnVectorsOfTheInputs) {
  Problem p = Narrow(32, 90);
  p.key_lengths = {0, 0};
  const Plan options = WidePlan(0, 6);
  ThetaBiasMeter meter(options, 1, 4);
  meter.Observe(0, p.inputs());
  EXPECT_EQ(meter.Finish()[0][2], MeasureThetaBias(options.hash, 32));
}

TEST(WiderHash, IsRefusedEverywhereIfNarrower) {
  const Problem p = RandomProblem({.d = 32}, 1);
  const Plan plan = TestPlan(16, 16, 2, 0.2);
  const auto message = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return std::string(ErrorCodeName(error.code())) + "; " + error.what();
    }
    return std::string("no error");
  };
  const std::string by_plan = "mismatch; plan: hash.d: expected 32 or more as in the input, got 16";
  EXPECT_EQ(message([&] { RunAttend(p, &plan); }), by_plan);
  EXPECT_EQ(message([&] { Explain(p.inputs(), plan, 0, 0, 0, 0); }), by_plan);
  EXPECT_EQ(message([&] { ValidatePlanFits(plan, 0, p.inputs()); }), by_plan);
  EXPECT_EQ(message([&] { Calibrator(plan, 1, 2).Observe(0, p.inputs()); }), by_plan);
  EXPECT_EQ(message([&] { ThetaBiasMeter(plan, 1, 2).Observe(0, p.inputs()); }), by_plan);
  const std::string by_hash = "mismatch; hash: expected vectors of 1 to 16 components, got 32";
  const AttentionInputs inputs = p.inputs();
  HeadInputs head(inputs, 0, 0);
  EXPECT_EQ(message([&] { SimilarityEstimator(head, EstimatorOptionsOf(plan, 0, 0)); }), by_hash);
  EXPECT_EQ(message([&] { MeasureThetaBias(plan.hash, 32); }), by_hash);
}

}  // namespace
}  // namespace elsa::reference
