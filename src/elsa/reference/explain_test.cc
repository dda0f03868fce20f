#include "elsa/reference/explain.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>

#include "elsa/base/error.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

struct Setting {
  std::string name;
  Problem problem;
  Plan plan;
};

std::vector<Setting> Settings() {
  std::vector<Setting> all;
  for (Rule rule : {Rule::kPaper, Rule::kMass, Rule::kBudget, Rule::kGap}) {
    for (bool bias_in_test : {false, true}) {
      for (double threshold : {0.2, 0.5, 3.0}) {
        Problem p = RandomProblem({.batch = 2, .queries = 7, .keys = 10}, 31);
        AddRandomMask(p, 0.8, 32);
        AddRandomBias(p, 1, 33);
        p.key_lengths = {10, 6};
        Plan plan = TestPlan(8, 32, 2, threshold);
        plan.rule = rule;
        plan.bias_in_test = bias_in_test;
        plan.always_keep_first = threshold == 3.0 && bias_in_test ? 1 : 0;
        plan.centring = threshold == 0.5 ? Centring::kOn : Centring::kOff;
        all.push_back(
            {std::string(Name(rule)) + (bias_in_test ? " bias " : " ") + std::to_string(threshold),
             p, plan});
      }
    }
  }
  return all;
}

TEST(Explain, AgreesWithAttend) {
  for (const Setting& s : Settings()) {
    SCOPED_TRACE(s.name);
    const Attended attended = RunAttend(s.problem, &s.plan, {.measure_mass = true});
    for (std::int64_t h = 0; h < 2; ++h) {
      HeadStats sum;
      for (std::int64_t b = 0; b < 2; ++b) {
        for (std::int64_t i = 0; i < 7; ++i) {
          const QueryExplanation why = Explain(s.problem.inputs(), s.plan, 0, b, h, i);
          std::vector<std::int64_t> visible;
          std::vector<std::int64_t> kept;
          double weights = 0;
          double mass = 0;
          for (const KeyExplanation& key : why.keys) {
            visible.push_back(key.key);
            if (key.kept) kept.push_back(key.key);
            weights += key.weight;
            mass += key.kept ? key.weight : 0;
            EXPECT_NEAR(key.score, BruteScore(s.problem, b, h, i, key.key), 1e-12);
          }
          EXPECT_EQ(visible, BruteVisible(s.problem, b, h, i));
          // The kept flags are those that Attend used: its row follows from them.
          const auto row = BruteRow(s.problem, b, h, i, kept, false);
          for (int c = 0; c < 8; ++c) EXPECT_NEAR(attended.out(b, h, i, c), row[c], 1e-12);
          EXPECT_NEAR(weights, 1, 1e-12);
          EXPECT_NEAR(why.mass_kept, mass, 1e-12);
          sum.mass_kept_sum += why.mass_kept;
          sum.fallback_queries += why.fallback ? 1 : 0;
          sum.kept += static_cast<std::int64_t>(kept.size());
        }
      }
      EXPECT_NEAR(sum.mass_kept_sum, attended.stats[h].mass_kept_sum, 1e-10);
      EXPECT_EQ(sum.fallback_queries, attended.stats[h].fallback_queries);
      EXPECT_EQ(sum.kept, attended.stats[h].kept);
    }
  }
}

TEST(Explain, GivesTheQuantitiesOfTheDecision) {
  Problem p = RandomProblem({}, 41);
  const Plan plan = TestPlan(8, 32, 2, 0.2);
  const QueryExplanation why = Explain(p.inputs(), plan, 0, 0, 1, 5);
  ASSERT_FALSE(why.fallback);
  EXPECT_EQ(why.query, 5);
  EXPECT_EQ(why.head, 1);
  EXPECT_EQ(why.threshold, 0.2);
  EXPECT_NEAR(why.cut_off, 0.2 * why.key_norm_max, 1e-6);
  EXPECT_NEAR(why.query_scale, p.scale * why.query_norm, 1e-6);
  double norm_max = 0;
  for (const KeyExplanation& key : why.keys) {
    double square = 0;
    double dot = 0;
    for (int c = 0; c < 8; ++c) square += std::pow(p.key(0, 1, key.key, c), 2);
    for (int c = 0; c < 8; ++c) dot += p.query(0, 1, 5, c) * p.key(0, 1, key.key, c);
    norm_max = std::max(norm_max, std::sqrt(square));
    EXPECT_NEAR(key.key_norm, std::sqrt(square), 1e-5);
    EXPECT_NEAR(key.true_similarity, dot / why.query_norm, 1e-5);
    EXPECT_NEAR(key.true_angle_rad, std::acos(dot / why.query_norm / std::sqrt(square)), 1e-5);
    EXPECT_NEAR(key.angle_rad, std::max(0.0, M_PI / 32 * key.distance - 0.12), 1e-12);
    EXPECT_NEAR(key.similarity, key.key_norm * std::cos(key.angle_rad), 1e-5);
    EXPECT_NEAR(key.estimated_score, why.query_scale * key.similarity, 1e-5);
    EXPECT_EQ(key.kept, key.similarity > why.cut_off);
  }
  EXPECT_NEAR(why.key_norm_max, norm_max, 1e-5);
}

// The sentence says what the flag says, names the numbers, and its comparison is true of them.
TEST(Explain, SentencesDecideRight) {
  int kept = 0;
  int dropped = 0;
  int fallbacks = 0;
  int always = 0;
  for (const Setting& s : Settings()) {
    SCOPED_TRACE(s.name);
    for (std::int64_t i = 0; i < 7; ++i) {
      const QueryExplanation why = Explain(s.problem.inputs(), s.plan, 0, 0, 0, i);
      for (const KeyExplanation& key : why.keys) {
        const std::string text = WhySentence(why, key, "key 7 'cat'");
        SCOPED_TRACE(text);
        const auto has = [&](const std::string& part) {
          return text.find(part) != std::string::npos;
        };
        EXPECT_EQ(text.find("key 7 'cat' is "), 0u);
        EXPECT_EQ(has(" is kept"), key.kept);
        EXPECT_EQ(has(" is dropped"), !key.kept);
        EXPECT_EQ(has("always keeps the first and last keys"), key.always);
        if (key.always) {
          EXPECT_TRUE(key.kept);
          ++always;
          continue;
        }
        EXPECT_TRUE(has("in " + std::to_string(key.distance) + " bits"));
        EXPECT_EQ(text.find('\n'), std::string::npos);
        double cut = 0;
        const std::size_t at = text.find("the cut-off ");
        ASSERT_NE(at, std::string::npos);
        ASSERT_EQ(std::sscanf(text.c_str() + at, "the cut-off %lf", &cut), 1);
        const bool by_score = why.rule == Rule::kGap || why.bias_in_test;
        const double value = by_score ? key.estimated_score : key.similarity;
        char number[32];
        std::snprintf(number, sizeof number, "%.3f", value);
        EXPECT_TRUE(has(number));
        EXPECT_EQ(has("not above the cut-off"), !key.kept);
        EXPECT_EQ(has("best estimate is kept"), key.kept && why.fallback);
        // Printed with three decimals, so true within one in the last.
        if (key.kept && !why.fallback) {
          EXPECT_GT(value, cut - 0.001);
        } else {
          EXPECT_LT(value, cut + 0.001);
        }
        kept += key.kept ? 1 : 0;
        dropped += key.kept ? 0 : 1;
        fallbacks += why.fallback ? 1 : 0;
      }
    }
  }
  EXPECT_GT(kept, 50);
  EXPECT_GT(dropped, 50);
  EXPECT_GT(fallbacks, 10);
  EXPECT_GT(always, 10);
}

TEST(Explain, SaysWhereSelectionIsBypassed) {
  const Problem p = RandomProblem({}, 43);
  Plan exact = TestPlan(8, 32, 2, kExactHead);
  Plan zero = TestPlan(8, 32, 2, 0.4);
  zero.target = 0;
  Plan dense = TestPlan(8, 32, 2, 0.4);
  dense.dense_below = 10;
  for (const Plan& plan : {exact, zero, dense}) {
    const QueryExplanation why = Explain(p.inputs(), plan, 0, 0, 0, 0);
    EXPECT_TRUE(why.exact);
    EXPECT_NEAR(why.mass_kept, 1, 1e-12);
    for (const KeyExplanation& key : why.keys) {
      EXPECT_TRUE(key.kept);
      EXPECT_EQ(WhySentence(why, key, "key").find("key is kept because selection is bypassed"), 0u);
    }
  }
}

TEST(Explain, SaysWhyAKeyWithoutAFiniteNormIsKept) {
  Problem p = RandomProblem({}, 44);
  p.key(0, 0, 3, 1) = std::numeric_limits<float>::infinity();
  const Plan plan = TestPlan(8, 32, 2, 0.9);
  const QueryExplanation why = Explain(p.inputs(), plan, 0, 0, 0, 2);
  EXPECT_TRUE(why.keys[3].kept);
  EXPECT_EQ(WhySentence(why, why.keys[3], "key 3"),
            "key 3 is kept because its norm is not finite: such a key is never dropped.");
}

TEST(Explain, HandlesAQueryThatSeesNothing) {
  Problem p = RandomProblem({}, 45);
  p.key_lengths = {0};
  const QueryExplanation why = Explain(p.inputs(), TestPlan(8, 32, 2, 0.4), 0, 0, 0, 2);
  EXPECT_TRUE(why.keys.empty());
  EXPECT_EQ(why.mass_kept, 1);
  EXPECT_FALSE(why.fallback);
}

TEST(Explain, RefusesIndicesOutOfRange) {
  Problem p = RandomProblem({}, 46);
  p.query_lengths = {5};
  const Plan plan = TestPlan(8, 32, 2, 0.4);
  const auto message = [&](std::int64_t layer, std::int64_t b, std::int64_t h, std::int64_t i) {
    try {
      Explain(p.inputs(), plan, layer, b, h, i);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message(0, 0, 1, 4), "no error");
  EXPECT_EQ(message(0, 1, 0, 0), "batch: expected 0 to 0, got 1");
  EXPECT_EQ(message(0, 0, 2, 0), "head: expected 0 to 1, got 2");
  EXPECT_EQ(message(0, 0, 0, 5), "query: expected 0 to 4, got 5");
  EXPECT_EQ(message(0, 0, 0, -1), "query: expected 0 to 4, got -1");
  EXPECT_EQ(message(1, 0, 0, 0), "plan: layer: expected 0 to 0, got 1");
}

}  // namespace
}  // namespace elsa::reference
