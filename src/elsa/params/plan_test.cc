#include "elsa/params/plan.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "elsa/base/error.h"

namespace elsa {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// d = 6 as 3 x 2 into 8 bits: batches of 6 and 2.
Plan GoodPlan() {
  Plan plan;
  plan.model = "test";
  plan.target = 1;
  plan.hash = {HashKind::kKronecker2, 6, 8, 1, {}};
  plan.hash.batches.push_back(
      {6, {{3, 3, std::vector<float>(9, 0.5f)}, {2, 2, std::vector<float>(4, 0.5f)}}});
  plan.hash.batches.push_back(
      {2, {{1, 3, std::vector<float>(3, 0.5f)}, {2, 2, std::vector<float>(4, 0.5f)}}});
  plan.theta_bias_rad = {{0.127}};
  plan.thresholds = {{0.1, kExactHead}, {-0.5, 1.5}};
  plan.calibration = {{{10, 0.1, 0.5, 0.9}, {}}, {{}, {}}};
  return plan;
}

HashSpec GoodHadamard() {
  return {HashKind::kHadamard, 3, 3, 1, {{3, {3, Matrix{1, 4, {1, -1, 1, -1}}}}}};
}

template <typename T>
std::string MessageOf(void (*validate)(const T&), const T& value) {
  try {
    validate(value);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

struct Broken {
  const char* message;
  std::function<void(Plan&)> change;
};

TEST(ValidatePlan, AcceptsGoodPlans) {
  Plan plan = GoodPlan();
  EXPECT_EQ(MessageOf(ValidatePlan, plan), "no error");
  plan.calibration.clear();
  plan.theta_bias_rad = {{0.1, 0.2}, {-0.1, 0.0}};
  EXPECT_EQ(MessageOf(ValidatePlan, plan), "no error");
  plan.centring = Centring::kByLength;
  plan.centring_min_keys = 12;
  plan.dense_below = 5;
  plan.always_keep_first = 4;
  plan.always_keep_recent = 64;
  plan.rule = Rule::kMass;
  EXPECT_EQ(MessageOf(ValidatePlan, plan), "no error");
  plan.rule = Rule::kPaper;
  plan.target = 0;
  EXPECT_EQ(MessageOf(ValidatePlan, plan), "no error");
}

TEST(ValidatePlan, RefusesEachBrokenField) {
  const Broken cases[] = {
      {"target: expected a number >= 0, got -1", [](Plan& p) { p.target = -1; }},
      {"target: expected a number >= 0, got nan", [](Plan& p) { p.target = kNan; }},
      {"target: expected a number >= 0, got inf", [](Plan& p) { p.target = kInfinity; }},
      {"target: expected a share in (0, 1], got 1.5",
       [](Plan& p) {
         p.rule = Rule::kMass;
         p.target = 1.5;
       }},
      {"target: expected a share in (0, 1], got 0",
       [](Plan& p) {
         p.rule = Rule::kGap;
         p.target = 0;
       }},
      {"dense_below: expected 0 or more keys, got -1", [](Plan& p) { p.dense_below = -1; }},
      {"always_keep.first: expected 0 or more keys, got -1",
       [](Plan& p) { p.always_keep_first = -1; }},
      {"always_keep.recent: expected 0 or more keys, got -3",
       [](Plan& p) { p.always_keep_recent = -3; }},
      {"centring.min_keys: expected 0 or more keys, got -2",
       [](Plan& p) { p.centring_min_keys = -2; }},
      {"centring.min_keys: expected 0 unless the mode is by_length, got 3",
       [](Plan& p) { p.centring_min_keys = 3; }},
      {"thresholds: expected at least one layer, got 0", [](Plan& p) { p.thresholds.clear(); }},
      {"thresholds[1]: expected at least one head, got 0",
       [](Plan& p) { p.thresholds[1].clear(); }},
      {"thresholds[1][0]: expected a finite number or null, got nan",
       [](Plan& p) { p.thresholds[1][0] = kNan; }},
      {"thresholds[0][1]: expected a finite number or null, got inf",
       [](Plan& p) { p.thresholds[0][1] = kInfinity; }},
      {"theta_bias_rad: expected one number or one row per layer, got 0",
       [](Plan& p) { p.theta_bias_rad.clear(); }},
      {"theta_bias_rad: expected one number or one row per layer, got 3",
       [](Plan& p) {
         p.theta_bias_rad = {{0, 0}, {0, 0}, {0, 0}};
       }},
      {"theta_bias_rad[1]: expected one number per head, got 3",
       [](Plan& p) {
         p.theta_bias_rad = {{0, 0}, {0, 0, 0}};
       }},
      {"theta_bias_rad[0][0]: expected radians within -pi to pi, got 3.2",
       [](Plan& p) { p.theta_bias_rad = {{3.2}}; }},
      {"theta_bias_rad[1][1]: expected radians within -pi to pi, got nan",
       [](Plan& p) {
         p.theta_bias_rad = {{0, 0}, {0, kNan}};
       }},
      {"calibration: expected one row per layer, got 1", [](Plan& p) { p.calibration.pop_back(); }},
      {"calibration[1]: expected one entry per head, got 1",
       [](Plan& p) { p.calibration[1].pop_back(); }},
      {"calibration[0][0].queries: expected 0 or more, got -1",
       [](Plan& p) { p.calibration[0][0].queries = -1; }},
      {"calibration[0][1].threshold_stddev: expected a number >= 0, got nan",
       [](Plan& p) { p.calibration[0][1].threshold_stddev = kNan; }},
      {"calibration[0][1].kept_fraction: expected 0 to 1, got 1.1",
       [](Plan& p) { p.calibration[0][1].kept_fraction = 1.1; }},
      {"calibration[0][1].mass_kept: expected 0 to 1, got nan",
       [](Plan& p) { p.calibration[0][1].mass_kept = kNan; }},
      {"hash.k: expected 1 to 4096, got 0", [](Plan& p) { p.hash.k = 0; }},
  };
  for (const Broken& broken : cases) {
    Plan plan = GoodPlan();
    broken.change(plan);
    EXPECT_EQ(MessageOf(ValidatePlan, plan), broken.message);
  }
}

TEST(ValidateHash, RefusesEachBrokenField) {
  const Broken cases[] = {
      {"hash.d: expected 1 to 1024, got 0", [](Plan& p) { p.hash.d = 0; }},
      {"hash.d: expected 1 to 1024, got 1025", [](Plan& p) { p.hash.d = 1025; }},
      {"hash.k: expected 1 to 4096, got 4097", [](Plan& p) { p.hash.k = 4097; }},
      {"hash.batches: expected at least one, got 0", [](Plan& p) { p.hash.batches.clear(); }},
      {"hash.batches: expected bits that sum to k = 8, got 6",
       [](Plan& p) { p.hash.batches.pop_back(); }},
      {"hash.batches[0].bits: expected 1 to k, got 0", [](Plan& p) { p.hash.batches[0].bits = 0; }},
      {"hash.batches[1].bits: expected 1 to k, got 9", [](Plan& p) { p.hash.batches[1].bits = 9; }},
      {"hash.batches[0].factors: expected 2 matrices, got 1",
       [](Plan& p) { p.hash.batches[0].factors.pop_back(); }},
      {"hash.batches[0].factors: expected 3 matrices, got 2",
       [](Plan& p) { p.hash.kind = HashKind::kKronecker3; }},
      {"hash.batches[0].factors: expected 1 matrices, got 2",
       [](Plan& p) { p.hash.kind = HashKind::kDense; }},
      {"hash.batches[0].factors[1].rows: expected 1 to 4096, got 0",
       [](Plan& p) { p.hash.batches[0].factors[1].rows = 0; }},
      {"hash.batches[0].factors[1].cols: expected 1 to 1024, got -2",
       [](Plan& p) { p.hash.batches[0].factors[1].cols = -2; }},
      {"hash.batches[0].factors[1].values: expected 4 numbers, got 3",
       [](Plan& p) { p.hash.batches[0].factors[1].values.pop_back(); }},
      {"hash.batches[0].factors[0].values: expected finite numbers, got nan",
       [](Plan& p) {
         p.hash.batches[0].factors[0].values[3] = std::numeric_limits<float>::quiet_NaN();
       }},
      {"hash.batches[0].factors: expected a product of columns equal to d, got 6",
       [](Plan& p) { p.hash.d = 7; }},
      {"hash.batches[1].factors: expected a product of rows of at least bits, got 2",
       [](Plan& p) { p.hash.batches[1].bits = 3; }},
  };
  for (const Broken& broken : cases) {
    Plan plan = GoodPlan();
    broken.change(plan);
    EXPECT_EQ(MessageOf(ValidateHash, plan.hash), broken.message);
  }
}

TEST(ValidateHash, ChecksHadamardSigns) {
  EXPECT_EQ(MessageOf(ValidateHash, GoodHadamard()), "no error");
  HashSpec hash = GoodHadamard();
  hash.batches[0].factors[1].values[2] = 0.5f;
  EXPECT_EQ(MessageOf(ValidateHash, hash),
            "hash.batches[0].factors[1].values: expected 1 or -1, got 0.5");
  hash = GoodHadamard();
  hash.batches[0].factors[2] = {1, 8, std::vector<float>(8, 1.0f)};
  EXPECT_EQ(MessageOf(ValidateHash, hash),
            "hash.batches[0].factors[2]: expected 1 x (power of two >= d), got 8");
  hash = GoodHadamard();
  hash.batches[0].factors.pop_back();
  EXPECT_EQ(MessageOf(ValidateHash, hash), "hash.batches[0].factors: expected 3 matrices, got 2");
}

TEST(Plan, ProfileNameFollowsFromTheOptions) {
  Plan plan = GoodPlan();
  EXPECT_EQ(ProfileName(plan), "paper");
  plan.target = 0;
  EXPECT_EQ(ProfileName(plan), "paper");
  plan.remainder = Remainder::kMean;
  EXPECT_EQ(ProfileName(plan), "mean-row");
  const std::function<void(Plan&)> levers[] = {
      [](Plan& p) { p.rule = Rule::kMass; },
      [](Plan& p) { p.rule = Rule::kBudget; },
      [](Plan& p) { p.rule = Rule::kGap; },
      [](Plan& p) { p.centring = Centring::kOn; },
      [](Plan& p) { p.centring = Centring::kByLength; },
      [](Plan& p) { p.bias_in_test = true; },
      [](Plan& p) { p.dense_below = 1; },
      [](Plan& p) { p.always_keep_first = 1; },
      [](Plan& p) { p.always_keep_recent = 1; },
      [](Plan& p) {
        p.theta_bias_rad = {{0.1, 0.1}, {0.1, 0.1}};
      },
  };
  for (const auto& lever : levers) {
    for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
      Plan changed = GoodPlan();
      changed.remainder = remainder;
      lever(changed);
      EXPECT_EQ(ProfileName(changed), "custom");
    }
  }
}

TEST(Plan, NamesRoundTrip) {
  for (HashKind kind : {HashKind::kKronecker3, HashKind::kKronecker2, HashKind::kDense,
                        HashKind::kHadamard, HashKind::kGaussian}) {
    EXPECT_EQ(ParseHashKind(Name(kind)), kind);
  }
  for (Rule rule : {Rule::kPaper, Rule::kMass, Rule::kBudget, Rule::kGap}) {
    EXPECT_EQ(ParseRule(Name(rule)), rule);
  }
  for (Remainder value : {Remainder::kNone, Remainder::kMean}) {
    EXPECT_EQ(ParseRemainder(Name(value)), value);
  }
  for (Centring value : {Centring::kOff, Centring::kOn, Centring::kByLength}) {
    EXPECT_EQ(ParseCentring(Name(value)), value);
  }
  EXPECT_EQ(Name(HashKind::kKronecker3), "kronecker3");
  EXPECT_EQ(Name(Centring::kByLength), "by_length");
}

TEST(Plan, UnknownNamesListTheKnownOnes) {
  const auto message = [](const auto& parse, std::string_view text) {
    try {
      parse(text);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("no error");
  };
  EXPECT_EQ(message(ParseRule, "Paper"),
            "rule: expected one of paper, mass, budget, gap, got 'Paper'");
  EXPECT_EQ(message(ParseHashKind, ""),
            "hash kind: expected one of kronecker3, kronecker2, dense, hadamard, gaussian, got ''");
  EXPECT_EQ(message(ParseRemainder, "x"), "remainder: expected one of none, mean, got 'x'");
  EXPECT_EQ(message(ParseCentring, "x"), "centring: expected one of off, on, by_length, got 'x'");
}

TEST(Plan, ExactHeadsAreThoseOfANullThresholdOrPZero) {
  Plan plan = GoodPlan();
  EXPECT_FALSE(plan.IsExactHead(0, 0));
  EXPECT_TRUE(plan.IsExactHead(0, 1));
  plan.target = 0;
  EXPECT_TRUE(plan.IsExactHead(0, 0));
  EXPECT_EQ(plan.layers(), 2);
}

TEST(Plan, ThetaBiasIsSharedOrPerHead) {
  Plan plan = GoodPlan();
  EXPECT_EQ(plan.ThetaBias(1, 1), 0.127);
  plan.theta_bias_rad = {{1, 2}, {3, 4}};
  EXPECT_EQ(plan.ThetaBias(1, 0), 3);
}

}  // namespace
}  // namespace elsa
