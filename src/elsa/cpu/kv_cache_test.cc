#include "elsa/cpu/kv_cache.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/base/random.h"
#include "elsa/cpu/kv_cache_testing.h"
#include "elsa/cpu/testing.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::cpu {
namespace {

// ---- exact ----

TEST(KvCache, OneQueryOverAppendedKeysIsAttentionOverAllOfThem) {
  for (Target target : RunningTargets()) {
    for (DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
      for (std::int64_t d : {1, 16, 64, 80, 128}) {
        SCOPED_TRACE(std::string(Name(target)) + " " + std::string(Name(dtype)) + " d " +
                     std::to_string(d));
        Pair p({.batch = 2,
                .kv_heads = 2,
                .heads = 4,
                .d = d,
                .d_v = d == 80 ? 33 : d,
                .dtype = dtype},
               nullptr, 1);
        AskAndCheck(p, {.causal = false, .target = target});
        for (std::int64_t count : {1, 6, 1, 60, 3}) {
          p.Append(count);
          AskAndCheck(p, {.target = target});
        }
      }
    }
  }
}

TEST(KvCache, ReadsTensorsOfAnyStrideAndType) {
  Random random(3);
  const Packed<float> key = RandomTensor({2, 9, 3, 8}, random);  // [batch, new, kv_heads, d]
  std::vector<std::uint16_t> value;
  for (int i = 0; i < 9 * 5; ++i) value.push_back(ToF16(static_cast<float>(random.Normal())));
  KvCache cache({.batch = 2, .kv_heads = 3, .heads = 3, .d = 8, .d_v = 5, .dtype = DType::kBf16});
  const View<const float, 4> keys(key.values.data(), {2, 3, 9, 8}, {9 * 24, 8, 24, 1});
  // One head of values for all.
  const Tensor values(reinterpret_cast<const std::byte*>(value.data()), DType::kF16, {2, 3, 9, 5},
                      {0, 0, 5, 1});
  cache.Append(keys, values);
  reference::Problem problem;
  problem.query = RandomTensor({2, 3, 1, 8}, random);
  problem.key = Packed<float>({2, 3, 9, 8});
  problem.value = Packed<float>({2, 3, 9, 5});
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t g = 0; g < 3; ++g) {
      for (std::int64_t j = 0; j < 9; ++j) {
        for (int c = 0; c < 8; ++c) {
          problem.key(b, g, j, c) = Rounded(keys(b, g, j, c), DType::kBf16);
        }
        for (int c = 0; c < 5; ++c) {
          problem.value(b, g, j, c) = Rounded(FromF16(value[j * 5 + c]), DType::kBf16);
        }
      }
    }
  }
  Packed<float> out({2, 3, 1, 5});
  cache.Attend(problem.query.view(), View<float, 4>(out.values.data(), out.shape));
  const Packed<double> expected = reference::BruteExact(problem);
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    EXPECT_NEAR(out.values[i], expected.values[i], Tolerance(problem)) << i;
  }
}

// ---- selection ----

// Random sequences of everything a cache can do, against reference::Attend on the mirror.
void RunSequence(std::uint64_t seed, Target target) {
  Random random(seed);
  const auto pick = [&](std::vector<std::int64_t> from) { return from[random.Below(from.size())]; };
  KvCacheOptions o;
  o.batch = pick({1, 2, 3});
  o.kv_heads = pick({1, 2});
  o.heads = o.kv_heads * pick({1, 2, 3, 4, 5});
  o.d = pick({8, 16, 40, 64});
  o.d_v = pick({8, 31, 64});
  o.dtype = static_cast<DType>(random.Below(3));
  const double threshold = 0.2 * random.Normal() + 0.2;
  const std::shared_ptr<Plan> plan = TestPlan(o, threshold, pick({32, 64, 128, 256}));
  plan->rule = static_cast<Rule>(random.Below(4));
  if (plan->rule == Rule::kGap) {
    for (double& t : plan->thresholds[0]) t = 0.5 + 2 * random.Uniform();
  }
  plan->theta_bias_rad = {std::vector<double>(o.heads)};
  for (double& bias : plan->theta_bias_rad[0]) bias = 0.2 * random.Uniform();
  if (random.Below(4) == 0) plan->thresholds[0][0] = kExactHead;
  if (random.Below(2) == 0) plan->remainder = Remainder::kMean;
  if (random.Below(3) == 0) plan->bias_in_test = true;
  plan->dense_below = pick({0, 0, 40});
  plan->always_keep_first = pick({0, 0, 3});
  plan->always_keep_recent = pick({0, 0, 5});
  SCOPED_TRACE("seed " + std::to_string(seed) + " target " + std::string(Name(target)) + " d " +
               std::to_string(o.d) + " heads " + std::to_string(o.heads) + "/" +
               std::to_string(o.kv_heads) + " " + std::string(Name(o.dtype)) + " rule " +
               std::string(Name(plan->rule)) + " remainder " + std::string(Name(plan->remainder)));
  Pair p(o, plan, seed + 1);
  for (int step = 0; step < 14 && !testing::Test::HasFailure(); ++step) {
    const std::int64_t size = p.mirror.size();
    switch (random.Below(7)) {
      case 0:
        p.Append(1 + static_cast<std::int64_t>(random.Below(90)), 0.5 + random.Uniform());
        break;
      case 1:
        p.Append(1, 0.5 + 3 * random.Uniform());  // now and then the longest so far
        break;
      case 2: {
        const std::int64_t free = size - std::min(plan->always_keep_first, size);
        p.Evict(static_cast<std::int64_t>(random.Below(free / 3 + 1)));
        break;
      }
      case 3:
        if (size > 0) p.Truncate(size - static_cast<std::int64_t>(random.Below(size / 4 + 1)));
        break;
      case 4: {
        std::vector<std::int64_t> order(1 + random.Below(3));
        for (std::int64_t& row : order)
          row = static_cast<std::int64_t>(random.Below(p.options.batch));
        p.Reorder(order);
        break;
      }
      default:
        p.Append(1);
    }
    ASSERT_EQ(p.cache.size(), p.mirror.size());
    Question question;
    question.target = target;
    question.n_q = std::min(p.mirror.size(), pick({1, 1, 1, 2, 3, 5}));
    if (question.n_q == 0) question = {.n_q = 1, .causal = false, .target = target};
    question.mask = random.Below(4) == 0;
    question.bias = random.Below(4) == 0;
    question.causal = question.causal && random.Below(5) != 0;
    SCOPED_TRACE("step " + std::to_string(step) + " size " + std::to_string(p.mirror.size()) +
                 " n_q " + std::to_string(question.n_q) + (question.mask ? " mask" : "") +
                 (question.bias ? " bias" : "") + (question.causal ? " causal" : ""));
    AskAndCheck(p, question);
  }
}

TEST(KvCache, KeepsWhatTheReferenceKeepsThroughAnythingThatHappensToIt) {
  for (Target target : RunningTargets()) {
    const int rounds = Rounds(60, 6);
    for (int seed = 0; seed < rounds && !HasFailure(); ++seed) {
      RunSequence(static_cast<std::uint64_t>(seed) + 1000, target);
    }
  }
}

// ---- what a growing K_max does ----

TEST(KvCache, MakesCutOffsAnewOnlyWhenTheLargestNormChanges) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 16};
  Pair p(o, TestPlan(o, 0.3), 5);
  p.Append(200);
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().cut_off_rebuilds, 0);  // made for the first time, not anew
  p.Append(50, 0.01);                              // shorter than all
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().cut_off_rebuilds, 0);
  p.Append(1, 100);  // the longest by far
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().cut_off_rebuilds, 2);  // of two query heads
  p.Append(3);
  AskAndCheck(p, {.n_q = 4});  // the first of these queries sees the longest key too
  EXPECT_EQ(p.cache.stats().cut_off_rebuilds, 2);
  AskAndCheck(p, {.n_q = 5});
  p.Evict(100);  // not the longest
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().cut_off_rebuilds, 2);
  p.Evict(151);  // the longest goes
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().cut_off_rebuilds, 4);
}

TEST(KvCache, QueriesThatDoNotSeeTheLongestKeyDecideWithoutIt) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 16};
  Pair p(o, TestPlan(o, 0.3), 6);
  p.Append(100);
  p.Append(1, 100);
  p.Append(1, 0.5);
  AskAndCheck(p, {.n_q = 4});  // two of the four do not
}

TEST(KvCache, EvictionLeavesTheFirstKeysThatThePlanAlwaysKeeps) {
  KvCacheOptions o{.kv_heads = 2, .heads = 2, .d = 16, .d_v = 16};
  const std::shared_ptr<Plan> plan = TestPlan(o, 0.5);
  plan->always_keep_first = 4;
  plan->always_keep_recent = 6;
  plan->remainder = Remainder::kMean;
  Pair p(o, plan, 7);
  for (int step = 0; step < 200; ++step) {  // a window of 40 behind 4 sinks; rows move now and then
    p.Append(1);
    if (p.mirror.size() > 44) p.Evict(1);
    if (step % 10 == 0) AskAndCheck(p, {});
  }
  EXPECT_EQ(p.cache.size(), 44);
  EXPECT_LE(p.cache.capacity(), 128);
  EXPECT_GT(p.cache.stats().moves, 0);
  EXPECT_THROW(p.cache.EvictFront(41), Error);
}

// ---- the same for everybody ----

TEST(KvCache, GivesTheSameBitsForAnyNumberOfThreads) {
  for (bool selects : {false, true}) {
    for (std::int64_t n_q : {1, 3}) {
      KvCacheOptions o{.kv_heads = 1, .heads = 3, .d = 16, .d_v = 16};
      std::shared_ptr<Plan> plan;
      if (selects) {
        plan = TestPlan(o, 0.3);
        plan->remainder = Remainder::kMean;
      }
      Pair p(o, plan, 8);
      p.Append(9001);  // three chunks
      const Question question{.n_q = n_q};
      const reference::Problem problem = ProblemOf(p, question);
      std::vector<Answer> answers;
      for (int threads : {1, 2, 5}) {
        answers.push_back(Ask(p, {.n_q = n_q, .threads = threads}, problem));
      }
      ExpectEqual(answers[0], Expect(p, question, problem), Tolerance(problem));
      for (const Answer& other : answers) {
        EXPECT_EQ(other.out.values, answers[0].out.values);
        EXPECT_EQ(other.log_sum_exp, answers[0].log_sum_exp);
      }
    }
  }
}

TEST(KvCache, AnswersAtTheEdgesOfChunksAndFilterBlocks) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 8, .d_v = 8};
  Pair p(o, TestPlan(o, 0.3), 9);
  p.Append(510);
  for (int step = 0; step < 4; ++step, p.Append(1)) AskAndCheck(p, {.n_q = 2});
  p.Append(4095 - p.mirror.size());
  for (int step = 0; step < 3; ++step, p.Append(1)) AskAndCheck(p, {.n_q = 2});
}

TEST(KvCache, AnswersManyQueriesAtOnce) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 8, .dtype = DType::kBf16};
  const std::shared_ptr<Plan> plan = TestPlan(o, 0.3);
  plan->always_keep_first = 2;
  Pair p(o, plan, 20);
  p.Append(150);
  AskAndCheck(p, {.n_q = 33});
  AskAndCheck(p, {.n_q = 150});
}

TEST(KvCache, APaddingMaskThatGrowsWithTheCacheHidesItsKeys) {
  KvCacheOptions o{.batch = 2, .kv_heads = 1, .heads = 2, .d = 16, .d_v = 16};
  const std::shared_ptr<Plan> plan = TestPlan(o, 0.3);
  plan->remainder = Remainder::kMean;
  Pair p(o, plan, 21);
  p.Append(90);
  Question question{.n_q = 1};
  for (int step = 0; step < 30; ++step) {
    p.Append(1 + step % 2);
    if (step == 20) p.Truncate(p.mirror.size() - 3);
    if (step == 25) p.Evict(3);
    question.n_q = 1 + step % 3;
    reference::Problem problem = ProblemOf(p, question);
    problem.mask = Packed<std::uint8_t>(problem.pairs(), 1);
    const std::int64_t n = p.mirror.size();
    for (std::size_t at = 0; at < problem.mask.values.size(); ++at) {
      const std::size_t per_sequence = problem.mask.values.size() / 2;
      const std::size_t padding = at < per_sequence ? 70 : 5;
      problem.mask.values[at] = at % static_cast<std::size_t>(n) >= padding ? 2 : 0;
    }
    ExpectEqual(Ask(p, question, problem), Expect(p, question, problem), Tolerance(problem));
  }
}

// ---- numbers that are not finite ----

TEST(KvCache, AKeyWithoutAFiniteNormIsAlwaysKept) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 16};
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), HUGE_VALF}) {
    Pair p(o, TestPlan(o, 0.9), 10);
    p.Append(100);
    Packed<float> key = p.NewRows(1, 16, 1);
    key.values[3] = bad;
    p.Append(key, p.NewRows(1, 16, 1));
    p.Append(100);
    AskAndCheck(p, {});
    p.Evict(101);  // gone, and nothing of it stays
    AskAndCheck(p, {});
  }
}

TEST(KvCache, ValuesThatAreDroppedOrOutOfSightDoNotLeak) {
  KvCacheOptions o{.kv_heads = 1, .heads = 4, .d = 16, .d_v = 16};
  Pair p(o, TestPlan(o, 0.6), 11);
  p.Append(64);
  for (int j = 0; j < 200; ++j) {  // every other key holds a NaN value, seen where it is kept
    Packed<float> value = p.NewRows(1, 16, 1);
    if (j % 2 == 0) value.values[5] = std::numeric_limits<float>::quiet_NaN();
    p.Append(p.NewRows(1, 16, 0.3), value);
  }
  const Question question{.n_q = 1};
  const reference::Problem problem = ProblemOf(p, question);
  ExpectEqual(Ask(p, question, problem), Expect(p, question, problem), Tolerance(problem));
  reference::Problem hidden = ProblemOf(p, question);
  hidden.mask = Packed<std::uint8_t>(hidden.pairs(), 1);
  for (std::size_t at = 0; at < hidden.mask.values.size(); ++at) {
    if (at % 264 >= 64) hidden.mask.values[at] = at % 2;
  }
  const Answer answer = Ask(p, question, hidden);
  for (float x : answer.out.values) EXPECT_TRUE(std::isfinite(x));
}

TEST(KvCache, SumsOfTheMeanRowSurviveRowsOfAnySize) {
  KvCacheOptions o{.kv_heads = 1, .heads = 1, .d = 16, .d_v = 16};
  const std::shared_ptr<Plan> plan = TestPlan(o, 0.5);
  plan->remainder = Remainder::kMean;
  Pair p(o, plan, 12);
  p.Append(p.NewRows(3, 16, 1), p.NewRows(3, 16, 1e30));
  Packed<float> value = p.NewRows(1, 16, 1);
  value.values[0] = HUGE_VALF;
  p.Append(p.NewRows(1, 16, 1), value);
  p.Append(60);
  p.Evict(4);
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().mean_rebuilds, 1);
  p.Append(p.NewRows(1, 16, 1), p.NewRows(1, 16, 1e30));
  p.Truncate(p.mirror.size() - 1);
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().mean_rebuilds, 2);
  for (int step = 0; step < 50; ++step) {
    p.Append(1);
    p.Evict(1);
  }
  AskAndCheck(p, {});
  EXPECT_EQ(p.cache.stats().mean_rebuilds, 2);  // rows of one size: no need
}

// ---- options ----

TEST(KvCache, ReturnsTheLogarithmOfTheSumOfExponentials) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 16};
  Pair p(o, nullptr, 13);
  p.Append(70);
  const Question question{.n_q = 2};
  const reference::Problem problem = ProblemOf(p, question);
  const Answer answer = Ask(p, question, problem);
  for (std::int64_t h = 0; h < 2; ++h) {
    for (std::int64_t i = 0; i < 2; ++i) {
      double sum = 0;
      for (std::int64_t j = 0; j < 69 + i; ++j) {
        sum += std::exp(reference::BruteScore(problem, 0, h, i, j));
      }
      EXPECT_NEAR(answer.log_sum_exp[h * 2 + i], std::log(sum), 1e-4);
    }
  }
}

TEST(KvCache, AGroupThatKeepsItsUnionKeepsWhatAnyHeadKeeps) {
  KvCacheOptions o{.kv_heads = 2, .heads = 8, .d = 16, .d_v = 16};
  Pair p(o, TestPlan(o, 0.5), 14);
  p.Append(300);
  const Question question{.group_union = true};
  const reference::Problem problem = ProblemOf(p, question);
  const Answer answer = Ask(p, question, problem);
  for (std::int64_t h = 0; h < 8; ++h) {
    // By the reference: the keys that the heads of the group keep, one after the other.
    std::vector<std::int64_t> kept;
    for (std::int64_t other = h / 4 * 4; other < h / 4 * 4 + 4; ++other) {
      const reference::AttentionInputs inputs = problem.inputs();
      reference::HeadInputs head(inputs, 0, other);
      reference::SimilarityEstimator estimator(head,
                                               reference::EstimatorOptionsOf(*p.plan, 0, other));
      reference::Selection selection;
      reference::Select(estimator.Estimate(0), p.plan->rule, p.plan->thresholds[0][other],
                        selection);
      kept.insert(kept.end(), selection.kept.begin(), selection.kept.end());
    }
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    EXPECT_EQ(answer.report.heads[h].stats.kept, static_cast<std::int64_t>(kept.size()));
    const std::vector<double> row = reference::BruteRow(problem, 0, h, 0, kept, false);
    for (std::int64_t c = 0; c < 16; ++c) {
      EXPECT_NEAR(answer.out(0, h, 0, c), row[c], Tolerance(problem));
    }
  }
}

TEST(KvCache, ComputesExactlyWhereSelectionWouldNotPay) {
  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 16};
  const auto path = [](const Answer& answer, Path which) {
    return answer.report.heads[0].heads_by_path[static_cast<int>(which)];
  };
  Pair few(o, TestPlan(o, 0.6), 15);
  few.Append(400);
  const Question kauto{.select = Select::kAuto};
  EXPECT_EQ(path(Ask(few, kauto, ProblemOf(few, kauto)), Path::kSelected), 1);
  Pair many(o, TestPlan(o, -0.9), 16);
  many.Append(400);
  const reference::Problem problem = ProblemOf(many, kauto);
  const Answer answer = Ask(many, kauto, problem);
  EXPECT_EQ(path(answer, Path::kExactObserved), 1);
  EXPECT_EQ(answer.report.heads[0].stats.kept, 400);
  EXPECT_EQ(answer.report.heads[0].stats.exact_queries, 1);
  const Packed<double> exact = reference::BruteExact(problem);
  for (std::size_t i = 0; i < exact.values.size(); ++i) {
    EXPECT_NEAR(answer.out.values[i], exact.values[i], Tolerance(problem));
  }
  Pair short_one(o, TestPlan(o, 0.6), 17);
  short_one.Append(20);
  EXPECT_EQ(path(Ask(short_one, kauto, ProblemOf(short_one, kauto)), Path::kExactTooShort), 1);
}

// ---- bad input ----

TEST(KvCache, RefusesWhatMakesNoSenseAndStaysAsItWas) {
  const auto refuses = [](const auto& call, const std::string& word) {
    try {
      call();
      ADD_FAILURE() << "no error with " << word;
    } catch (const Error& error) {
      EXPECT_NE(std::string(error.what()).find(word), std::string::npos) << error.what();
    }
  };
  refuses([] { KvCache({.kv_heads = 2, .heads = 3}); }, "heads");
  refuses([] { KvCache({.d = 0}); }, "d");
  refuses([] { KvCache({.d_v = kMaxD + 1}); }, "d_v");
  refuses([] { KvCache({.batch = -1}); }, "batch");
  refuses([] { KvCache({.capacity = -1}); }, "capacity");

  KvCacheOptions o{.kv_heads = 1, .heads = 2, .d = 16, .d_v = 8};
  refuses([&] { KvCache(o, TestPlan({.heads = 3, .d = 16}, 0.5)); }, "heads");
  refuses([&] { KvCache(o, TestPlan(o, 0.5), 1); }, "layer");
  const std::shared_ptr<Plan> centred = TestPlan(o, 0.5);
  centred->centring = Centring::kOn;
  Pair moved(o, centred, 18);
  moved.Append(20);
  AskAndCheck(moved, {.causal = false});
  refuses([&] { AskAndCheck(moved, {}); }, "centring");

  Pair p(o, TestPlan(o, 0.5), 19);
  p.Append(30);
  const Packed<float> rows({1, 1, 2, 16}, 1);
  const Packed<float> query({1, 2, 1, 16}, 1);
  Packed<float> out({1, 2, 1, 8});
  const View<float, 4> to(out.values.data(), out.shape);
  refuses([&] { p.cache.Append(rows.view(), rows.view()); }, "value");
  refuses([&] { p.cache.Append(query.view(), query.view()); }, "key");
  Tensor strided(rows.view());
  strided.shape = {1, 1, 1, 16};
  strided.stride[3] = 2;
  refuses([&] { p.cache.Append(strided, strided); }, "stride");
  refuses([&] { p.cache.EvictFront(31); }, "count");
  refuses([&] { p.cache.EvictFront(-1); }, "count");
  refuses([&] { p.cache.Truncate(31); }, "length");
  const std::vector<std::int64_t> order{0, 1};
  refuses([&] { p.cache.Reorder(order); }, "rows");
  refuses([&] { p.cache.Attend(rows.view(), to); }, "query");
  refuses(
      [&] {
        p.cache.Attend(query.view(), View<float, 4>(out.values.data(), {1, 2, 1, 7}));
      },
      "out");
  refuses([&] { p.cache.Attend(query.view(), to, {.scale = 0}); }, "scale");
  const View<float, 3> sums(out.values.data() + 15, {1, 2, 1});
  refuses([&] { p.cache.Attend(query.view(), to, {.log_sum_exp = sums}); }, "overlap with out");
  const View<float, 3> twice(sums.data + 1, {1, 2, 1}, {0, 0, 0});
  refuses([&] { p.cache.Attend(query.view(), to, {.log_sum_exp = twice}); }, "log_sum_exp");
  std::vector<std::uint8_t> mask(64 * sizeof(float), 1);
  const View<const std::uint8_t, 4> seen(mask.data(), {1, 2, 1, 30});
  const View<float, 4> onto_mask(reinterpret_cast<float*>(mask.data()), out.shape);
  refuses([&] { p.cache.Attend(query.view(), onto_mask, {.mask = seen}); }, "overlap with mask");
  const Packed<float> many({1, 2, 31, 16}, 1);
  Packed<float> many_out({1, 2, 31, 8});
  refuses(
      [&] { p.cache.Attend(many.view(), View<float, 4>(many_out.values.data(), many_out.shape)); },
      "causal");
  EXPECT_EQ(p.cache.size(), 30);
  EXPECT_EQ(p.cache.options().batch, 1);
  AskAndCheck(p, {});
}

}  // namespace
}  // namespace elsa::cpu
