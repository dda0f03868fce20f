#include "elsa/cpu/sparse_attention.h"

#include <gtest/gtest.h>

#include <functional>
#include <vector>

#include "elsa/cpu/attention_testing.h"
#include "elsa/cpu/kernels/sparse.h"
#include "elsa/cpu/testing.h"

namespace elsa::cpu {
namespace {

TEST(SparseAttention, KeepsTheKeysOfTheReferenceAndAgreesWithin32Bits) {
  MetLengths met;
  for (int round = 0; round < Rounds(1200, 20); ++round) {
    const RandomCase c = MakeRandomCase(10000 + round, 200, LengthsOf(round));
    SCOPED_TRACE(c.Describe());
    met.Add(c.problem.query.shape[2], c.problem.key.shape[2]);
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
  met.ExpectNamedOnes();
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
// of their scales, by which norms are kKeyNorm or more: with d components a score of norms |q| |k|
// moves by sqrt(d) / kKeyNorm of it. Weights move by that twice, and by half a unit in kWeightOne
// each; values by half a unit in kValueLargest. Weights are relative to the largest of their
// super-block, the sum of weights is at least one. A second look at the sum of 16-bit weights: n
// half units.
double Bits16Bound(const reference::Problem& p) {
  const double d = std::sqrt(static_cast<double>(p.query.shape[3]));
  const double norms = LargestNorm(p.query) * LargestNorm(p.key);
  const double score = p.scale * norms * d / kKeyNorm;
  const double weights = static_cast<double>(p.key.shape[2]) / kWeightOne;
  const double values = 1 / static_cast<double>(kValueLargest);
  return Float32Bound(p) + LargestValue(p.value) * (2 * std::expm1(score) + weights + values);
}

// The same with keys and queries in 8 bits: half a unit is at most the largest component in 254 or,
// for queries, in 127 parts. By Cauchy-Schwarz d components of it move a score by that, sqrt(d) and
// the other's norm.
double Int8Bound(const reference::Problem& p) {
  const double d = std::sqrt(static_cast<double>(p.query.shape[3]));
  const double key = d * LargestValue(p.key) / 254;
  const double query = d * LargestValue(p.query) / 127;
  const double score =
      p.scale * (key * LargestNorm(p.query) + query * LargestNorm(p.key) + key * query);
  return Bits16Bound(p) + LargestValue(p.value) * 2 * std::expm1(score);
}

TEST(SparseAttention, KeepsTheKeysOfTheReferenceAndAgreesWithin16Bits) {
  MetLengths met;
  for (int round = 0; round < Rounds(800, 20); ++round) {
    const RandomCase c = MakeRandomCase(20000 + round, 200, LengthsOf(round));
    SCOPED_TRACE(c.Describe());
    met.Add(c.problem.query.shape[2], c.problem.key.shape[2]);
    const reference::Attended expected = RunAttend(c.ForReference(), &c.plan, {.threads = 1});
    for (Target target : RunningTargets()) {
      for (Precision precision : {Precision::kBits16, Precision::kInt8}) {
        SCOPED_TRACE(testing::Message() << Name(target) << " " << Name(precision));
        const CpuResult got = RunCpu(
            c, &c.plan, {.precision = precision, .select = Select::kAlways, .target = target});
        ExpectEqualCounts(got.report.heads, expected.stats);
        const bool int8 = precision == Precision::kInt8;
        const double bound = int8 ? Int8Bound(c.problem) : Bits16Bound(c.problem);
        ExpectClose(got.out, expected.out, bound, DType::kF32);
        if (HasFailure()) return;
      }
    }
  }
  met.ExpectNamedOnes();
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

// One head of 64 components whose every component is given; all keys are kept.
RandomCase CaseOf(std::int64_t keys, const std::function<float(std::int64_t)>& query,
                  const std::function<float(std::int64_t)>& key) {
  RandomCase c = MakeRandomCase(3, 64);
  c.problem = reference::RandomProblem(
      {.heads = 1, .kv_heads = 1, .queries = 8, .keys = keys, .d = 64, .d_v = 64}, 17);
  for (std::size_t i = 0; i < c.problem.query.values.size(); ++i) {
    c.problem.query.values[i] = query(static_cast<std::int64_t>(i));
  }
  for (std::size_t i = 0; i < c.problem.key.values.size(); ++i) {
    c.problem.key.values[i] = key(static_cast<std::int64_t>(i));
  }
  c.shared_mask = false;
  c.causal_offset = 0;
  c.tensors.clear();
  for (const auto* t : {&c.problem.query, &c.problem.key, &c.problem.value}) {
    c.tensors.emplace_back(*t, DType::kF32, false, 0, false);
  }
  c.plan = reference::TestPlan(64, 64, 1, -1);
  return c;
}

double Int8Error(const RandomCase& c, Target target) {
  const reference::Attended expected = RunAttend(c.problem, &c.plan);
  const AttendOptions options{
      .precision = Precision::kInt8, .select = Select::kAlways, .target = target};
  return RelativeError(RunCpu(c, &c.plan, options).out, expected.out);
}

// Rows at the ends of the 8 bits: two products of the largest components would not fit 16 bits if
// the query took all of them.
TEST(SparseAttention, LargestComponentsDoNotOverflowInt8) {
  const auto ends = [](std::int64_t i) { return i / 64 % 2 == 0 ? 0.3f : -0.3f; };
  const auto pairs = [](std::int64_t i) { return (i / 2 + i / 64) % 2 == 0 ? 0.3f : -0.3f; };
  for (Target target : RunningTargets()) {
    SCOPED_TRACE(Name(target));
    for (const auto& query : std::vector<std::function<float(std::int64_t)>>{ends, pairs}) {
      for (const auto& key : std::vector<std::function<float(std::int64_t)>>{ends, pairs}) {
        EXPECT_LT(Int8Error(CaseOf(100, query, key), target), 1e-2);
      }
    }
  }
}

// Where the target computes with 8 bits it shows in the error; a key far larger than the rest would
// leave them no digits, and is computed with 16.
TEST(SparseAttention, KeysWithOutliersAreNotTakenToInt8) {
  Random random(9);
  std::vector<float> normal(64 * 1000);
  for (float& x : normal) x = static_cast<float>(random.Normal());
  const auto of = [&](std::int64_t i) { return normal[static_cast<std::size_t>(i)]; };
  const auto outlier = [&](std::int64_t i) { return i == 77 ? 50.0f : of(i); };
  for (Target target : RunningTargets()) {
    SCOPED_TRACE(Name(target));
    const bool bits8 = target != Target::kPortable && target != Target::kNeon;
    const double error = Int8Error(CaseOf(1000, of, of), target);
    if (bits8) {
      EXPECT_GT(error, 1.2e-3);
    }
    EXPECT_LT(error, 1.5e-2);
    EXPECT_LT(Int8Error(CaseOf(1000, of, outlier), target), 1e-3);
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
        // A row that is not finite is not taken to fixed point.
        const double bound = precision == Precision::kFloat32  ? 0
                             : precision == Precision::kBits16 ? 0.02
                                                               : 0.06;
        for (std::size_t i = 0; i < got.out.values.size(); ++i) {
          ASSERT_NEAR(got.out.values[i], expected.out.values[i], bound) << i;
        }
      }
    }
  }
}

}  // namespace
}  // namespace elsa::cpu
