#include "elsa/fixed/head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "elsa/base/error.h"
#include "elsa/fixed/attention_unit.h"
#include "elsa/fixed/candidate_selector.h"
#include "elsa/fixed/exp_unit.h"
#include "elsa/fixed/hash_unit.h"
#include "elsa/fixed/norm_unit.h"
#include "elsa/fixed/output_divider.h"
#include "elsa/fixed/testing.h"

namespace elsa::fixed {
namespace {

std::span<const std::int16_t> RowOf(const std::vector<std::int16_t>& rows, std::int64_t row,
                                    std::int64_t width) {
  return {rows.data() + row * width, static_cast<std::size_t>(width)};
}

// The blocks' scalar functions in the order of Fig. 8, candidate by candidate.
std::vector<std::int16_t> PlainAttend(const Config& config, const Job& job,
                                      const Candidates* candidates) {
  const ExpUnit exp(config);
  const AttentionUnit unit(config);
  const OutputDivider divider(config);
  std::vector<std::int16_t> rows;
  for (std::int64_t query = 0; query < job.queries; ++query) {
    std::vector<BankSums> banks(config.banks, unit.Start(job.d_v));
    const auto q = RowOf(job.query, query, job.d);
    std::int64_t dropped = 0;
    for (std::int64_t key = 0; key < job.Visible(query); ++key) {
      if (!job.exact && !candidates->Kept(query, key) && candidates->fallback[query] != key) {
        ++dropped;
        continue;
      }
      const std::int64_t dot = AttentionUnit::Dot(q, RowOf(job.key, key, job.d));
      unit.Add(exp(dot, job.score_constant), RowOf(job.value, key, job.d_v),
               banks[BankOf(key, config.banks)]);
    }
    if (job.mean_row && dropped > 0) {
      const MeanRow mean = MeanRowOf(config, job);
      const Weight weight = exp(AttentionUnit::Dot(q, mean.key), job.score_constant);
      unit.Add(exp.Multiply(weight, dropped), mean.value, banks.back());
    }
    const BankSums merged = divider.Merge(banks);
    const Dyadic reciprocal = divider.Reciprocal(merged);
    for (std::int64_t c = 0; c < job.d_v; ++c) {
      rows.push_back(divider.Quotient(merged, c, reciprocal));
    }
  }
  return rows;
}

TEST(FixedHead, EqualsTheBlocksOnRandomMachinesAndJobs) {
  int exact = 0;
  int causal = 0;
  int mean_rows = 0;
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const Config config = RandomMachine(random);
    const MachineProblem machine_problem = RandomMachineProblem(config, seed);
    const Job job = JobOf(config, machine_problem.problem, &machine_problem.plan);
    Candidates candidates;
    if (!job.exact) candidates = SelectCandidates(config, job);
    exact += job.exact ? 1 : 0;
    causal += job.causal ? 1 : 0;
    mean_rows += job.mean_row ? 1 : 0;
    ASSERT_EQ(Attend(config, job, job.exact ? nullptr : &candidates).rows,
              PlainAttend(config, job, &candidates));
  }
  EXPECT_GT(std::min({exact, causal, mean_rows}), 30);
}

TEST(FixedHead, EqualsTheBlocksAtTheSizesThatVectorCodeGetsWrong) {
  for (const std::string_view set : kFormatSets) {
    for (const std::int64_t n : {1, 7, 63, 65, 512}) {
      Config config;
      SetFormats(&config, set);
      const auto problem =
          reference::RandomProblem({1, 1, 1, std::min<std::int64_t>(n, 9), n, 64 - n % 9, 64}, 3);
      const Job job = JobOf(config, problem, nullptr);
      EXPECT_EQ(Attend(config, job, nullptr).rows, PlainAttend(config, job, nullptr));
    }
  }
}

// Selection key by key, from the blocks.
TEST(FixedHead, CandidatesAreThoseOfTheSelectors) {
  int fallbacks = 0;
  for (std::uint64_t seed = 1000; seed < 1150; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random(seed);
    const Config config = RandomMachine(random);
    MachineProblem machine_problem = RandomMachineProblem(config, seed);
    if (seed % 3 == 0) machine_problem.plan.thresholds[0][0] = 0.95;
    const Job job = JobOf(config, machine_problem.problem, &machine_problem.plan);
    if (job.exact) continue;
    const Candidates candidates = SelectCandidates(config, job);
    const NormUnit norm_unit(config);
    const CandidateSelector selector(config, job);
    for (std::int64_t query = 0; query < job.queries; ++query) {
      const auto q = Project(config, job.hash, RowOf(job.query, query, job.d));
      std::vector<std::int64_t> similarity;
      std::int64_t largest = 0;
      for (std::int64_t key = 0; key < job.Visible(query); ++key) {
        const auto row = RowOf(job.key, key, job.d);
        const auto k = Project(config, job.hash, row);
        std::int64_t distance = 0;
        for (std::size_t i = 0; i < q.size(); ++i) distance += (q[i] >= 0) != (k[i] >= 0) ? 1 : 0;
        const std::int64_t norm = norm_unit.Norm(NormUnit::Square(row), job.norm_shift);
        largest = std::max(largest, norm);
        similarity.push_back(selector.Similarity(distance, norm));
      }
      bool any = false;
      for (std::int64_t key = 0; key < job.keys; ++key) {
        const bool expected =
            key < job.Visible(query) && (job.Visible(query) < job.exact_below ||
                                         selector.Keeps(similarity[key], selector.CutOff(largest)));
        ASSERT_EQ(candidates.Kept(query, key), expected);
        any |= expected;
      }
      const auto best = std::max_element(similarity.begin(), similarity.end());
      ASSERT_EQ(candidates.fallback[query], any ? -1 : best - similarity.begin());
      fallbacks += any ? 0 : 1;
    }
  }
  EXPECT_GT(fallbacks, 100);
}

// A given order of ascending keys is the order without one; another order may round differently but
// not by much.
TEST(FixedHead, TakesCandidatesInTheOrderGiven) {
  Config config;
  const auto problem = reference::RandomProblem({1, 1, 1, 20, 100, 64, 64}, 8);
  const Job job = JobOf(config, problem, nullptr);
  IssueOrder ascending;
  IssueOrder descending;
  ascending.begin = descending.begin = {0};
  for (std::int64_t query = 0; query < job.queries; ++query) {
    for (std::int64_t bank = 0; bank < config.banks; ++bank) {
      const std::int64_t rows = RowsOf(bank, job.keys, config.banks);
      for (std::int64_t row = 0; row < rows; ++row) {
        ascending.keys.push_back(static_cast<std::int32_t>(row * config.banks + bank));
        descending.keys.push_back(
            static_cast<std::int32_t>((rows - 1 - row) * config.banks + bank));
      }
      ascending.begin.push_back(static_cast<std::int64_t>(ascending.keys.size()));
      descending.begin.push_back(static_cast<std::int64_t>(descending.keys.size()));
    }
  }
  const HeadOutput plain = Attend(config, job, nullptr);
  EXPECT_EQ(Attend(config, job, nullptr, &ascending).rows, plain.rows);
  const HeadOutput other = Attend(config, job, nullptr, &descending);
  EXPECT_NE(other.rows, plain.rows);
  for (std::size_t i = 0; i < plain.rows.size(); ++i) {
    EXPECT_LE(std::abs(other.rows[i] - plain.rows[i]), 8);
  }
}

TEST(FixedHead, RefusesCandidatesAndOrdersOfOtherSizes) {
  const Config config;
  const auto problem = reference::RandomProblem({1, 1, 1, 5, 5, 64, 64}, 8);
  const Plan plan = reference::TestPlan(64, 64, 1, 0.2);
  const Job job = JobOf(config, problem, &plan);
  EXPECT_THROW(Attend(config, job, nullptr), Error);
  Candidates candidates = SelectCandidates(config, job);
  const IssueOrder order{{}, {0, 0}};
  EXPECT_THROW(Attend(config, job, &candidates, &order), Error);
  candidates.fallback.pop_back();
  EXPECT_THROW(Attend(config, job, &candidates), Error);
}

// Equal scores at n = 512: the output is the mean of the values. With five fraction bits a sum of
// 64 times the weight takes no more of them: the sums of 128 keys per bank stop at half.
TEST(FixedHead, FiveFractionBitsForgetHalfOfAUniformAttention) {
  const std::int64_t n = 512;
  reference::Problem problem = reference::RandomProblem({1, 1, 1, 1, n, 64, 64}, 9);
  for (float& x : problem.query.values) x = 0;
  for (std::int64_t j = 0; j < n; ++j) {
    // The first half of each bank's keys have the value 4, the others 0: the mean is 2.
    for (std::int64_t c = 0; c < 64; ++c) problem.value(0, 0, j, c) = j < n / 2 ? 4 : 0;
  }
  const auto first_output = [&](std::string_view set, Rounding rounding) {
    Config config;
    SetFormats(&config, set);
    if (set == "paper-literal") config.accumulator_rounding = rounding;
    const Job job = JobOf(config, problem, nullptr);
    return std::ldexp(Attend(config, job, nullptr).rows[0],
                      -static_cast<int>(config.qkv_fraction_bits + job.value_shift));
  };
  EXPECT_GE(first_output("paper-literal", Rounding::kTowardZero), 3.5);
  EXPECT_GE(first_output("paper-literal", Rounding::kNearestEven), 3.5);  // ties, all to even
  EXPECT_NEAR(first_output("recommended", {}), 2, 2.0 / 64);
}

TEST(FixedHead, AQueryThatSeesNoKeyGivesZeros) {
  const Config config;
  const auto problem = reference::RandomProblem({1, 1, 1, 3, 0, 64, 16}, 8);
  const Job job = JobOf(config, problem, nullptr);
  EXPECT_EQ(Attend(config, job, nullptr).rows, std::vector<std::int16_t>(3 * 16, 0));
}

TEST(FixedHead, AMeanRowStandsForTheKeysThatAreDropped) {
  Config config;
  SetFormats(&config, "recommended");
  config.remainder = Remainder::kMean;
  reference::Problem problem = reference::RandomProblem({1, 1, 1, 1, 64, 64, 64}, 9);
  // All keys equal: whatever is dropped, the mean row repeats it.
  for (std::int64_t j = 0; j < 64; ++j) {
    for (std::int64_t c = 0; c < 64; ++c) {
      problem.key(0, 0, j, c) = problem.key(0, 0, 0, c);
      problem.value(0, 0, j, c) = problem.value(0, 0, 0, c);
    }
  }
  Plan plan = reference::TestPlan(64, 64, 1, 0.99);
  plan.remainder = Remainder::kMean;
  const Job job = JobOf(config, problem, &plan);
  ASSERT_TRUE(job.mean_row);
  const MeanRow mean = MeanRowOf(config, job);
  const Candidates candidates = SelectCandidates(config, job);
  const HeadOutput output = Attend(config, job, &candidates);
  for (std::int64_t c = 0; c < 64; ++c) {
    EXPECT_EQ(mean.key[c], job.key[c]);
    EXPECT_EQ(mean.value[c], job.value[c]);
    EXPECT_NEAR(output.rows[c], job.value[c], 4);
  }
  EXPECT_EQ(output.counts.scores, 2);  // the fallback key and the mean row
}

}  // namespace
}  // namespace elsa::fixed
