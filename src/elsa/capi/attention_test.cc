// elsa_attend against the brute-force oracles of the reference's tests.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "elsa/capi/testing.h"
#include "elsa/cpu/target.h"
#include "elsa/cpu/tensor.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {
namespace {

using reference::AddRandomBias;
using reference::AddRandomMask;
using reference::BruteExact;
using reference::Problem;
using reference::RandomProblem;
using reference::TestPlan;

Out Attend(const Problem& p, const elsa_attend_options* options = nullptr) {
  Out out(p);
  const elsa_inputs inputs = InputsOf(p);
  const elsa_mutable_tensor to = out.tensor();
  EXPECT_EQ(elsa_attend(&inputs, nullptr, 0, &to, options, nullptr), ELSA_OK) << elsa_last_error();
  return out;
}

TEST(CAttend, IsExactWithoutAPlanOnEveryShapeOfInput) {
  Problem plain =
      RandomProblem({.batch = 2, .heads = 4, .kv_heads = 2, .queries = 9, .keys = 33}, 1);
  Problem causal = plain;
  causal.causal = true;
  Problem padded = plain;
  padded.query_lengths = {9, 4};
  padded.key_lengths = {33, 0};
  Problem masked = plain;
  AddRandomMask(masked, 0.4, 2);
  Problem biased = plain;
  AddRandomBias(biased, 2, 3);
  for (const Problem* p : {&plain, &causal, &padded, &masked, &biased}) {
    EXPECT_LT(MaxDifference(Attend(*p).values, BruteExact(*p)), kFloat32Error);
  }
}

TEST(CAttend, ReadsStridesAndBroadcastsByStridesOfZero) {
  Problem p = RandomProblem({.batch = 2, .heads = 2, .kv_heads = 2, .queries = 5, .keys = 7}, 4);
  // One mask row [1, 1, 1, n_k] for all.
  const std::uint8_t visible[] = {1, 0, 1, 1, 0, 1, 1};
  p.mask = reference::Tensor<std::uint8_t>(p.pairs());
  for (std::size_t i = 0; i < p.mask.values.size(); ++i) p.mask.values[i] = visible[i % 7];
  const auto expected = BruteExact(p);

  elsa_inputs inputs = InputsOf(p);
  inputs.mask = elsa_tensor_packed(visible, ELSA_BOOL, 2, 2, 5, 7);
  for (int i = 0; i < 3; ++i) inputs.mask.stride[i] = 0;
  // Queries as [batch, n_q, heads, d], as models lay them out.
  reference::Tensor<float> query({2, 5, 2, 8});
  for (int b = 0; b < 2; ++b) {
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 5; ++i) {
        for (int c = 0; c < 8; ++c) query(b, i, h, c) = p.query(b, h, i, c);
      }
    }
  }
  inputs.query.data = query.values.data();
  inputs.query.stride[1] = 8;
  inputs.query.stride[2] = 16;
  Out out(p);
  const elsa_mutable_tensor to = out.tensor();
  ASSERT_EQ(elsa_attend(&inputs, nullptr, 0, &to, nullptr, nullptr), ELSA_OK) << elsa_last_error();
  EXPECT_LT(MaxDifference(out.values, expected), kFloat32Error);
}

TEST(CAttend, AScaleOfZeroIsOneOverTheRootOfD) {
  Problem p = RandomProblem({}, 5);
  p.scale = 0;
  const Out out = Attend(p);
  p.scale = 1 / std::sqrt(8.0);
  EXPECT_EQ(out.values.values, Attend(p).values.values);
}

TEST(CAttend, RunsEveryTargetThatItIsTold) {
  const Problem p =
      RandomProblem({.batch = 1, .heads = 2, .kv_heads = 1, .queries = 5, .keys = 65}, 6);
  const auto expected = BruteExact(p);
  const elsa_inputs inputs = InputsOf(p);
  int ran = 0;
  for (std::int32_t i = 0; i < elsa_target_count(); ++i) {
    elsa_attend_options options = elsa_attend_options_init();
    options.target = elsa_target_name(i);
    Out out(p);
    const elsa_mutable_tensor to = out.tensor();
    elsa_report* raw = nullptr;
    const elsa_status status = elsa_attend(&inputs, nullptr, 0, &to, &options, &raw);
    const ReportHandle report(raw);
    if (elsa_target_runs(i) == 0) {
      ExpectFailure(status, ELSA_UNSUPPORTED, {"target", options.target});
      EXPECT_EQ(raw, nullptr);
      continue;
    }
    ++ran;
    ASSERT_EQ(status, ELSA_OK) << elsa_last_error();
    EXPECT_STREQ(elsa_report_target(raw), options.target);
    EXPECT_LT(MaxDifference(out.values, expected), kFloat32Error) << options.target;
  }
  EXPECT_GE(ran, 1);
}

TEST(CAttend, SelectsTheKeysOfThePlanAndCountsThem) {
  const Problem p =
      RandomProblem({.batch = 2, .heads = 2, .kv_heads = 2, .queries = 20, .keys = 60}, 7);
  Plan plan = TestPlan(8, 64, 2, 0.5);
  plan.thresholds[0][1] = kExactHead;
  const auto expected = reference::RunAttend(p, &plan);
  const PlanHandle handle = HandleOf(plan);
  elsa_attend_options options = elsa_attend_options_init();
  options.select = ELSA_SELECT_ALWAYS;
  const elsa_inputs inputs = InputsOf(p);
  Out out(p);
  const elsa_mutable_tensor to = out.tensor();
  elsa_report* raw = nullptr;
  ASSERT_EQ(elsa_attend(&inputs, handle.get(), 0, &to, &options, &raw), ELSA_OK)
      << elsa_last_error();
  const ReportHandle report(raw);
  EXPECT_LT(MaxDifference(out.values, expected.out), kFloat32Error);
  ASSERT_EQ(elsa_report_heads(raw), 2);
  EXPECT_EQ(elsa_report_precision(raw), ELSA_PRECISION_FLOAT32);
  for (int h = 0; h < 2; ++h) {
    elsa_head_report head = elsa_head_report_init();
    ASSERT_EQ(elsa_report_head(raw, h, &head), ELSA_OK) << elsa_last_error();
    const auto& stats = expected.stats[h];
    EXPECT_EQ(head.queries, stats.queries);
    EXPECT_EQ(head.pairs, stats.pairs);
    EXPECT_EQ(head.kept, stats.kept);
    EXPECT_EQ(head.exact_queries, stats.exact_queries);
    EXPECT_EQ(head.fallback_queries, stats.fallback_queries);
    EXPECT_EQ(head.empty_queries, stats.empty_queries);
    EXPECT_EQ(head.heads_by_path[h == 0 ? ELSA_PATH_SELECTED : ELSA_PATH_EXACT], 2);
  }
  EXPECT_STREQ(elsa_path_name(ELSA_PATH_SELECTED), "selected");
}

TEST(CAttend, TakesHalfPrecisionAndGivesTheLogOfTheSum) {
  const Problem p =
      RandomProblem({.batch = 1, .heads = 2, .kv_heads = 2, .queries = 6, .keys = 19}, 8);
  const auto expected = BruteExact(p);
  std::vector<float> log_sum_exp(2 * 6, 7.5F);
  elsa_attend_options options = elsa_attend_options_init();
  options.log_sum_exp = elsa_mutable_tensor_packed(log_sum_exp.data(), ELSA_FLOAT32, 1, 2, 6, 1);
  const Out wide = Attend(p, &options);
  if (log_sum_exp[0] != 7.5F) {  // the interim engine leaves it alone
    for (int h = 0; h < 2; ++h) {
      for (int i = 0; i < 6; ++i) {
        double sum = 0;
        for (int j = 0; j < 19; ++j) sum += std::exp(reference::BruteScore(p, 0, h, i, j));
        EXPECT_NEAR(log_sum_exp[6 * h + i], std::log(sum), 1e-5);
      }
    }
  }
  for (const elsa_dtype dtype : {ELSA_FLOAT16, ELSA_BFLOAT16}) {
    const auto narrow = [&](const reference::Tensor<float>& t) {
      std::vector<std::uint16_t> bits;
      for (const float x : t.values) {
        bits.push_back(dtype == ELSA_FLOAT16 ? cpu::ToF16(x) : cpu::ToBf16(x));
      }
      return bits;
    };
    const auto q = narrow(p.query);
    const auto k = narrow(p.key);
    const auto v = narrow(p.value);
    elsa_inputs inputs = InputsOf(p);
    inputs.query.data = q.data();
    inputs.key.data = k.data();
    inputs.value.data = v.data();
    inputs.query.dtype = inputs.key.dtype = inputs.value.dtype = dtype;
    Out out(p);
    const elsa_mutable_tensor to = out.tensor();
    elsa_report* raw = nullptr;
    ASSERT_EQ(elsa_attend(&inputs, nullptr, 0, &to, nullptr, &raw), ELSA_OK) << elsa_last_error();
    const ReportHandle report(raw);
    EXPECT_EQ(elsa_report_precision(raw), ELSA_PRECISION_16BIT);
    // Inputs rounded to 8 bits move scores of up to 10 by up to 10/256, and weights by as much.
    EXPECT_LT(MaxDifference(out.values, expected), 0.3);
  }
}

// One good call, for the failures below to change.
struct Call {
  Problem p = RandomProblem({.batch = 1, .heads = 2, .kv_heads = 1, .queries = 3, .keys = 5}, 9);
  Out values{p};
  elsa_inputs inputs = InputsOf(p);
  elsa_mutable_tensor out = values.tensor();
  elsa_attend_options options = elsa_attend_options_init();
  elsa_status Run(const elsa_plan* plan = nullptr, std::int64_t layer = 0) {
    return elsa_attend(&inputs, plan, layer, &out, &options, nullptr);
  }
};

TEST(CAttendErrors, NullPointers) {
  Call call;
  ASSERT_EQ(call.Run(), ELSA_OK) << elsa_last_error();
  elsa_report* report = nullptr;
  ExpectFailure(elsa_attend(nullptr, nullptr, 0, &call.out, nullptr, &report),
                ELSA_INVALID_ARGUMENT, {"inputs", "null pointer"});
  EXPECT_EQ(report, nullptr);
  ExpectFailure(elsa_attend(&call.inputs, nullptr, 0, nullptr, nullptr, nullptr),
                ELSA_INVALID_ARGUMENT, {"out", "null pointer"});
  call.inputs.key.data = nullptr;
  ExpectFailure(call.Run(), ELSA_INVALID_ARGUMENT, {"key", "null pointer"});
}

TEST(CAttendErrors, TensorsThatDoNotFit) {
  const auto fails = [](auto change, std::initializer_list<std::string_view> words) {
    Call call;
    change(call);
    ExpectFailure(call.Run(), ELSA_INVALID_ARGUMENT, words);
  };
  fails([](Call& c) { c.inputs.query.dtype = 0; }, {"query: dtype", "got 0"});
  fails([](Call& c) { c.inputs.query.dtype = ELSA_BOOL; }, {"query: dtype", "got 4"});
  fails([](Call& c) { c.inputs.key.dtype = ELSA_FLOAT16; }, {"key", "float32", "float16"});
  fails([](Call& c) { c.inputs.key.shape[3] = 7; }, {"key", "7"});
  fails([](Call& c) { c.inputs.key.shape[1] = 3; }, {"expected shape", "[1, 3, 5, 8]"});
  fails([](Call& c) { c.inputs.query.shape[3] = 0; }, {"query", "got 0"});
  fails([](Call& c) { c.inputs.query.shape[3] = 257; }, {"query", "1 to 256", "got 257"});
  fails([](Call& c) { c.inputs.query.shape[2] = -1; }, {"query", "negative", "-1"});
  fails([](Call& c) { c.inputs.query.shape[0] = -1; }, {"query", "negative", "-1"});
  fails([](Call& c) { c.inputs.value.stride[3] = 2; }, {"value", "stride of 1", "got 2"});
  fails([](Call& c) { c.inputs.query.data = static_cast<const char*>(c.inputs.query.data) + 1; },
        {"query", "multiple of 4", "misaligned"});
  fails([](Call& c) { c.out.shape[2] = 4; }, {"out", "4"});
  fails([](Call& c) { c.out.dtype = ELSA_BFLOAT16; }, {"out", "float32", "bfloat16"});
  fails([](Call& c) { c.out.stride[2] = 0; }, {"out", "overlap"});
  fails([](Call& c) { c.out.data = c.p.query.values.data(); }, {"out", "overlap with query"});
  fails([](Call& c) { c.inputs.scale = std::numeric_limits<double>::quiet_NaN(); }, {"scale"});
  fails([](Call& c) { c.inputs.causal_offset = 1; }, {"causal_offset", "got 1"});
  fails(
      [](Call& c) {
        c.inputs.causal = 1;
        c.inputs.causal_offset = INT64_MAX;
      },
      {"causal_offset"});
  fails([](Call& c) { c.inputs.query.shape[2] = INT64_MAX; }, {"query", "larger"});
  fails([](Call& c) { c.inputs.key.shape[0] = std::int64_t{1} << 62; }, {"key", "larger"});
  fails([](Call& c) { c.inputs.value.stride[2] = INT64_MIN; }, {"value", "larger"});
  fails([](Call& c) { c.out.stride[1] = INT64_MAX / 2; }, {"out", "larger"});
  const std::int64_t beyond[] = {6};
  fails([&](Call& c) { c.inputs.key_lengths = beyond; }, {"length", "6"});
  const std::int64_t negative[] = {-1};
  fails([&](Call& c) { c.inputs.query_lengths = negative; }, {"length", "-1"});
  const std::uint8_t mask[30] = {};
  fails([&](Call& c) { c.inputs.mask = elsa_tensor_packed(mask, ELSA_BOOL, 1, 2, 3, 4); },
        {"mask", "4"});
  fails([&](Call& c) { c.inputs.mask = elsa_tensor_packed(mask, ELSA_FLOAT32, 1, 2, 3, 5); },
        {"mask: dtype", "ELSA_BOOL"});
  const float bias[30] = {};
  fails([&](Call& c) { c.inputs.bias = elsa_tensor_packed(bias, ELSA_BOOL, 1, 2, 3, 5); },
        {"bias: dtype", "got 4"});
  fails([&](Call& c) { c.inputs.bias = elsa_tensor_packed(bias, ELSA_FLOAT32, 1, 1, 3, 5); },
        {"bias"});
}

TEST(CAttendErrors, OutputsThatOverlap) {
  const auto fails = [](auto change, std::initializer_list<std::string_view> words) {
    Call call;
    change(call);
    ExpectFailure(call.Run(), ELSA_INVALID_ARGUMENT, words);
  };
  const auto sums = [](const void* at) {
    return elsa_mutable_tensor_packed(const_cast<void*>(at), ELSA_FLOAT32, 1, 2, 3, 1);
  };
  fails([](Call& c) { c.inputs.mask = elsa_tensor_packed(c.out.data, ELSA_BOOL, 1, 2, 3, 5); },
        {"out", "overlap with mask"});
  fails([](Call& c) { c.inputs.bias = elsa_tensor_packed(c.out.data, ELSA_FLOAT32, 1, 2, 3, 5); },
        {"out", "overlap with bias"});
  std::vector<std::int64_t> lengths(24, 1);
  fails(
      [&](Call& c) {
        c.inputs.key_lengths = lengths.data();
        c.out.data = lengths.data();
      },
      {"out", "overlap with key_lengths"});
  fails([&](Call& c) { c.options.log_sum_exp = sums(c.out.data); },
        {"log_sum_exp", "overlap with out"});
  fails([&](Call& c) { c.options.log_sum_exp = sums(c.inputs.value.data); },
        {"log_sum_exp", "overlap with value"});
  fails(
      [&](Call& c) {
        c.inputs.query_lengths = lengths.data();
        c.options.log_sum_exp = sums(lengths.data());
      },
      {"log_sum_exp", "overlap with query_lengths"});
  float value[6];
  fails(
      [&](Call& c) {
        c.options.log_sum_exp = sums(value);
        c.options.log_sum_exp.stride[1] = 2;
      },
      {"log_sum_exp", "elements that do not overlap"});
}

TEST(CAttendErrors, OptionsThatMakeNoSense) {
  const auto fails = [](auto change, std::initializer_list<std::string_view> words) {
    Call call;
    change(call);
    ExpectFailure(call.Run(), ELSA_INVALID_ARGUMENT, words);
  };
  fails([](Call& c) { c.options.precision = 9; }, {"precision", "got 9"});
  fails([](Call& c) { c.options.select = -1; }, {"select", "got -1"});
  fails([](Call& c) { c.options.threads = -1; }, {"threads", "0 to 4096", "got -1"});
  fails([](Call& c) { c.options.threads = 5000; }, {"threads", "0 to 4096", "got 5000"});
  fails([](Call& c) { c.options.target = "avx1024"; }, {"target", "portable", "got avx1024"});
  float value[6];
  fails(
      [&](Call& c) {
        c.options.log_sum_exp = elsa_mutable_tensor_packed(value, ELSA_FLOAT16, 1, 2, 3, 1);
      },
      {"log_sum_exp: dtype"});
  fails(
      [&](Call& c) {
        c.options.log_sum_exp = elsa_mutable_tensor_packed(value, ELSA_FLOAT32, 1, 2, 1, 3);
      },
      {"log_sum_exp: last extent", "got 3"});
  fails(
      [&](Call& c) {
        c.options.log_sum_exp = elsa_mutable_tensor_packed(value, ELSA_FLOAT32, 1, 3, 2, 1);
      },
      {"log_sum_exp"});
  fails(
      [&](Call& c) {
        c.options.log_sum_exp = elsa_mutable_tensor_packed(reinterpret_cast<char*>(value) + 1,
                                                           ELSA_FLOAT32, 1, 2, 3, 1);
      },
      {"log_sum_exp", "misaligned"});
}

TEST(CAttendErrors, APlanForAnotherModel) {
  Call call;
  ExpectFailure(call.Run(HandleOf(TestPlan(8, 64, 3, 0.5)).get()), ELSA_MISMATCH, {"2", "3"});
  ExpectFailure(call.Run(HandleOf(TestPlan(4, 64, 2, 0.5)).get()), ELSA_MISMATCH, {"d", "8", "4"});
  ExpectFailure(call.Run(HandleOf(TestPlan(8, 64, 2, 0.5)).get(), 1), ELSA_MISMATCH, {"layer"});
  ExpectFailure(call.Run(HandleOf(TestPlan(8, 64, 2, 0.5)).get(), -1), ELSA_MISMATCH, {"layer"});
  call.inputs.scale = -1;
  ExpectFailure(call.Run(HandleOf(TestPlan(8, 64, 2, 0.5)).get()), ELSA_UNSUPPORTED, {"scale"});
}

TEST(CAttendErrors, ReportsOfNothing) {
  EXPECT_EQ(elsa_report_target(nullptr), nullptr);
  EXPECT_EQ(elsa_report_heads(nullptr), -1);
  EXPECT_EQ(elsa_report_precision(nullptr), -1);
  elsa_head_report head = elsa_head_report_init();
  ExpectFailure(elsa_report_head(nullptr, 0, &head), ELSA_INVALID_ARGUMENT, {"report"});
  elsa_report_free(nullptr);
  EXPECT_EQ(elsa_path_name(-1), nullptr);
  EXPECT_EQ(elsa_path_name(ELSA_PATHS), nullptr);

  Call call;
  elsa_report* raw = nullptr;
  ASSERT_EQ(elsa_attend(&call.inputs, nullptr, 0, &call.out, nullptr, &raw), ELSA_OK);
  const ReportHandle report(raw);
  ExpectFailure(elsa_report_head(raw, 2, &head), ELSA_INVALID_ARGUMENT, {"head", "0 to 1", "2"});
  ExpectFailure(elsa_report_head(raw, -1, &head), ELSA_INVALID_ARGUMENT, {"head", "-1"});
  ExpectFailure(elsa_report_head(raw, 0, nullptr), ELSA_INVALID_ARGUMENT, {"counts"});
  head.struct_size = 0;
  ExpectFailure(elsa_report_head(raw, 0, &head), ELSA_INVALID_ARGUMENT, {"struct_size", "got 0"});
}

}  // namespace
}  // namespace elsa::capi
