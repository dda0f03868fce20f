#include "elsa/cpu/attention.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"
#include "elsa/cpu/attention_testing.h"
#include "elsa/cpu/testing.h"

namespace elsa::cpu {
namespace {

TEST(Attention, WithoutAPlanEqualsTheReference) {
  for (int round = 0; round < Rounds(100, 10); ++round) {
    const RandomCase c = MakeRandomCase(100 + round, 200);
    SCOPED_TRACE(c.Describe());
    const reference::Attended expected = RunAttend(c.ForReference(), nullptr, {.threads = 1});
    for (Target target : RunningTargets()) {
      const CpuResult got =
          RunCpu(c, nullptr, {.precision = Precision::kFloat32, .target = target});
      EXPECT_EQ(got.report.target, target);
      ExpectEqualCounts(got.report.heads, expected.stats);
      ExpectClose(got.out, expected.out, Float32Bound(c.problem), DType::kF32);
      if (HasFailure()) return;
    }
  }
}

// What the rule chooses must not show, except by keeping every key of a head.
TEST(Attention, ChoosingForItselfItFollowsThePlanOrKeepsEveryKey) {
  std::int64_t paths[5] = {};
  for (int round = 0; round < Rounds(150, 10); ++round) {
    RandomCase c = MakeRandomCase(40000 + round, round % 10 == 0 ? 1000 : 200);
    if (round % 3 == 0) c.plan.thresholds[0][0] = kExactHead;
    SCOPED_TRACE(c.Describe());
    const CpuResult got = RunCpu(c, &c.plan, {.precision = Precision::kFloat32});
    Plan chosen = c.plan;
    bool mixed = false;  // batches of one head went different ways
    for (std::size_t h = 0; h < got.report.heads.size(); ++h) {
      const HeadReport& report = got.report.heads[h];
      std::int64_t heads = 0;
      for (int path = 0; path < 5; ++path) {
        heads += report.heads_by_path[path];
        paths[path] += report.heads_by_path[path];
      }
      EXPECT_EQ(heads, c.problem.query.shape[0]);
      const auto selected = report.heads_by_path[static_cast<int>(Path::kSelected)];
      if (selected == 0) chosen.thresholds[0][h] = kExactHead;
      mixed = mixed || (selected > 0 && selected < heads);
    }
    if (mixed) continue;
    const reference::Attended expected = RunAttend(c.ForReference(), &chosen, {.threads = 1});
    ExpectEqualCounts(got.report.heads, expected.stats);
    ExpectClose(got.out, expected.out, Float32Bound(c.problem), DType::kF32);
    if (HasFailure()) return;
  }
  EXPECT_GT(paths[static_cast<int>(Path::kExact)], 0);
  EXPECT_GT(paths[static_cast<int>(Path::kExactTooShort)], 0);
}

// One head of 700 keys.
RandomCase LongCase(double threshold) {
  RandomCase c = MakeRandomCase(3, 64);
  c.problem = reference::RandomProblem(
      {.heads = 1, .kv_heads = 1, .queries = 700, .keys = 700, .d = 64, .d_v = 64}, 31);
  c.causal_offset = 0;
  c.shared_mask = false;
  c.dtype = DType::kF32;
  c.tensors.clear();
  for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
    c.tensors.emplace_back(*t, DType::kF32, false, 0, false);
  }
  c.plan = reference::TestPlan(64, 64, 1, threshold);
  return c;
}

TEST(Attention, TellsWhyAHeadIsComputedExactly) {
  RandomCase c = LongCase(0.4);
  const auto path_of = [&](const AttendOptions& options) {
    const Report report = RunCpu(c, &c.plan, options).report;
    for (int path = 0; path < 5; ++path) {
      if (report.heads[0].heads_by_path[path] > 0) return std::string(Name(Path(path)));
    }
    return std::string("none");
  };
  EXPECT_EQ(path_of({}), "selected");
  c.plan.calibration = {{{.kept_fraction = 0.95}}};
  EXPECT_EQ(path_of({}), "exact_expected");
  EXPECT_EQ(path_of({.select = Select::kAlways}), "selected");
  c.plan.calibration.clear();
  c.plan.thresholds = {{-1.5}};
  EXPECT_EQ(path_of({}), "exact_observed");
  c.plan.thresholds = {{kExactHead}};
  EXPECT_EQ(path_of({}), "exact");
}

TEST(Attention, PrecisionFollowsTheTensorsUnlessAsked) {
  RandomCase c = LongCase(0.4);
  EXPECT_EQ(RunCpu(c, &c.plan, {}).report.precision, Precision::kFloat32);
  EXPECT_EQ(RunCpu(c, &c.plan, {.precision = Precision::kInt8}).report.precision, Precision::kInt8);
  std::vector<StridedTensor> halves;
  for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
    halves.emplace_back(*t, DType::kBf16, false, 0, false);
  }
  c.tensors = std::move(halves);
  EXPECT_EQ(RunCpu(c, &c.plan, {}).report.precision, Precision::kBits16);
}

TEST(Attention, NothingToComputeIsNoError) {
  for (std::int64_t queries : {0, 5}) {
    for (std::int64_t keys : {0, 5}) {
      RandomCase c = LongCase(0.4);
      c.problem = reference::RandomProblem(
          {.heads = 1, .kv_heads = 1, .queries = queries, .keys = keys, .d = 64, .d_v = 64}, 1);
      c.tensors.clear();
      for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
        c.tensors.emplace_back(*t, DType::kF32, false, 0, false);
      }
      c.plan.remainder = Remainder::kMean;
      for (Select select : {Select::kAuto, Select::kAlways}) {
        const CpuResult got = RunCpu(c, &c.plan, {.select = select});
        EXPECT_EQ(got.report.heads[0].stats.queries, queries);
        EXPECT_EQ(got.report.heads[0].stats.empty_queries, keys == 0 ? queries : 0);
        for (double value : got.out.values) EXPECT_EQ(keys == 0 ? value : 0, 0);
      }
    }
  }
}

TEST(Attention, NamesAndErrors) {
  for (Precision p :
       {Precision::kAuto, Precision::kFloat32, Precision::kBits16, Precision::kInt8}) {
    EXPECT_EQ(ParsePrecision(Name(p)), p);
  }
  EXPECT_THROW(ParsePrecision("float64"), Error);
  RandomCase c = LongCase(0.4);
  std::vector<float> out(700 * 64);
  std::vector<float> sums(700);
  const MutableTensor to(View<float, 4>(out.data(), {1, 1, 700, 64}));
  AttendOptions options;
  options.log_sum_exp = View<float, 3>(sums.data(), {1, 1, 699});
  EXPECT_THROW(Attend(c.inputs(), &c.plan, 0, to, options), Error);
  EXPECT_THROW(Attend(c.inputs(), &c.plan, 1, to), Error);  // no such layer
}

}  // namespace
}  // namespace elsa::cpu
