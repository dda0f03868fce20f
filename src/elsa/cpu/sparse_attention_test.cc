#include "elsa/cpu/sparse_attention.h"

#include <gtest/gtest.h>

#include "elsa/cpu/attention_testing.h"
#include "elsa/cpu/kernels/sparse.h"
#include "elsa/cpu/testing.h"

namespace elsa::cpu {
namespace {

TEST(SparseAttention, KeepsTheKeysOfTheReferenceAndAgreesWithin32Bits) {
  for (int round = 0; round < Rounds(400, 20); ++round) {
    const RandomCase c = MakeRandomCase(1000 + round, round % 50 == 0 ? 1000 : 200);
    SCOPED_TRACE(c.Describe());
    const reference::Attended expected = RunAttend(c.ForReference(), &c.plan, {.threads = 1});
    const DType stored = round % 3 == 0 ? c.dtype : DType::kF32;
    for (Target target : RunningTargets()) {
      SCOPED_TRACE(Name(target));
      const CpuResult got = RunCpu(
          c, &c.plan,
          {.precision = Precision::kFloat32, .select = Select::kAlways, .target = target}, stored);
      ExpectEqualCounts(got.report.heads, expected.stats);
      ExpectClose(got.out, expected.out, Float32Bound(c.problem), stored);
      if (HasFailure()) return;
    }
  }
}

// Relative L2 error over all outputs.
double RelativeError(const reference::Tensor<double>& got,
                     const reference::Tensor<double>& expected) {
  double error = 0;
  double size = 1e-300;
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    error += std::pow(got.values[i] - expected.values[i], 2);
    size += std::pow(expected.values[i], 2);
  }
  return std::sqrt(error / size);
}

// How far a 16-bit output may lie from the reference. Keys and queries are rounded to half a unit
// of their scales, by which norms are kRowNorm: with d components a score of norms |q| |k| moves by
// sqrt(d) / kRowNorm of it. Weights move by that twice, and by half a unit in kWeightOne each;
// values by half a unit in kValueLargest. Weights are relative to the largest of their super-block,
// the sum of weights is at least one. A second look at the sum of 16-bit weights: n half units.
double Bits16Bound(const reference::Problem& p) {
  const double d = std::sqrt(static_cast<double>(p.query.shape[3]));
  const double norms = LargestNorm(p.query) * LargestNorm(p.key);
  const double score = p.scale * norms * d / 32767;
  const double weights = static_cast<double>(p.key.shape[2]) / kWeightOne;
  const double values = 1 / static_cast<double>(kValueLargest);
  return Float32Bound(p) + LargestValue(p.value) * (2 * std::expm1(score) + weights + values);
}

TEST(SparseAttention, KeepsTheKeysOfTheReferenceAndAgreesWithin16Bits) {
  for (int round = 0; round < Rounds(200, 20); ++round) {
    const RandomCase c = MakeRandomCase(2000 + round, round % 50 == 0 ? 1000 : 200);
    SCOPED_TRACE(c.Describe());
    const reference::Attended expected = RunAttend(c.ForReference(), &c.plan, {.threads = 1});
    for (Target target : RunningTargets()) {
      for (Precision precision : {Precision::kBits16, Precision::kInt8}) {
        SCOPED_TRACE(testing::Message() << Name(target) << " " << Name(precision));
        const CpuResult got = RunCpu(
            c, &c.plan, {.precision = precision, .select = Select::kAlways, .target = target});
        ExpectEqualCounts(got.report.heads, expected.stats);
        ExpectClose(got.out, expected.out, Bits16Bound(c.problem), DType::kF32);
        if (HasFailure()) return;
      }
    }
  }
}

// Random normal rows, d = 64: the errors that attention.h states, at several kept fractions.
TEST(SparseAttention, ErrorsAreWithinWhatEachPrecisionPromises) {
  for (double threshold : {-0.1, 0.2, 0.4}) {
    for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
      RandomCase c = MakeRandomCase(3, 64);
      c.problem = reference::RandomProblem(
          {.heads = 1, .kv_heads = 1, .queries = 50, .keys = 2100, .d = 64, .d_v = 64}, 17);
      for (float& x : c.problem.query.values) x /= 1.5f;
      for (float& x : c.problem.key.values) x /= 1.5f;
      c.problem.causal = c.shared_mask = false;
      c.causal_offset = 0;
      c.tensors.clear();
      for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
        c.tensors.emplace_back(*t, DType::kF32, false, 0, false);
      }
      c.plan = reference::TestPlan(64, 64, 1, threshold);
      c.plan.remainder = remainder;
      const reference::Attended expected = RunAttend(c.problem, &c.plan);
      for (Target target : RunningTargets()) {
        SCOPED_TRACE(testing::Message() << Name(target) << " t " << threshold);
        const auto error = [&](Precision precision) {
          return RelativeError(
              RunCpu(c, &c.plan,
                     {.precision = precision, .select = Select::kAlways, .target = target})
                  .out,
              expected.out);
        };
        EXPECT_LT(error(Precision::kFloat32), 1e-6);
        EXPECT_LT(error(Precision::kBits16), 4e-3);
        EXPECT_LT(error(Precision::kInt8), 1.5e-2);
      }
    }
  }
}

// The keys that a query keeps, and all it sees.
struct Kept {
  std::vector<std::int64_t> keys;
  std::vector<std::int64_t> visible;
};

class KeptKeys {
 public:
  KeptKeys(const reference::Problem& p, const Plan& plan, std::int64_t b, std::int64_t h)
      : p_(p),
        plan_(plan),
        inputs_(p.inputs()),
        b_(b),
        h_(h),
        head_(inputs_, b, h),
        estimator_(head_, reference::EstimatorOptionsOf(plan, 0, h)) {}

  Kept Of(std::int64_t i) {
    Kept kept;
    kept.visible = reference::BruteVisible(p_, b_, h_, i);
    if (static_cast<std::int64_t>(kept.visible.size()) < plan_.dense_below) {
      kept.keys = kept.visible;
    } else if (!kept.visible.empty()) {
      reference::Selection selection;
      reference::Select(estimator_.Estimate(i), plan_.rule, plan_.thresholds[0][h_], selection);
      kept.keys.assign(selection.kept.begin(), selection.kept.end());
    }
    return kept;
  }

 private:
  const reference::Problem& p_;
  const Plan& plan_;
  reference::AttentionInputs inputs_;
  std::int64_t b_;
  std::int64_t h_;
  reference::HeadInputs head_;
  reference::SimilarityEstimator estimator_;
};

double LogSumExp(const std::vector<double>& scores) {
  double peak = -HUGE_VAL;
  for (double score : scores) peak = std::max(peak, score);
  double sum = 0;
  for (double score : scores) sum += std::exp(score - peak);
  return scores.empty() ? -HUGE_VAL : peak + std::log(sum);
}

// The scores of the rows that softmax runs over: kept keys and copies of the mean row.
std::vector<double> Scores(const reference::Problem& p, std::int64_t b, std::int64_t h,
                           std::int64_t i, const Kept& kept, bool mean_row) {
  std::vector<double> scores;
  for (std::int64_t j : kept.keys) scores.push_back(reference::BruteScore(p, b, h, i, j));
  if (!mean_row) return scores;
  // Scores are linear: the score of the mean row is the mean of the scores.
  double mean = 0;
  for (std::int64_t j : kept.visible) mean += reference::BruteScore(p, b, h, i, j);
  mean /= static_cast<double>(kept.visible.size());
  scores.resize(kept.visible.size(), mean);
  return scores;
}

TEST(SparseAttention, LogSumExpIsOverKeptKeysAndCopiesOfTheMeanRow) {
  for (int round = 0; round < Rounds(60, 10); ++round) {
    const RandomCase c = MakeRandomCase(7000 + round, 100);
    SCOPED_TRACE(c.Describe());
    const reference::Problem p = c.ForReference();
    const CpuResult got =
        RunCpu(c, &c.plan, {.precision = Precision::kFloat32, .select = Select::kAlways});
    const auto& shape = got.log_sum_exp.shape;
    for (std::int64_t b = 0; b < shape[0]; ++b) {
      for (std::int64_t h = 0; h < shape[1]; ++h) {
        KeptKeys keys(p, c.plan, b, h);
        for (std::int64_t i = 0; i < shape[2]; ++i) {
          const Kept kept = keys.Of(i);
          const double expected =
              LogSumExp(Scores(p, b, h, i, kept, c.plan.remainder == Remainder::kMean));
          const double actual = got.log_sum_exp(b, h, i, 0);
          if (kept.keys.empty()) {
            ASSERT_EQ(actual, expected);
          } else {
            // A logarithm moves by what its scores move.
            ASSERT_NEAR(actual, expected, Float32Bound(p) / LargestValue(p.value) + 1e-6);
          }
        }
      }
    }
  }
}

TEST(SparseAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  ThreadPool one(1);
  ThreadPool two(2);
  ThreadPool five(5);
  for (int round = 0; round < Rounds(40, 10); ++round) {
    const RandomCase c = MakeRandomCase(9000 + round, round % 10 == 0 ? 1000 : 200);
    SCOPED_TRACE(c.Describe());
    for (Precision precision : {Precision::kFloat32, Precision::kBits16, Precision::kInt8}) {
      AttendOptions options{.executor = &one, .precision = precision, .select = Select::kAlways};
      const CpuResult expected = RunCpu(c, &c.plan, options);
      for (ThreadPool* pool : {&two, &five}) {
        options.executor = pool;
        const CpuResult got = RunCpu(c, &c.plan, options);
        ASSERT_EQ(std::memcmp(got.out.values.data(), expected.out.values.data(),
                              got.out.values.size() * sizeof(double)),
                  0);
        ASSERT_EQ(std::memcmp(got.log_sum_exp.values.data(), expected.log_sum_exp.values.data(),
                              got.log_sum_exp.values.size() * sizeof(float)),
                  0);
      }
    }
  }
}

// More keys than one super-block, and a tile of queries that ends in the middle of one.
TEST(SparseAttention, ContinuesOverManyKeys) {
  for (bool causal : {false, true}) {
    RandomCase c = MakeRandomCase(3, 64);
    c.problem = reference::RandomProblem(
        {.heads = 1, .kv_heads = 1, .queries = 40, .keys = 9001, .d = 64, .d_v = 32}, 5);
    c.problem.causal = causal;
    c.causal_offset = causal ? 8961 : 0;
    c.shared_mask = false;
    c.tensors.clear();
    for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
      c.tensors.emplace_back(*t, DType::kF32, false, 0, false);
    }
    c.plan = reference::TestPlan(64, 64, 1, 0.2);
    c.plan.remainder = Remainder::kMean;
    const reference::Attended expected = RunAttend(c.ForReference(), &c.plan);
    EXPECT_LT(Total(expected.stats).kept_fraction(), 0.5);
    for (Target target : RunningTargets()) {
      const CpuResult got =
          RunCpu(c, &c.plan,
                 {.precision = Precision::kFloat32, .select = Select::kAlways, .target = target});
      ExpectEqualCounts(got.report.heads, expected.stats);
      ExpectClose(got.out, expected.out, Float32Bound(c.problem), DType::kF32);
    }
  }
}

// A case without options: one head, d = 16, 70 keys.
RandomCase PlainCase(double threshold, Remainder remainder) {
  RandomCase c = MakeRandomCase(3, 64);
  c.problem = reference::RandomProblem(
      {.heads = 1, .kv_heads = 1, .queries = 20, .keys = 70, .d = 16, .d_v = 5}, 11);
  c.causal_offset = 0;
  c.shared_mask = false;
  c.dtype = DType::kF32;
  c.plan = reference::TestPlan(16, 64, 1, threshold);
  c.plan.remainder = remainder;
  return c;
}

void Hold(RandomCase& c) {
  c.tensors.clear();
  for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
    c.tensors.emplace_back(*t, DType::kF32, false, 0, false);
  }
  if (!c.problem.bias.values.empty()) {
    c.tensors.emplace_back(c.problem.bias, DType::kF32, false, 0, false);
  }
}

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

TEST(SparseAttention, ShowsNotANumberExactlyWhereTheReferenceDoes) {
  for (Precision precision : {Precision::kFloat32, Precision::kBits16, Precision::kInt8}) {
    for (Target target : RunningTargets()) {
      for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
        for (float bad : {kNan, kInfinity, -kInfinity}) {
          for (int where = 0; where < 4; ++where) {
            SCOPED_TRACE(testing::Message() << Name(precision) << " " << Name(target) << " "
                                            << Name(remainder) << " " << bad << " in " << where);
            RandomCase c = PlainCase(0.3, remainder);
            if (where == 0) c.problem.query(0, 0, 4, 3) = bad;
            if (where == 1) c.problem.key(0, 0, 40, 3) = bad;
            if (where == 2) c.problem.value(0, 0, 40, 3) = bad;
            if (where == 3) {
              c.problem.bias = reference::Tensor<float>(c.problem.pairs());
              for (int j = 0; j < 70; ++j) c.problem.bias(0, 0, 4, j) = bad;
            }
            Hold(c);
            const reference::Attended expected = RunAttend(c.problem, &c.plan, {.threads = 1});
            const CpuResult got = RunCpu(
                c, &c.plan, {.precision = precision, .select = Select::kAlways, .target = target});
            ExpectEqualCounts(got.report.heads, expected.stats);
            for (std::size_t i = 0; i < got.out.values.size(); ++i) {
              ASSERT_EQ(std::isfinite(got.out.values[i]), std::isfinite(expected.out.values[i]))
                  << i << ": " << got.out.values[i] << " " << expected.out.values[i];
            }
          }
        }
      }
    }
  }
}

TEST(SparseAttention, NothingLeaksFromMaskedAndPaddedKeys) {
  for (Precision precision : {Precision::kFloat32, Precision::kBits16, Precision::kInt8}) {
    for (Target target : RunningTargets()) {
      for (Remainder remainder : {Remainder::kNone, Remainder::kMean}) {
        RandomCase c = PlainCase(0.1, remainder);
        c.problem.mask = reference::Tensor<std::uint8_t>(c.problem.pairs(), 1);
        for (int i = 0; i < 20; ++i) c.problem.mask(0, 0, i, 17) = 0;
        c.problem.key_lengths = {66};
        c.problem.query_lengths = {18};
        Hold(c);
        const AttendOptions options{
            .precision = precision, .select = Select::kAlways, .target = target};
        const CpuResult expected = RunCpu(c, &c.plan, options);
        for (int j : {17, 66, 69}) {
          for (int e = 0; e < 16; ++e) c.problem.key(0, 0, j, e) = kNan;
          for (int e = 0; e < 5; ++e) c.problem.value(0, 0, j, e) = kNan;
        }
        for (int e = 0; e < 16; ++e) c.problem.query(0, 0, 19, e) = kNan;
        Hold(c);
        const CpuResult got = RunCpu(c, &c.plan, options);
        const double bound = precision == Precision::kFloat32 ? 0 : 0.02;
        for (std::size_t i = 0; i < got.out.values.size(); ++i) {
          ASSERT_NEAR(got.out.values[i], expected.out.values[i], bound) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace elsa::cpu
