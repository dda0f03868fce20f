#include "elsa/fixed/attend.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "elsa/base/error.h"
#include "elsa/fixed/testing.h"

namespace elsa::fixed {
namespace {

struct Attended {
  reference::Tensor<float> out;
  AttendResult result;
};

Attended RunFixed(const Config& config, const reference::Problem& problem, const Plan* plan,
                  int threads = 0) {
  Attended attended{reference::Tensor<float>({problem.query.shape[0], problem.query.shape[1],
                                              problem.query.shape[2], problem.value.shape[3]},
                                             7.5f),
                    {}};
  AttendOptions options;
  options.threads = threads;
  attended.result = Attend(config, problem.inputs(), plan, 0,
                           View<float, 4>(attended.out.values.data(), attended.out.shape), options);
  return attended;
}

double RelativeError(const reference::Tensor<float>& out, const reference::Tensor<double>& exact) {
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    error += std::pow(out.values[i] - exact.values[i], 2);
    size += std::pow(exact.values[i], 2);
  }
  return std::sqrt(error / size);
}

reference::Problem Batched() {
  reference::Problem problem = reference::RandomProblem({3, 4, 2, 40, 50, 64, 32}, 6);
  problem.query_lengths = {40, 0, 13};
  problem.key_lengths = {50, 20, 0};
  return problem;
}

TEST(FixedAttend, IsCloseToTheReference) {
  const auto problem = reference::RandomProblem({1, 2, 2, 60, 60, 64, 64}, 5);
  const reference::Attended exact = reference::RunAttend(problem, nullptr);
  Config config;
  EXPECT_LT(RelativeError(RunFixed(config, problem, nullptr).out, exact.out), 0.12);
  SetFormats(&config, "recommended");
  EXPECT_LT(RelativeError(RunFixed(config, problem, nullptr).out, exact.out), 0.03);
}

// With formats far wider than needed the machine is the reference.
TEST(FixedAttend, WideFormatsApproachTheReference) {
  Config config;
  SetFormats(&config, "recommended");
  config.qkv_integer_bits = 1;
  config.qkv_fraction_bits = 10;
  config.score_constant_bits = 16;
  config.exp_table_entries = 4096;
  config.float_fraction_bits = 12;
  config.accumulator_fraction_bits = 9;
  config.sum_fraction_bits = 16;
  config.reciprocal_table_entries = 4096;
  config.reciprocal_fraction_bits = 16;
  const auto problem = reference::RandomProblem({1, 2, 2, 60, 60, 64, 64}, 5);
  const reference::Attended exact = reference::RunAttend(problem, nullptr);
  EXPECT_LT(RelativeError(RunFixed(config, problem, nullptr).out, exact.out), 0.003);
}

TEST(FixedAttend, WideSelectionMakesTheReferencesDecisions) {
  Config config;
  SetFormats(&config, "recommended");
  config.qkv_integer_bits = 1;
  config.qkv_fraction_bits = 10;
  config.hash_fraction_bits = 14;
  config.hash_stage_fraction_bits = 20;
  config.norm_bits = 16;
  config.sqrt_table_entries = 4096;
  config.sqrt_fraction_bits = 16;
  config.cosine_fraction_bits = 15;
  config.threshold_fraction_bits = 15;
  const auto problem = reference::RandomProblem({1, 2, 2, 100, 100, 64, 64}, 5);
  const Plan plan = reference::TestPlan(64, 64, 2, 0.25);
  const auto fixed = RunFixed(config, problem, &plan).result.heads;
  const auto expected = reference::RunAttend(problem, &plan).stats;
  for (std::size_t head = 0; head < 2; ++head) {
    EXPECT_EQ(fixed[head].pairs, expected[head].pairs);
    EXPECT_NEAR(fixed[head].kept_fraction(), expected[head].kept_fraction(), 0.01);
  }
}

TEST(FixedAttend, IsTheSameForAnyNumberOfThreads) {
  for (const std::string_view set : kFormatSets) {
    Config config;
    SetFormats(&config, set);
    const Plan plan = reference::TestPlan(64, 64, 4, 0.2);
    const Attended one = RunFixed(config, Batched(), &plan, 1);
    const Attended many = RunFixed(config, Batched(), &plan, 5);
    EXPECT_EQ(one.out.values, many.out.values);
    for (std::size_t head = 0; head < 4; ++head) {
      EXPECT_EQ(one.result.heads[head].kept, many.result.heads[head].kept);
    }
  }
}

TEST(FixedAttend, PaddedAndEmptyRowsAreZero) {
  const Attended attended = RunFixed(Config{}, Batched(), nullptr);
  for (std::int64_t head = 0; head < 4; ++head) {
    for (std::int64_t i = 0; i < 40; ++i) {
      for (std::int64_t c = 0; c < 32; ++c) {
        EXPECT_EQ(attended.out(1, head, i, c), 0);
        EXPECT_EQ(attended.out(2, head, i, c), 0);  // no keys
      }
    }
  }
  EXPECT_NE(attended.out(0, 0, 0, 0), 7.5f);
}

TEST(FixedAttend, CountsAreThoseOfTheReference) {
  reference::Problem problem = Batched();
  Plan plan = reference::TestPlan(64, 64, 4, 0.9);  // hardly anything passes
  plan.thresholds[0][1] = kExactHead;
  plan.thresholds[0][2] = -1;
  for (const bool causal : {false, true}) {
    problem.causal = causal;
    plan.dense_below = causal ? 5 : 0;
    const auto fixed = RunFixed(Config{}, problem, &plan).result.heads;
    const auto expected = reference::RunAttend(problem, &plan).stats;
    for (std::size_t head = 0; head < 4; ++head) {
      EXPECT_EQ(fixed[head].queries, expected[head].queries);
      EXPECT_EQ(fixed[head].empty_queries, expected[head].empty_queries);
      EXPECT_EQ(fixed[head].exact_queries, expected[head].exact_queries);
      EXPECT_EQ(fixed[head].pairs, expected[head].pairs);
      EXPECT_EQ(fixed[head].mass_kept_sum, 0);
    }
    EXPECT_EQ(fixed[1].kept, fixed[1].pairs);
    EXPECT_EQ(fixed[2].kept, fixed[2].pairs);
    EXPECT_GT(fixed[0].fallback_queries, 30);
    EXPECT_LT(fixed[0].kept, fixed[0].pairs / 2);
  }
}

TEST(FixedAttend, CountsWhatMeetsTheEndsOfItsFormat) {
  reference::Problem problem = reference::RandomProblem({1, 1, 1, 10, 10, 64, 64}, 6);
  const Plan plan = reference::TestPlan(64, 64, 1, -0.9);
  const FormatStats calm = RunFixed(Config{}, problem, &plan).result.formats[0];
  EXPECT_EQ(calm.host.query.saturated + calm.host.key.saturated + calm.host.value.saturated, 0);
  EXPECT_EQ(calm.machine.norms, 10);
  EXPECT_EQ(calm.machine.saturated_norms, 0);
  EXPECT_EQ(calm.machine.scores, 100);
  EXPECT_EQ(calm.machine.clamped_scores, 0);
  EXPECT_EQ(calm.machine.outputs, 640);
  for (float& x : problem.query.values) x *= 20;
  for (float& x : problem.key.values) x *= 20;
  for (float& x : problem.value.values) x *= 200;
  const FormatStats wild = RunFixed(Config{}, problem, &plan).result.formats[0];
  EXPECT_GT(wild.host.query.saturated, 0);
  EXPECT_GT(wild.host.value.saturated, 300);
  EXPECT_EQ(wild.machine.saturated_norms, 10);
  EXPECT_GT(wild.machine.clamped_scores, 0);
}

// Uniform attention at n = 512 with five fraction bits: the sums of weights stop at 64, those of
// 31.875 at the next number after 64 * 31.875, which is 64 * 32.
TEST(FixedAttend, CountsOutputsBeyondTheFormatOfValues) {
  reference::Problem problem = reference::RandomProblem({1, 1, 1, 1, 512, 64, 64}, 6);
  for (float& x : problem.query.values) x = 0;
  for (float& x : problem.value.values) x = 31.875f;
  EXPECT_EQ(RunFixed(Config{}, problem, nullptr).result.formats[0].machine.saturated_outputs, 64);
}

TEST(FixedAttend, RefusesAnInvalidMachineAndAWrongOutput) {
  const auto problem = reference::RandomProblem({1, 1, 1, 4, 4, 64, 64}, 6);
  Config config;
  config.banks = 3;
  EXPECT_THROW(RunFixed(config, problem, nullptr), Error);
  std::vector<float> out(4 * 63);
  EXPECT_THROW(
      Attend(Config{}, problem.inputs(), nullptr, 0, View<float, 4>(out.data(), {1, 1, 4, 63})),
      Error);
}

}  // namespace
}  // namespace elsa::fixed
