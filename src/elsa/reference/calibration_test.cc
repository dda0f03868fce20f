#include "elsa/reference/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "elsa/base/error.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/scores.h"
#include "elsa/reference/testing.h"

namespace elsa::reference {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr Rule kRules[] = {Rule::kPaper, Rule::kMass, Rule::kBudget, Rule::kGap};

Plan Options(std::int64_t d, Rule rule, double target) {
  Plan plan = TestPlan(d, 32, 1, 0);
  plan.thresholds.clear();
  plan.rule = rule;
  plan.target = target;
  return plan;
}

Plan Calibrated(const Plan& options, const std::vector<Problem>& problems, int threads = 0) {
  const std::int64_t heads = problems[0].query.shape[1];
  Calibrator calibrator(options, 1, heads);
  for (const Problem& p : problems) calibrator.Observe(0, p.inputs(), threads);
  return calibrator.Finish();
}

// Sec. III-E and Fig. 6 written anew: one head's threshold.
double PaperThreshold(const std::vector<Problem>& problems, std::int64_t h, double p,
                      bool bias_in_test) {
  long double sum = 0;
  std::int64_t queries = 0;
  for (const Problem& problem : problems) {
    for (std::int64_t b = 0; b < problem.query.shape[0]; ++b) {
      for (std::int64_t i = 0; i < problem.query.shape[2]; ++i) {
        const auto visible = BruteVisible(problem, b, h, i);
        if (visible.empty()) continue;
        const auto norm = [&](const Tensor<float>& rows, std::int64_t g, std::int64_t j) {
          double square = 0;
          for (std::int64_t c = 0; c < rows.shape[3]; ++c) square += std::pow(rows(b, g, j, c), 2);
          return std::sqrt(square);
        };
        std::vector<double> scores;
        double norm_max = 0;
        for (std::int64_t j : visible) scores.push_back(BruteScore(problem, b, h, i, j));
        for (std::int64_t j : visible) {
          norm_max = std::max(norm_max, norm(problem.key, problem.kv_head(h), j));
        }
        const std::vector<double> weights = BruteSoftmax(scores);
        std::size_t chosen = std::max_element(weights.begin(), weights.end()) - weights.begin();
        if (weights[chosen] > p / static_cast<double>(visible.size())) {
          for (std::size_t v = 0; v < visible.size(); ++v) {
            const bool relevant = weights[v] > p / static_cast<double>(visible.size());
            if (relevant && weights[v] < weights[chosen]) chosen = v;
          }
        }
        const double bias = problem.bias.values.empty() || bias_in_test
                                ? 0.0
                                : problem.bias(b, h, i, visible[chosen]);
        sum += (scores[chosen] - bias) / problem.scale / (norm(problem.query, h, i) * norm_max);
        ++queries;
      }
    }
  }
  return static_cast<double>(sum / queries);
}

// Several inputs of different lengths, as a model makes them.
std::vector<Problem> Inputs(bool causal, bool biased, std::uint64_t seed) {
  std::vector<Problem> problems;
  for (std::int64_t n : {9, 17, 24}) {
    problems.push_back(RandomProblem(
        {.batch = 2, .heads = 4, .kv_heads = 2, .queries = n, .keys = n, .d = 12, .d_v = 3},
        seed + n));
    Problem& p = problems.back();
    p.causal = causal;
    p.key_lengths = p.query_lengths = {n, n - 4};
    if (biased) AddRandomBias(p, 1.5, seed + 2 * n);
  }
  return problems;
}

TEST(PaperRule, EqualsAnIndependentImplementation) {
  for (double p : {0.5, 1.0, 2.0, 4.0, 30.0}) {
    for (bool causal : {false, true}) {
      for (bool biased : {false, true}) {
        for (bool bias_in_test : {false, true}) {
          SCOPED_TRACE(testing::Message() << p << causal << biased << bias_in_test);
          const auto problems = Inputs(causal, biased, 100);
          Plan options = Options(12, Rule::kPaper, p);
          options.bias_in_test = bias_in_test;
          const Plan plan = Calibrated(options, problems);
          EXPECT_NO_THROW(ValidatePlan(plan));
          for (std::int64_t h = 0; h < 4; ++h) {
            // Norms are binary32: 2^-24 and a few roundings, of values below 1 (2 with a bias).
            EXPECT_NEAR(plan.thresholds[0][h], PaperThreshold(problems, h, p, bias_in_test), 2e-6);
            EXPECT_EQ(plan.calibration[0][h].queries, 2 * (9 + 17 + 24) - 3 * 4);
            EXPECT_GT(plan.calibration[0][h].threshold_stddev, 0);
          }
        }
      }
    }
  }
}

TEST(PaperRule, HasAClosedForm) {
  // Two orthogonal unit keys and a query on the first: weights e / (e + 1) = .731 and .269.
  Problem p =
      RandomProblem({.heads = 1, .kv_heads = 1, .queries = 1, .keys = 2, .d = 2, .d_v = 1}, 1);
  p.query.values = {3, 0};
  p.key.values = {1, 0, 0, 1};
  p.scale = 1.0 / 3;
  // p / n = .25: both are relevant, the smaller weight has a raw score of 0.
  EXPECT_NEAR(Calibrated(Options(2, Rule::kPaper, 0.5), {p}).thresholds[0][0], 0, 1e-15);
  // p / n = .5: only the first is; 3 / (3 * 1).
  EXPECT_NEAR(Calibrated(Options(2, Rule::kPaper, 1), {p}).thresholds[0][0], 1, 1e-15);
  // p / n = the second weight, to the bit: a weight must exceed it.
  std::vector<double> weights{1, 0};
  Softmax(weights);
  EXPECT_NEAR(Calibrated(Options(2, Rule::kPaper, 2 * weights[1]), {p}).thresholds[0][0], 1, 1e-15);
  // p / n = 1: none is; the largest weight counts.
  EXPECT_NEAR(Calibrated(Options(2, Rule::kPaper, 2), {p}).thresholds[0][0], 1, 1e-15);
}

TEST(PaperRule, TargetOfZeroMakesEveryHeadExact) {
  const Plan plan = Calibrated(Options(12, Rule::kPaper, 0), Inputs(false, false, 1));
  for (double t : plan.thresholds[0]) EXPECT_EQ(t, kExactHead);
  EXPECT_EQ(plan.calibration[0][0].kept_fraction, 1);
}

TEST(PaperRule, LargerPNeverKeepsMore) {
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    const auto problems = Inputs(seed % 2 == 0, false, 1000 * seed);
    const Problem held_out = Inputs(seed % 2 == 0, false, 1000 * seed + 500)[2];
    std::vector<double> last(4, -2.0);
    std::vector<std::int64_t> kept(4, std::numeric_limits<std::int64_t>::max());
    for (double p : {0.1, 0.5, 1.0, 2.0, 4.0, 8.0}) {
      const Plan plan = Calibrated(Options(12, Rule::kPaper, p), problems);
      const auto stats = RunAttend(held_out, &plan).stats;
      for (int h = 0; h < 4; ++h) {
        EXPECT_GE(plan.thresholds[0][h], last[h]);
        EXPECT_LE(stats[h].kept, kept[h]);
        last[h] = plan.thresholds[0][h];
        kept[h] = stats[h].kept;
      }
    }
  }
}

// What one bin of the histogram holds: the resolution of every expectation below.
double OneBin(Rule rule, const Problem& p, const Plan& plan, int h, bool of_mass) {
  const double width = rule == Rule::kGap ? 1.0 / 128 : 1.0 / 2048;
  Plan low = plan;
  Plan high = plan;
  low.thresholds[0][h] -= 1.01 * width;
  high.thresholds[0][h] += 1.01 * width;
  const HeadStats a = RunAttend(p, &low, {.measure_mass = true}).stats[h];
  const HeadStats b = RunAttend(p, &high, {.measure_mass = true}).stats[h];
  return std::abs(of_mass ? a.mass_kept() - b.mass_kept() : a.kept_fraction() - b.kept_fraction());
}

TEST(Calibration, ExpectsWhatAttendMeasures) {
  for (Rule rule : kRules) {
    for (double target : {0.1, 0.5, 0.9, 0.99, 1.0}) {
      for (bool biased : {false, true}) {
        for (bool bias_in_test : {false, true}) {
          SCOPED_TRACE(testing::Message() << Name(rule) << target << biased << bias_in_test);
          Problem p = Inputs(false, biased, 7)[2];
          Plan options = Options(12, rule, rule == Rule::kPaper ? 4 * target : target);
          options.bias_in_test = bias_in_test;
          const Plan plan = Calibrated(options, {p});
          EXPECT_NO_THROW(ValidatePlan(plan));
          const auto stats = RunAttend(p, &plan, {.measure_mass = true}).stats;
          for (int h = 0; h < 4; ++h) {
            const HeadCalibration& seen = plan.calibration[0][h];
            const bool exact = plan.thresholds[0][h] == kExactHead;
            const double pairs_bin = exact ? 0 : OneBin(rule, p, plan, h, false);
            const double mass_bin = exact ? 0 : OneBin(rule, p, plan, h, true);
            EXPECT_LT(pairs_bin + mass_bin, 0.1);  // or the next lines would say nothing
            EXPECT_NEAR(seen.kept_fraction, stats[h].kept_fraction(), pairs_bin + 1e-9);
            EXPECT_NEAR(seen.mass_kept, stats[h].mass_kept(), mass_bin + 1e-9);
            // The target is met, and not by more than a bin; the best estimate is always kept.
            if (rule == Rule::kMass || rule == Rule::kGap) {
              EXPECT_GE(stats[h].mass_kept(), target - mass_bin - 1e-9);
            }
            if (rule == Rule::kMass && plan.thresholds[0][h] < 1.9) {
              EXPECT_LE(stats[h].mass_kept(), target + mass_bin + 0.02);
            }
            if (rule == Rule::kBudget) {
              EXPECT_NEAR(stats[h].kept_fraction(), target, pairs_bin + 0.01);
            }
            if (rule == Rule::kGap) {
              EXPECT_GT(exact ? 1 : plan.thresholds[0][h], 0);
              EXPECT_EQ(stats[h].fallback_queries, 0);
            }
          }
        }
      }
    }
  }
}

// A steep bias on tiny keys spreads the tested quantity far beyond the bins.
TEST(Calibration, RunsAHeadExactWhoseTargetNoThresholdMeets) {
  Problem p = RandomProblem({.heads = 1, .kv_heads = 1, .queries = 16, .keys = 16}, 3);
  for (float& x : p.key.values) x *= 0.01f;
  AddRandomBias(p, 3, 4);
  for (Rule rule : {Rule::kMass, Rule::kBudget}) {
    Plan options = Options(8, rule, 0.999);
    options.bias_in_test = true;
    const Plan plan = Calibrated(options, {p});
    EXPECT_EQ(plan.thresholds[0][0], kExactHead);
    EXPECT_EQ(plan.calibration[0][0].mass_kept, 1);
    EXPECT_EQ(plan.calibration[0][0].kept_fraction, 1);
  }
}

TEST(Calibration, StreamsOverInputs) {
  // Two inputs of one sequence each, or one input of two.
  for (Rule rule : kRules) {
    const Problem both =
        RandomProblem({.batch = 2, .heads = 2, .kv_heads = 2, .queries = 11, .keys = 11}, 5);
    std::vector<Problem> parts;
    for (int b = 0; b < 2; ++b) {
      Problem part = RandomProblem({.queries = 11, .keys = 11}, 1);
      for (auto [to, from] : {std::pair{&part.query, &both.query},
                              {&part.key, &both.key},
                              {&part.value, &both.value}}) {
        std::copy_n(from->values.begin() + b * to->values.size(), to->values.size(),
                    to->values.begin());
      }
      parts.push_back(part);
    }
    const Plan options = Options(8, rule, 0.8);
    EXPECT_EQ(Calibrated(options, parts), Calibrated(options, {both})) << Name(rule);
  }
}

TEST(Calibration, DoesNotDependOnThreads) {
  for (Rule rule : kRules) {
    const auto problems = Inputs(false, true, 8);
    const Plan options = Options(12, rule, 0.7);
    const Plan one = Calibrated(options, problems, 1);
    for (int threads : {0, 2, 5}) EXPECT_EQ(Calibrated(options, problems, threads), one);
  }
}

TEST(Calibration, KeepsLayersApart) {
  const auto problems = Inputs(false, false, 9);
  Calibrator calibrator(Options(12, Rule::kPaper, 1), 3, 4);
  calibrator.Observe(2, problems[1].inputs());
  calibrator.Observe(0, problems[0].inputs());
  const Plan plan = calibrator.Finish();
  const Plan options = Options(12, Rule::kPaper, 1);
  EXPECT_EQ(plan.thresholds[0], Calibrated(options, {problems[0]}).thresholds[0]);
  EXPECT_EQ(plan.thresholds[2], Calibrated(options, {problems[1]}).thresholds[0]);
  for (double t : plan.thresholds[1]) EXPECT_EQ(t, kExactHead);  // nothing seen
}

TEST(Calibration, SkipsQueriesThatSayNothing) {
  for (Rule rule : kRules) {
    SCOPED_TRACE(Name(rule));
    const Problem clean = RandomProblem({.queries = 6, .keys = 9}, 10);
    const Plan options = Options(8, rule, 0.7);
    const Plan want = Calibrated(options, {clean});
    // Three more queries: zero, NaN, infinite. Padding besides.
    Problem p = RandomProblem({.queries = 10, .keys = 9}, 10);
    p.key = clean.key;
    p.value = clean.value;
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 10; ++i) {
        for (int c = 0; c < 8; ++c) {
          const float junk[] = {0, kNan, std::numeric_limits<float>::infinity(), 5};
          p.query(0, h, i, c) = i < 6 ? clean.query(0, h, i, c) : junk[i - 6];
        }
      }
    }
    p.query_lengths = {9};
    EXPECT_EQ(Calibrated(options, {p}), want);
    // A key of NaN, or of zeros only, leaves no usable query.
    for (float junk : {kNan, 0.0f}) {
      Problem bad = clean;
      if (junk == 0) std::fill(bad.key.values.begin(), bad.key.values.end(), 0.0f);
      if (junk != 0) bad.key(0, 0, 2, 1) = junk;
      const Plan plan = Calibrated(options, {bad});
      EXPECT_EQ(plan.thresholds[0][0], kExactHead);
      EXPECT_EQ(plan.calibration[0][0].queries, 0);
      EXPECT_EQ(plan.calibration[0][0].kept_fraction, 1);
    }
  }
}

TEST(Calibration, LeavesOutWhatRunsDense) {
  Problem p = RandomProblem({.queries = 9, .keys = 9}, 11);
  p.causal = true;
  Plan options = Options(8, Rule::kPaper, 1);
  options.dense_below = 5;
  EXPECT_EQ(Calibrated(options, {p}).calibration[0][0].queries, 5);
}

TEST(Calibration, RefusesOptionsThatMakeNoSense) {
  EXPECT_THROW(Calibrator(Options(8, Rule::kPaper, -1), 1, 1), Error);
  EXPECT_THROW(Calibrator(Options(8, Rule::kMass, 1.5), 1, 1), Error);
  EXPECT_THROW(Calibrator(Options(8, Rule::kBudget, 0), 1, 1), Error);
  EXPECT_THROW(Calibrator(Options(8, Rule::kPaper, 1), 0, 1), Error);
  EXPECT_THROW(Calibrator(Options(8, Rule::kPaper, 1), 1, 0), Error);
  Calibrator calibrator(Options(8, Rule::kPaper, 1), 1, 3);
  const Problem p = RandomProblem({}, 1);  // two heads
  EXPECT_THROW(calibrator.Observe(0, p.inputs()), Error);
  EXPECT_THROW(calibrator.Observe(1, p.inputs()), Error);
}

TEST(ThetaBiasMeter, EqualsAPercentileOverAllPairs) {
  for (bool causal : {false, true}) {
    const auto problems = Inputs(causal, false, 12);
    const Plan options = Options(12, Rule::kPaper, 1);
    ThetaBiasMeter meter(options, 2, 4);
    for (const Problem& p : problems) meter.Observe(1, p.inputs(), 2);
    const auto got = meter.Finish();
    for (std::int64_t h = 0; h < 4; ++h) {
      std::vector<double> errors;
      for (const Problem& p : problems) {
        for (std::int64_t b = 0; b < 2; ++b) {
          for (std::int64_t i = 0; i < p.query.shape[2]; ++i) {
            for (std::int64_t j : BruteVisible(p, b, h, i)) {
              const float* q = &p.query(b, h, i, 0);
              const float* k = &p.key(b, p.kv_head(h), j, 0);
              double dot = 0;
              double qq = 0;
              double kk = 0;
              for (int c = 0; c < 12; ++c) {
                dot += static_cast<double>(q[c]) * k[c];
                qq += static_cast<double>(q[c]) * q[c];
                kk += static_cast<double>(k[c]) * k[c];
              }
              const int distance = HammingDistance(HashVectors(options.hash, {q, 12}),
                                                   HashVectors(options.hash, {k, 12}));
              errors.push_back(M_PI / 32 * distance - std::acos(dot / std::sqrt(qq * kk)));
            }
          }
        }
      }
      std::sort(errors.begin(), errors.end());
      const double want =
          errors[static_cast<std::size_t>(std::ceil(0.8 * static_cast<double>(errors.size()))) - 1];
      EXPECT_NEAR(got[1][h], want, M_PI / 4096) << h;
    }
    // A layer without data gets the value of random vectors.
    EXPECT_EQ(got[0][2], MeasureThetaBias(options.hash));
  }
}

}  // namespace
}  // namespace elsa::reference
