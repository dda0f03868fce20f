#include "elsa/fixed/host.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <string>

#include "elsa/base/error.h"
#include "elsa/fixed/norm_unit.h"
#include "elsa/fixed/rounding.h"
#include "elsa/fixed/testing.h"
#include "elsa/params/hash_shape.h"
#include "elsa/reference/angle.h"

namespace elsa::fixed {
namespace {

using reference::Problem;

Problem Small(std::uint64_t seed = 1) {
  return reference::RandomProblem({1, 1, 1, 12, 12, 64, 64}, seed);
}

std::string MessageOf(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return std::string(ErrorCodeName(error.code())) + ": " + error.what();
  }
  return "no error";
}

std::string MessageOf(const Problem& problem, const Plan* plan = nullptr,
                      const Config& config = {}) {
  return MessageOf([&] { JobOf(config, problem, plan); });
}

TEST(Host, RoundsToTheUnscaledFormat) {
  Problem problem = Small();
  const float values[] = {0.0625f, 0.1875f, 31.9f, 32, -32, -33, 0.1f, -0.0625f};
  const std::int16_t expected[] = {0, 2, 255, 255, -256, -256, 1, 0};
  std::copy(std::begin(values), std::end(values), problem.query.values.begin());
  const reference::AttentionInputs inputs = problem.inputs();
  reference::HeadInputs head(inputs, 0, 0);
  HostCounts counts;
  const Job job = MakeJob(Config{}, head, nullptr, 0, 0, &counts);
  EXPECT_TRUE(job.exact);
  for (std::size_t i = 0; i < std::size(expected); ++i) EXPECT_EQ(job.query[i], expected[i]);
  EXPECT_EQ(counts.query.values, 12 * 64);
  EXPECT_EQ(counts.query.saturated, 2);  // 32, -33 and not 31.9, which rounds to 31.875
  EXPECT_EQ(counts.query.largest_use, 264.0 / 256);
}

TEST(Host, ScalesByTheLargestPowerOfTwoThatSaturatesNothing) {
  Config config;
  SetFormats(&config, "recommended");
  for (const Rounding rounding : {Rounding::kNearestEven, Rounding::kFloor}) {
    config.qkv_rounding = rounding;
    for (std::uint64_t seed = 0; seed < 40; ++seed) {
      Problem problem = Small(seed);
      const double factor = std::ldexp(1.3, static_cast<int>(seed) - 20);
      for (float& x : problem.key.values) x = static_cast<float>(x * factor);
      if (seed % 4 == 0) problem.key.values[0] = -32;
      const Job job = JobOf(config, problem, nullptr);
      // No key saturates with this shift, one does with the next.
      const auto saturates = [&](std::int64_t shift) {
        for (const float x : problem.key.values) {
          const double integer = RoundReal(std::ldexp(x, static_cast<int>(3 + shift)), rounding);
          if (integer > 255 || integer < -256) return true;
        }
        return false;
      };
      EXPECT_FALSE(saturates(job.key_shift));
      EXPECT_TRUE(saturates(job.key_shift + 1));
      for (std::size_t i = 0; i < job.key.size(); ++i) {
        EXPECT_EQ(job.key[i],
                  RoundReal(std::ldexp(problem.key.values[i], static_cast<int>(3 + job.key_shift)),
                            rounding));
      }
    }
  }
}

TEST(Host, AMatrixOfZerosIsNotScaled) {
  Config config;
  SetFormats(&config, "recommended");
  Problem problem = Small();
  for (float& x : problem.key.values) x = 0;
  const Job job = JobOf(config, problem, nullptr);
  EXPECT_EQ(job.key_shift, 0);
  EXPECT_EQ(job.norm_shift, config.norm_fraction_bits);
}

TEST(Host, NormShiftUsesTheWholeWidth) {
  Config config;
  EXPECT_EQ(JobOf(config, Small(), nullptr).norm_shift, 3);
  SetFormats(&config, "recommended");
  const NormUnit unit(config);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Job job = JobOf(config, Small(seed), nullptr);
    std::int64_t largest = 0;
    for (std::int64_t key = 0; key < job.keys; ++key) {
      bool saturated = false;
      const std::span row(&job.key[key * job.d], static_cast<std::size_t>(job.d));
      largest = std::max(largest, unit.Norm(NormUnit::Square(row), job.norm_shift, &saturated));
      EXPECT_FALSE(saturated);
    }
    EXPECT_GE(largest, 127);
  }
}

TEST(Host, ScoreConstantHasItsSignificantBits) {
  for (std::int64_t bits = 2; bits <= 16; ++bits) {
    for (double x = 1e-6; x < 1e6; x *= 1.37) {
      const ScoreConstant constant = RoundConstant(x, bits);
      EXPECT_GE(constant.mantissa, std::int64_t{1} << (bits - 1));
      EXPECT_LT(constant.mantissa, std::int64_t{1} << bits);
      const double value =
          std::ldexp(static_cast<double>(constant.mantissa), static_cast<int>(constant.exponent));
      EXPECT_LE(std::abs(value / x - 1), std::ldexp(1, static_cast<int>(-bits)));
    }
  }
  // Just below a power of two it rounds up to it.
  EXPECT_EQ(RoundConstant(0.9999, 4).mantissa, 8);
  EXPECT_EQ(RoundConstant(0.9999, 4).exponent, -3);
}

// Dot product of integers times the constant is the score times log2(e), whatever the shifts.
TEST(Host, ScoresKeepTheirScale) {
  for (const std::string_view set : kFormatSets) {
    Config config;
    SetFormats(&config, set);
    const Problem problem = Small(4);
    const Job job = JobOf(config, problem, nullptr);
    for (std::int64_t key = 0; key < job.keys; ++key) {
      std::int64_t dot = 0;
      for (std::int64_t c = 0; c < 64; ++c) dot += job.query[c] * job.key[key * 64 + c];
      const double y = std::ldexp(static_cast<double>(dot * job.score_constant.mantissa),
                                  static_cast<int>(job.score_constant.exponent));
      EXPECT_NEAR(y / std::log2(std::exp(1.0)), reference::BruteScore(problem, 0, 0, 0, key), 0.2);
    }
  }
}

TEST(Host, LoadsCosinesThresholdAndFactors) {
  Config config;
  const Problem problem = Small();
  Plan plan = reference::TestPlan(64, 64, 1, 0.3);
  const Job job = JobOf(config, problem, &plan);
  EXPECT_FALSE(job.exact);
  EXPECT_EQ(job.threshold, 77);  // 0.3 * 256
  ASSERT_EQ(job.cosines.size(), 65u);
  EXPECT_EQ(job.cosines[0], 255);  // 1 saturates
  EXPECT_EQ(job.cosines[64], std::round(256 * std::cos(M_PI - 0.12)));
  const std::vector<float> cosines = reference::CosineTable(64, 0.12);
  for (std::size_t i = 0; i < 65; ++i) EXPECT_NEAR(job.cosines[i], 256 * cosines[i], 1.001);
  ASSERT_EQ(job.hash.batches[0].size(), 3u);
  for (std::size_t f = 0; f < 3; ++f) {
    for (std::size_t i = 0; i < 16; ++i) {
      const double value = plan.hash.batches[0].factors[f].values[i];
      EXPECT_EQ(job.hash.batches[0][f].values[i],
                std::min(31.0, RoundReal(32 * value, Rounding::kNearestEven)));
    }
  }
  plan.thresholds[0][0] = 7;
  EXPECT_EQ(JobOf(config, problem, &plan).threshold, 255);
  plan.thresholds[0][0] = -7;
  EXPECT_EQ(JobOf(config, problem, &plan).threshold, -256);
}

TEST(Host, GathersTheKeysThatAMaskShows) {
  Problem problem = Small();
  problem.mask = reference::Tensor<std::uint8_t>(problem.pairs(), 1);
  for (std::int64_t i = 0; i < 12; ++i) problem.mask(0, 0, i, 0) = problem.mask(0, 0, i, 5) = 0;
  problem.query_lengths = {7};
  problem.key_lengths = {11};
  const Job job = JobOf(Config{}, problem, nullptr);
  EXPECT_EQ(job.queries, 7);
  EXPECT_EQ(job.keys, 9);
  EXPECT_FALSE(job.causal);
  const std::int64_t source[] = {1, 2, 3, 4, 6, 7, 8, 9, 10};
  for (std::int64_t key = 0; key < 9; ++key) {
    EXPECT_EQ(job.key[key * 64],
              RoundReal(8.0 * problem.key(0, 0, source[key], 0), Rounding::kNearestEven));
    EXPECT_EQ(job.value[key * 64],
              RoundReal(8.0 * problem.value(0, 0, source[key], 0), Rounding::kNearestEven));
  }
}

TEST(Host, AMaskThatSaysCausalIsCausal) {
  Problem by_mask = Small();
  by_mask.mask = reference::Tensor<std::uint8_t>(by_mask.pairs(), 0);
  for (std::int64_t i = 0; i < 12; ++i) {
    for (std::int64_t j = 0; j <= i; ++j) by_mask.mask(0, 0, i, j) = 1;
  }
  Problem by_flag = Small();
  by_flag.causal = true;
  EXPECT_TRUE(JobOf(Config{}, by_mask, nullptr).causal);
  EXPECT_TRUE(JobOf(Config{}, by_flag, nullptr).causal);
  EXPECT_EQ(JobOf(Config{}, by_mask, nullptr).key, JobOf(Config{}, by_flag, nullptr).key);
  // A bias that only hides keys is a mask.
  Problem by_bias = Small();
  by_bias.bias = reference::Tensor<float>(by_bias.pairs(), 0);
  for (std::int64_t i = 0; i < 12; ++i) {
    for (std::int64_t j = i + 1; j < 12; ++j) by_bias.bias(0, 0, i, j) = -INFINITY;
  }
  EXPECT_TRUE(JobOf(Config{}, by_bias, nullptr).causal);
}

TEST(Host, ExactModesBypassSelection) {
  const Problem problem = Small();
  Plan plan = reference::TestPlan(32, 16, 1, 0.3);  // of another machine
  plan.target = 0;
  EXPECT_TRUE(JobOf(Config{}, problem, &plan).exact);
  plan.target = 1;
  plan.thresholds[0][0] = kExactHead;
  EXPECT_TRUE(JobOf(Config{}, problem, &plan).exact);
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.dense_below = 13;
  EXPECT_TRUE(JobOf(Config{}, problem, &plan).exact);
  plan.dense_below = 12;
  EXPECT_FALSE(JobOf(Config{}, problem, &plan).exact);
  EXPECT_EQ(JobOf(Config{}, problem, &plan).exact_below, 0);
  Problem causal = problem;
  causal.causal = true;
  EXPECT_EQ(JobOf(Config{}, causal, &plan).exact_below, 12);
}

// What the hash sees of a shorter vector is the same product as in the reference.
TEST(Host, SpreadsShortVectorsOverTheHash) {
  const Problem problem = reference::RandomProblem({1, 1, 1, 5, 9, 32, 32}, 2);
  const Plan plan = reference::TestPlan(64, 64, 1, 0.3);
  const Job job = JobOf(Config{}, problem, &plan);
  const Job exact = JobOf(Config{}, problem, nullptr);
  const auto positions = InputPositions(plan.hash, 32);
  EXPECT_EQ(exact.d, 32);
  ASSERT_EQ(job.d, 64);
  std::int64_t others = 0;
  for (std::int64_t key = 0; key < 9; ++key) {
    for (std::int64_t c = 0; c < 32; ++c) {
      EXPECT_EQ(job.key[key * 64 + positions[c]], exact.key[key * 32 + c]);
    }
    for (std::int64_t c = 0; c < 64; ++c) others += std::abs(job.key[key * 64 + c]);
    for (std::int64_t c = 0; c < 32; ++c) others -= std::abs(exact.key[key * 32 + c]);
  }
  EXPECT_EQ(others, 0);
}

TEST(Host, StoreOutputUndoesTheValueShift) {
  Config config;
  Job job;
  job.queries = 1;
  job.d_v = 3;
  job.value_shift = 2;
  std::vector<float> out(3);
  StoreOutput(config, job, std::vector<std::int16_t>{1, -256, 255},
              View<float, 2>(out.data(), {1, 3}));
  EXPECT_EQ(out, (std::vector<float>{1.0f / 32, -8, 255.0f / 32}));
}

TEST(Host, RefusesWhatTheMachineCannotHold) {
  EXPECT_EQ(MessageOf(reference::RandomProblem({1, 1, 1, 513, 3, 64, 64}, 1)),
            "mismatch: query: expected at most 512 rows as machine.n, got 513");
  EXPECT_EQ(MessageOf(reference::RandomProblem({1, 1, 1, 3, 513, 64, 64}, 1)),
            "mismatch: key: expected at most 512 rows as machine.n, got 513");
  EXPECT_EQ(MessageOf(reference::RandomProblem({1, 1, 1, 3, 3, 65, 64}, 1)),
            "mismatch: query: expected at most 64 components as machine.d, got 65");
  EXPECT_EQ(MessageOf(reference::RandomProblem({1, 1, 1, 3, 3, 64, 80}, 1)),
            "mismatch: value: expected at most 64 components as machine.d, got 80");
  Problem problem = Small();
  problem.scale = -1;
  EXPECT_EQ(MessageOf(problem),
            "unsupported: scale: expected a positive number on the machine, got -1.000000");
}

TEST(Host, RefusesMasksAndBiasesThatItHasNoRoomFor) {
  Problem problem = Small();
  reference::AddRandomMask(problem, 0.5, 3);
  EXPECT_EQ(MessageOf(problem),
            "unsupported: mask: expected the same keys for every query, or the causal ones, on the "
            "machine, got another mask");
  problem = Small();
  problem.bias = reference::Tensor<float>(problem.pairs(), 0);
  EXPECT_EQ(MessageOf(problem), "no error");
  problem.bias(0, 0, 4, 7) = 0.5f;
  EXPECT_EQ(MessageOf(problem),
            "unsupported: bias: expected 0, or -1e30 and below, on the machine, got 0.500000");
  problem.bias(0, 0, 4, 7) = NAN;
  EXPECT_EQ(MessageOf(problem),
            "unsupported: bias: expected 0, or -1e30 and below, on the machine, got nan");
}

TEST(Host, RefusesValuesThatAreNotFinite) {
  Problem problem = Small();
  problem.key(0, 0, 3, 9) = INFINITY;
  EXPECT_EQ(MessageOf(problem),
            "invalid_argument: key: row 3, component 9: expected a finite value, got inf");
  problem = Small();
  problem.value(0, 0, 0, 1) = NAN;
  EXPECT_EQ(MessageOf(problem),
            "invalid_argument: value: row 0, component 1: expected a finite value, got nan");
  // Padding may hold anything.
  problem = Small();
  problem.query(0, 0, 11, 0) = NAN;
  problem.query_lengths = {11};
  EXPECT_EQ(MessageOf(problem), "no error");
}

TEST(Host, RefusesPlansOfAnotherMachine) {
  const Problem problem = reference::RandomProblem({1, 1, 1, 4, 4, 32, 32}, 1);
  Plan plan = reference::TestPlan(32, 64, 1, 0.3);
  EXPECT_EQ(MessageOf(problem, &plan),
            "mismatch: plan: hash.d: expected 64 as the machine's, got 32; calibrate with "
            "--hash-d 64");
  plan = reference::TestPlan(64, 32, 1, 0.3);
  EXPECT_EQ(MessageOf(problem, &plan),
            "mismatch: plan: hash.k: expected 64 as the machine's, got 32");
  plan = reference::TestPlan(64, 64, 1, 0.3, HashKind::kDense);
  EXPECT_EQ(MessageOf(problem, &plan),
            "mismatch: plan: hash.kind: expected kronecker3 as the machine's, got dense");
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.hash.batches[0].factors[0].rows = 2;
  EXPECT_EQ(MessageOf(problem, &plan),
            "mismatch: plan: hash.batches[0]: expected factors of the machine's shapes, got "
            "others");
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.remainder = Remainder::kMean;
  EXPECT_EQ(MessageOf(problem, &plan),
            "mismatch: plan: remainder: expected none as machine.remainder, got mean");
}

TEST(Host, RefusesRulesThatTheSelectorsDoNotKnow) {
  Problem problem = Small();
  Plan plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.rule = Rule::kGap;
  EXPECT_EQ(MessageOf(problem, &plan),
            "unsupported: plan: rule: expected a threshold on the machine, got gap");
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.centring = Centring::kByLength;
  EXPECT_EQ(MessageOf(problem, &plan),
            "unsupported: plan: centring: expected off on the machine, got by_length");
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.always_keep_recent = 2;
  EXPECT_EQ(
      MessageOf(problem, &plan),
      "unsupported: plan: always_keep: expected 0 first and 0 recent keys on the machine, got "
      "0 and 2");
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.bias_in_test = true;
  EXPECT_EQ(MessageOf(problem, &plan),
            "unsupported: plan: bias_in_test: expected false on the machine, got true");
  plan = reference::TestPlan(64, 64, 1, 0.3);
  plan.remainder = Remainder::kMean;
  problem.causal = true;
  Config config;
  config.remainder = Remainder::kMean;
  EXPECT_EQ(MessageOf(problem, &plan, config),
            "unsupported: plan: remainder: expected none for causal attention on the machine, got "
            "mean");
}

TEST(Host, TheMeanRowNeedsBothMachineAndPlan) {
  Config config;
  Plan plan = reference::TestPlan(64, 64, 1, 0.3);
  EXPECT_FALSE(JobOf(config, Small(), &plan).mean_row);
  config.remainder = Remainder::kMean;
  EXPECT_FALSE(JobOf(config, Small(), &plan).mean_row);
  plan.remainder = Remainder::kMean;
  const Job job = JobOf(config, Small(), &plan);
  EXPECT_TRUE(job.mean_row);
  EXPECT_NEAR(std::ldexp(static_cast<double>(job.mean_constant.mantissa),
                         static_cast<int>(job.mean_constant.exponent)),
              1.0 / 12, 1.0 / 12 / 512);
}

}  // namespace
}  // namespace elsa::fixed
