// What attention refuses, and how it says so. Visible keys are tested in similarity_test.cc.
#include "elsa/reference/attention_inputs.h"

#include <gtest/gtest.h>

#include <limits>

#include "elsa/base/error.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

std::string MessageOf(const AttentionInputs& inputs, const Plan* plan = nullptr,
                      std::int64_t layer = 0) {
  std::vector<double> out(inputs.batch() * inputs.heads() * inputs.query.shape[2] *
                          inputs.value.shape[3]);
  try {
    Attend(inputs, plan, layer,
           View<double, 4>(out.data(), {inputs.batch(), inputs.heads(), inputs.query.shape[2],
                                        inputs.value.shape[3]}));
  } catch (const Error& error) {
    return std::string(ErrorCodeName(error.code())) + "; " + error.what();
  }
  return "no error";
}

TEST(AttendErrors, NameTheInputAndBothSides) {
  const Problem p = RandomProblem(
      {.batch = 2, .heads = 4, .kv_heads = 2, .queries = 3, .keys = 5, .d = 8, .d_v = 6}, 1);
  const AttentionInputs good = p.inputs();
  EXPECT_EQ(MessageOf(good), "no error");

  AttentionInputs bad = good;
  bad.key.shape[3] = 7;
  EXPECT_EQ(MessageOf(bad), "invalid_argument; key: expected shape [2, 2, 5, 8], got [2, 2, 5, 7]");
  bad = good;
  bad.value.shape[2] = 4;
  EXPECT_EQ(MessageOf(bad),
            "invalid_argument; value: expected shape [2, 2, 5, 6], got [2, 2, 4, 6]");
  bad = good;
  bad.query.shape[1] = 3;
  EXPECT_EQ(MessageOf(bad),
            "invalid_argument; key: expected a number of heads that divides 3, got 2");
  bad = good;
  bad.query.shape[3] = bad.key.shape[3] = 0;
  EXPECT_EQ(MessageOf(bad), "invalid_argument; query: expected d of 1 or more, got 0");
  bad = good;
  bad.scale = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(MessageOf(bad), "invalid_argument; scale: expected a finite number, got nan");
  const std::vector<std::uint8_t> mask(100, 1);
  bad = good;
  bad.mask = View<const std::uint8_t, 4>(mask.data(), {2, 1, 3, 5});
  EXPECT_EQ(MessageOf(bad),
            "invalid_argument; mask: expected shape [2, 4, 3, 5], got [2, 1, 3, 5]");
  const std::vector<float> bias(200, 0.0f);
  bad = good;
  bad.bias = View<const float, 4>(bias.data(), {2, 4, 5, 3});
  EXPECT_EQ(MessageOf(bad),
            "invalid_argument; bias: expected shape [2, 4, 3, 5], got [2, 4, 5, 3]");
  const std::vector<std::int64_t> three{1, 1, 1};
  const std::vector<std::int64_t> long_keys{5, 6};
  const std::vector<std::int64_t> negative{-1, 2};
  bad = good;
  bad.key_lengths = three;
  EXPECT_EQ(MessageOf(bad), "invalid_argument; key_lengths: expected 2 values, got 3");
  bad.key_lengths = long_keys;
  EXPECT_EQ(MessageOf(bad), "invalid_argument; key_lengths[1]: expected 0 to 5, got 6");
  bad = good;
  bad.query_lengths = negative;
  EXPECT_EQ(MessageOf(bad), "invalid_argument; query_lengths[0]: expected 0 to 3, got -1");

  std::vector<float> out(2 * 4 * 3 * 8);
  try {
    Attend(good, nullptr, 0, View<float, 4>(out.data(), {2, 4, 3, 8}));
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "out: expected shape [2, 4, 3, 6], got [2, 4, 3, 8]");
  }
}

TEST(AttendErrors, NameThePlanThatDoesNotFit) {
  const Problem p = RandomProblem({.heads = 2, .d = 8}, 1);
  AttentionInputs inputs = p.inputs();
  const Plan good = TestPlan(8, 16, 2, 0.3);
  EXPECT_EQ(MessageOf(inputs, &good), "no error");
  EXPECT_EQ(MessageOf(inputs, &good, 1), "mismatch; plan: layer: expected 0 to 0, got 1");
  EXPECT_EQ(MessageOf(inputs, &good, -1), "mismatch; plan: layer: expected 0 to 0, got -1");
  Plan plan = TestPlan(8, 16, 3, 0.3);
  EXPECT_EQ(MessageOf(inputs, &plan),
            "mismatch; plan: layer 0: heads: expected 2 as in the input, got 3");
  plan = TestPlan(7, 16, 2, 0.3, HashKind::kDense);
  EXPECT_EQ(MessageOf(inputs, &plan),
            "mismatch; plan: hash.d: expected 8 or more as in the input, got 7");
  plan = TestPlan(16, 16, 2, 0.3);
  EXPECT_EQ(MessageOf(inputs, &plan), "no error");
  plan = good;
  plan.centring = Centring::kOn;
  EXPECT_EQ(MessageOf(inputs, &plan), "no error");
  inputs.causal = true;
  EXPECT_EQ(MessageOf(inputs, &plan),
            "unsupported; plan: centring: expected off for causal attention, got on");
  inputs.scale = -1;
  EXPECT_EQ(MessageOf(inputs, &good),
            "unsupported; scale: expected a positive number with a plan, got -1.000000");
  EXPECT_EQ(MessageOf(inputs), "no error");
}

}  // namespace
}  // namespace elsa::reference
