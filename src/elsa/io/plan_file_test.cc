#include "elsa/io/plan_file.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/io/testing.h"

namespace elsa::io {
namespace {

// 2 layers of 2 and 3 heads; d = 4, k = 6 in two batches of a 2-way Kronecker hash.
Plan SmallPlan() {
  Plan plan;
  plan.model = "toy \"\u00e9\"\n";
  plan.rule = Rule::kPaper;
  plan.target = 1.5;
  plan.hash.kind = HashKind::kKronecker2;
  plan.hash.d = 4;
  plan.hash.k = 6;
  plan.hash.seed = std::numeric_limits<std::uint64_t>::max();
  const Matrix factor{2, 2, {0.6f, -0.8f, 0.8f, 0.1f}};
  plan.hash.batches = {{4, {factor, factor}}, {2, {factor, factor}}};
  plan.theta_bias_rad = {{0.127}};
  plan.thresholds = {{0.1, kExactHead}, {-0.3, 1e-300, 2}};
  return plan;
}

// Every option away from its default.
Plan FullPlan() {
  Plan plan = SmallPlan();
  plan.rule = Rule::kGap;
  plan.target = 0.99;
  plan.remainder = Remainder::kMean;
  plan.centring = Centring::kByLength;
  plan.centring_min_keys = 40;
  plan.bias_in_test = true;
  plan.dense_below = 16;
  plan.always_keep_first = 4;
  plan.always_keep_recent = 128;
  plan.theta_bias_rad = {{0.1, 0.2}, {-0.1, 0, 0.3}};
  plan.calibration = {{{10, 0.5, 0.25, 0.75}, {11, 0, 1, 1}},
                      {{12, 0.5, 0.25, 0.75}, {0, 0, 1, 1}, {14, 0.5, 0, 0}}};
  return plan;
}

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  const std::size_t at = text.find(from);
  EXPECT_NE(at, text.npos) << from;
  return text.replace(at, from.size(), to);
}

std::string ErrorOfText(const std::string& text) {
  return ErrorOf([&] { ParsePlan(text, "p.json"); });
}

// The error after replacing `from` by `to` in the full plan's text.
std::string ErrorAfter(const std::string& from, const std::string& to) {
  return ErrorOfText(Replaced(FormatPlan(FullPlan()), from, to));
}

TEST(PlanFile, ReadsBackWhatItWrites) {
  for (const Plan& plan : {SmallPlan(), FullPlan()}) {
    const std::string text = FormatPlan(plan);
    EXPECT_EQ(ParsePlan(text, "p"), plan);
    EXPECT_EQ(FormatPlan(ParsePlan(text, "p")), text);
  }
}

TEST(PlanFile, ReadsBackEveryRuleWithItsOwnTargetWord) {
  for (const auto& [rule, word] :
       std::vector<std::pair<Rule, std::string>>{{Rule::kPaper, "p"},
                                                 {Rule::kMass, "mass"},
                                                 {Rule::kBudget, "kept_fraction"},
                                                 {Rule::kGap, "mass"}}) {
    Plan plan = SmallPlan();
    plan.rule = rule;
    plan.target = 0.5;
    const std::string text = FormatPlan(plan);
    EXPECT_NE(text.find("\"target\": {\"" + word + "\": 0.5}"), text.npos);
    EXPECT_EQ(ParsePlan(text, "p"), plan);
  }
}

TEST(PlanFile, IsThisText) {
  EXPECT_EQ(FormatPlan(SmallPlan()), R"({
  "elsa_plan": 1,
  "profile": "paper",
  "model": "toy \"é\"\n",
  "rule": "paper",
  "target": {"p": 1.5},
  "remainder": "none",
  "centring": {"mode": "off", "min_keys": 0},
  "bias_in_test": false,
  "dense_below": 0,
  "hash": {
    "kind": "kronecker2",
    "d": 4,
    "k": 6,
    "seed": "18446744073709551615",
    "batches": [
      {
        "bits": 4,
        "factors": [
          {
            "rows": 2,
            "cols": 2,
            "values": [
              0.6, -0.8,
              0.8, 0.1
            ]
          },
          {
            "rows": 2,
            "cols": 2,
            "values": [
              0.6, -0.8,
              0.8, 0.1
            ]
          }
        ]
      },
      {
        "bits": 2,
        "factors": [
          {
            "rows": 2,
            "cols": 2,
            "values": [
              0.6, -0.8,
              0.8, 0.1
            ]
          },
          {
            "rows": 2,
            "cols": 2,
            "values": [
              0.6, -0.8,
              0.8, 0.1
            ]
          }
        ]
      }
    ]
  },
  "theta_bias_rad": 0.127,
  "thresholds": [
    [0.1, null],
    [-0.3, 1e-300, 2]
  ]
}
)");
}

TEST(PlanFile, WritesCalibrationOneHeadPerLine) {
  const std::string text = FormatPlan(FullPlan());
  EXPECT_NE(text.find(R"(
  "theta_bias_rad": [
    [0.1, 0.2],
    [-0.1, 0, 0.3]
  ],)"),
            text.npos);
  EXPECT_NE(
      text.find(
          R"({"queries": 10, "threshold_stddev": 0.5, "kept_fraction": 0.25, "mass_kept": 0.75},)"),
      text.npos);
  EXPECT_NE(text.find("\"profile\": \"custom\""), text.npos);
}

TEST(PlanFile, KeepsEveryBitOfRandomNumbers) {
  constexpr std::uint64_t kSeed = 7;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random(kSeed);
  for (int round = 0; round < 200; ++round) {
    Plan plan = SmallPlan();
    for (auto& batch : plan.hash.batches) {
      for (auto& factor : batch.factors) {
        for (float& value : factor.values) {
          do {
            value = std::bit_cast<float>(static_cast<std::uint32_t>(random.Next()));
          } while (!std::isfinite(value));
        }
      }
    }
    for (auto& row : plan.thresholds) {
      for (double& value : row) {
        do {
          value = std::bit_cast<double>(random.Next());
        } while (!std::isfinite(value));
      }
    }
    plan.hash.seed = random.Next();
    const Plan read = ParsePlan(FormatPlan(plan), "p");
    ASSERT_EQ(read, plan);
  }
}

TEST(PlanFile, KeepsTheSignOfZeroAndTheSmallestNumbers) {
  Plan plan = SmallPlan();
  plan.hash.batches[0].factors[0].values = {-0.0f, 0.0f, std::numeric_limits<float>::denorm_min(),
                                            std::numeric_limits<float>::lowest()};
  plan.thresholds[0] = {-0.0, std::numeric_limits<double>::denorm_min()};
  const Plan read = ParsePlan(FormatPlan(plan), "p");
  EXPECT_EQ(read, plan);
  EXPECT_TRUE(std::signbit(read.hash.batches[0].factors[0].values[0]));
  EXPECT_FALSE(std::signbit(read.hash.batches[0].factors[0].values[1]));
  EXPECT_TRUE(std::signbit(read.thresholds[0][0]));
}

TEST(PlanFile, ReadsKeysInAnyOrderAndAnyLayout) {
  const std::string text = FormatPlan(FullPlan());
  std::string flat;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"' && text[i - 1] != '\\') in_string = !in_string;
    if (in_string || (text[i] != ' ' && text[i] != '\n')) flat += text[i];
  }
  EXPECT_EQ(ParsePlan(flat, "p"), FullPlan());
  std::string moved = Replaced(text, "  \"bias_in_test\": true,\n", "");
  moved = Replaced(moved, "{\n", "{\n  \"bias_in_test\": true,\n");
  EXPECT_EQ(ParsePlan(moved, "p"), FullPlan());
}

TEST(PlanFile, RefusesUnknownVersionsBeforeAnythingElse) {
  EXPECT_EQ(ErrorAfter("\"elsa_plan\": 1", "\"elsa_plan\": 2, \"new\": 1"),
            "unsupported: p.json: elsa_plan: format version: expected 1, got 2");
  EXPECT_EQ(ErrorAfter("\"elsa_plan\": 1", "\"elsa_plan\": \"1\""),
            "invalid_format: p.json: elsa_plan: expected an integer >= 0, got \"1\"");
  EXPECT_EQ(ErrorOfText("{}"),
            "invalid_format: p.json: expected a plan with the key \"elsa_plan\", got none");
  EXPECT_EQ(ErrorOfText("[]"),
            "invalid_format: p.json: expected a plan with the key \"elsa_plan\", got none");
}

TEST(PlanFile, RefusesEveryMissingKey) {
  const std::string text = FormatPlan(SmallPlan());
  for (const std::string key :
       {"profile", "model", "rule", "target", "remainder", "centring", "bias_in_test",
        "dense_below", "hash", "theta_bias_rad", "thresholds"}) {
    EXPECT_NE(ErrorOfText(Replaced(text, "\n  \"" + key + "\":", "\n  \"other\":"))
                  .find("p.json: expected the key \"" + key + "\", got none"),
              std::string::npos)
        << key;
  }
  for (const std::string key : {"kind", "d", "k", "seed", "batches", "bits", "factors", "rows",
                                "cols", "values", "min_keys", "mode"}) {
    EXPECT_NE(ErrorOfText(Replaced(text, '"' + key + "\":", "\"other\":"))
                  .find(": expected the key \"" + key + "\", got none"),
              std::string::npos)
        << key;
  }
}

TEST(PlanFile, RefusesUnknownAndDuplicateKeys) {
  EXPECT_EQ(ErrorAfter("\"model\"", "\"x\": 1, \"model\""),
            "invalid_format: p.json: expected no unknown key, got \"x\"");
  EXPECT_EQ(ErrorAfter("\"bits\"", "\"x\": 1, \"bits\""),
            "invalid_format: p.json: hash.batches[0]: expected no unknown key, got \"x\"");
  EXPECT_EQ(ErrorAfter("\"queries\"", "\"x\": 1, \"queries\""),
            "invalid_format: p.json: calibration[0][0]: expected no unknown key, got \"x\"");
  EXPECT_EQ(ErrorAfter("\"dense_below\"", "\"dense_below\": 1, \"dense_below\""),
            "invalid_format: p.json: JSON: expected each key once per object, got \"dense_below\" "
            "twice");
  EXPECT_EQ(ErrorAfter("\"rows\"", "\"rows\": 2, \"rows\""),
            "invalid_format: p.json: JSON: expected each key once per object, got \"rows\" twice");
}

TEST(PlanFile, RefusesWrongTypesNamingTheField) {
  struct Case {
    std::string from, to, error;
  };
  const std::vector<Case> cases = {
      {"\"rule\": \"gap\"", "\"rule\": 1", "rule: expected a string, got 1"},
      {"\"rule\": \"gap\"", "\"rule\": \"best\"",
       "rule: expected one of paper, mass, budget, gap, got 'best'"},
      {"{\"mass\": 0.99}", "{\"p\": 0.99}", "target: expected the key \"mass\", got none"},
      {"{\"mass\": 0.99}", "0.99", "target: expected an object, got 0.99"},
      {"{\"mass\": 0.99}", "{\"mass\": \"0.99\"}", "target.mass: expected a number, got \"0.99\""},
      {"\"remainder\": \"mean\"", "\"remainder\": null", "remainder: expected a string, got null"},
      {"\"min_keys\": 40", "\"min_keys\": 40.5",
       "centring.min_keys: expected an integer >= 0, got 40.5"},
      {"\"bias_in_test\": true", "\"bias_in_test\": 1",
       "bias_in_test: expected true or false, got 1"},
      {"\"dense_below\": 16", "\"dense_below\": -16",
       "dense_below: expected an integer >= 0, got -16"},
      {"{\"first\": 4, \"recent\": 128}", "{\"first\": 4}",
       "always_keep: expected the key \"recent\", got none"},
      {"\"recent\": 128", "\"recent\": -1", "always_keep.recent: expected an integer >= 0, got -1"},
      {"\"seed\": \"18446744073709551615\"", "\"seed\": \"18446744073709551616\"",
       "hash.seed: expected a string of decimal digits below 2^64, got "
       "\"18446744073709551616\""},
      {"\"seed\": \"18446744073709551615\"", "\"seed\": 3", "hash.seed: expected a string, got 3"},
      {"0.6,", "\"0.6\",", "hash.batches[0].factors[0].values[0]: expected a number, got \"0.6\""},
      {"0.6,", "1e39,",
       "hash.batches[0].factors[0].values[0]: expected a number that fits a float, got 1e+39"},
      {"[0.1, 0.2],", "[0.1, null],", "theta_bias_rad[0][1]: expected a number, got null"},
      {"[0.1, null]", "[0.1, true]", "thresholds[0][1]: expected a number, got true"},
      {"[0.1, null]", "0.1", "thresholds[0]: expected an array, got 0.1"},
      {"\"queries\": 10", "\"queries\": -1",
       "calibration[0][0].queries: expected an integer >= 0, got -1"},
  };
  for (const Case& test : cases) {
    EXPECT_EQ(ErrorAfter(test.from, test.to), "invalid_format: p.json: " + test.error);
  }
}

TEST(PlanFile, RefusesNumbersThatAreNotFinite) {
  EXPECT_EQ(ErrorAfter("[0.1, null]", "[0.1, 1e999]"),
            "invalid_format: p.json: JSON: expected numbers that fit a double, got a larger one");
  for (const std::string bad : {"NaN", "Infinity", "-inf"}) {
    EXPECT_NE(ErrorAfter("[0.1, null]", "[0.1, " + bad + "]")
                  .find("expected a JSON document, got a syntax error at line "),
              std::string::npos);
  }
}

TEST(PlanFile, RefusesWrongSizes) {
  // The words are those of ValidatePlan; here: that its errors name the file and the field.
  EXPECT_NE(ErrorAfter("[0.1, null]", "[0.1]").find("invalid_format: p.json: "), std::string::npos);
  EXPECT_NE(ErrorAfter("0.6, -0.8,", "0.6,")
                .find("invalid_format: p.json: hash.batches[0].factors[0].values: "),
            std::string::npos);
  EXPECT_NE(ErrorAfter("\"rows\": 2", "\"rows\": 9223372036854775807")
                .find("invalid_format: p.json: hash.batches[0].factors[0].rows: "),
            std::string::npos);
  EXPECT_NE(ErrorAfter("\"k\": 6", "\"k\": 7").find("invalid_format: p.json: hash.batches: "),
            std::string::npos);
}

TEST(PlanFile, RefusesAProfileThatDoesNotFollowFromTheOptions) {
  EXPECT_EQ(ErrorAfter("\"profile\": \"custom\"", "\"profile\": \"paper\""),
            "invalid_format: p.json: profile: expected \"custom\", which follows from the options, "
            "got \"paper\"");
}

TEST(PlanFile, NamesLineAndColumnOfASyntaxError) {
  EXPECT_EQ(ErrorOfText("{\n  \"elsa_plan\": 1,,\n}"),
            "invalid_format: p.json: JSON: expected a JSON document, got a syntax error at line 2, "
            "column 18");
  EXPECT_NE(ErrorOfText(""), "no error");
  const std::string text = FormatPlan(SmallPlan());
  EXPECT_NE(ErrorOfText(text.substr(0, text.size() / 2)), "no error");
}

TEST(PlanFile, KeepsHostileWordsOnOneLine) {
  EXPECT_EQ(ErrorAfter("\"rule\": \"gap\"", "\"rule\": \"a\\n\\u001b[1m\""),
            "invalid_format: p.json: rule: expected one of paper, mass, budget, gap, got "
            "'a\\x0a\\x1b[1m'");
  EXPECT_LT(ErrorAfter("\"rule\": \"gap\"", "\"rule\": \"" + std::string(5000, 'x') + '"').size(),
            400u);
}

TEST(PlanFile, DoesNotWriteAnInvalidPlan) {
  const TemporaryFolder folder;
  Plan plan = SmallPlan();
  plan.thresholds[0][0] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_NE(ErrorOf([&] { WritePlan(folder / "p.json", plan); }).find("invalid_argument: "),
            std::string::npos);
  EXPECT_EQ(folder.Entries(), 0u);
}

TEST(PlanFile, WritesAndReadsFiles) {
  const TemporaryFolder folder;
  const std::string path = folder / "p.json";
  WritePlan(path, FullPlan());
  EXPECT_EQ(ReadPlan(path), FullPlan());
  EXPECT_EQ(ReadText(path), FormatPlan(FullPlan()));
  EXPECT_EQ(
      ErrorOf([&] { ReadPlan(folder / "none.json"); }),
      "io: " + (folder / "none.json") + ": open: expected success, got No such file or directory");
}

}  // namespace
}  // namespace elsa::io
