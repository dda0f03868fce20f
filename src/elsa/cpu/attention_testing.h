// Random problems for the tests of attention: tensors of any type and layout, with what the
// reference computes from the same values.
#ifndef ELSA_CPU_ATTENTION_TESTING_H_
#define ELSA_CPU_ATTENTION_TESTING_H_

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "elsa/cpu/attention.h"
#include "elsa/cpu/testing.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"
#include "elsa/reference/testing.h"

namespace elsa::cpu {

// A tensor [b, h, n, c] with memory of its own: in torch's layout [b, n, h, c] if `by_token`, rows
// `gap` elements apart, one element behind an aligned address if `shifted`.
class StridedTensor {
 public:
  StridedTensor(const reference::Tensor<float>& from, DType dtype, bool by_token, std::int64_t gap,
                bool shifted)
      : dtype_(dtype), shape_(from.shape) {
    const auto [b, h, n, c] = shape_;
    const std::int64_t row = c + gap;
    stride_ = by_token ? std::array<std::int64_t, 4>{n * h * row, row, h * row, 1}
                       : std::array<std::int64_t, 4>{h * n * row, n * row, row, 1};
    bytes_.assign(static_cast<std::size_t>((b * h * n * row + 64) * SizeOf(dtype)),
                  std::byte{0xff});  // NaN: nothing between the rows may be used
    const auto address = reinterpret_cast<std::uintptr_t>(bytes_.data());
    offset_ = static_cast<std::int64_t>((64 - address % 64) % 64);
    if (shifted) offset_ += SizeOf(dtype);
    if (from.values.empty()) return;
    for (std::int64_t i = 0; i < b * h * n; ++i) {
      std::byte* to = mutable_tensor().Row(i / (h * n), i / n % h, i % n);
      for (std::int64_t e = 0; e < c; ++e) Write(to, e, from.values[i * c + e]);
    }
  }

  MutableTensor mutable_tensor() { return {bytes_.data() + offset_, dtype_, shape_, stride_}; }
  Tensor tensor() const { return {bytes_.data() + offset_, dtype_, shape_, stride_}; }
  // The values as they are stored, rounded to the type.
  reference::Tensor<float> values() const {
    reference::Tensor<float> all(shape_);
    std::size_t next = 0;
    for (std::int64_t i = 0; i < shape_[0] * shape_[1] * shape_[2]; ++i) {
      const std::int64_t per_batch = shape_[1] * shape_[2];
      const std::byte* row = tensor().Row(i / per_batch, i / shape_[2] % shape_[1], i % shape_[2]);
      for (std::int64_t e = 0; e < shape_[3]; ++e) all.values[next++] = ElementAt(row, dtype_, e);
    }
    return all;
  }

 private:
  void Write(std::byte* row, std::int64_t index, float value) const {
    const std::uint16_t bits = dtype_ == DType::kF16 ? ToF16(value) : ToBf16(value);
    if (dtype_ == DType::kF32) {
      std::memcpy(row + 4 * index, &value, 4);
    } else {
      std::memcpy(row + 2 * index, &bits, 2);
    }
  }

  DType dtype_;
  std::array<std::int64_t, 4> shape_;
  std::array<std::int64_t, 4> stride_{};
  std::vector<std::byte> bytes_;
  std::int64_t offset_ = 0;
};

// A problem, the tensors that hold it, and a plan.
struct RandomCase {
  reference::Problem problem;          // with the values of the tensors
  std::vector<StridedTensor> tensors;  // query, key, value, bias
  std::int64_t causal_offset = 0;
  bool shared_mask = false;  // mask and bias of query 0 hold for every query
  DType dtype = DType::kF32;
  Plan plan;
  std::uint64_t seed = 0;

  Inputs inputs() const {
    Inputs in;
    in.query = tensors[0].tensor();
    in.key = tensors[1].tensor();
    in.value = tensors[2].tensor();
    in.scale = problem.scale;
    in.causal = problem.causal;
    in.causal_offset = causal_offset;
    in.mask = problem.mask.view();
    if (tensors.size() > 3) in.bias = tensors[3].tensor();
    if (shared_mask) in.mask.stride[2] = in.bias.stride[2] = 0;
    in.query_lengths = problem.query_lengths;
    in.key_lengths = problem.key_lengths;
    return in;
  }
  // For the reference, which knows no offset: it becomes a mask.
  reference::Problem ForReference() const {
    reference::Problem p = problem;
    if (causal_offset == 0) return p;
    if (p.mask.values.empty()) p.mask = reference::Tensor<std::uint8_t>(p.pairs(), 1);
    p.causal = false;
    for (std::size_t i = 0; i < p.mask.values.size(); ++i) {
      const auto n_k = p.key.shape[2];
      const auto key = static_cast<std::int64_t>(i) % n_k;
      const auto query = static_cast<std::int64_t>(i) / n_k % p.query.shape[2];
      if (key > query + causal_offset) p.mask.values[i] = 0;
    }
    return p;
  }
  std::string Describe() const {
    std::ostringstream text;
    const auto& q = problem.query.shape;
    text << "seed " << seed << ": batch " << q[0] << " heads " << q[1] << "/"
         << problem.key.shape[1] << " n " << q[2] << "x" << problem.key.shape[2] << " d " << q[3]
         << "/" << problem.value.shape[3] << " " << Name(dtype) << (problem.causal ? " causal" : "")
         << (causal_offset > 0 ? " offset" : "") << (problem.mask.values.empty() ? "" : " mask")
         << (tensors.size() > 3 ? " bias" : "") << (shared_mask ? " shared" : "") << " "
         << Name(plan.rule) << " " << Name(plan.remainder) << " centring " << Name(plan.centring);
    return text.str();
  }
};

namespace random_case_internal {

template <std::size_t kCount>
std::int64_t Pick(Random& random, const std::int64_t (&values)[kCount]) {
  return values[random.Below(kCount)];
}

template <typename T>
void Share(reference::Tensor<T>& tensor) {
  for (std::int64_t b = 0; b < tensor.shape[0] * tensor.shape[1]; ++b) {
    for (std::int64_t i = 1; i < tensor.shape[2]; ++i) {
      T* rows = &tensor.values[b * tensor.shape[2] * tensor.shape[3]];
      std::copy_n(rows, tensor.shape[3], rows + i * tensor.shape[3]);
    }
  }
}

}  // namespace random_case_internal

// Any shape, any option. `most_keys` bounds the work where `lengths` leaves a length open.
inline RandomCase MakeRandomCase(std::uint64_t seed, std::int64_t most_keys,
                                 const Lengths& lengths = {}) {
  using random_case_internal::Pick;
  Random random(seed);
  const auto chance = [&](double p) { return random.Uniform() < p; };
  RandomCase c;
  c.seed = seed;
  reference::ProblemShape s;
  s.batch = chance(0.3) ? 2 : 1;
  s.kv_heads = 1 + static_cast<std::int64_t>(random.Below(2));
  s.heads = s.kv_heads * (chance(0.3) ? 3 : 1);
  const auto length = [&] {
    return std::min(most_keys, Pick(random, {1, 2, 7, 31, 63, 64, 65, 100, 129, 200, 1000}));
  };
  const std::int64_t keys = length();
  s.keys = lengths.keys > 0 ? lengths.keys : keys;
  s.queries = chance(0.7) ? keys : length();
  if (lengths.queries > 0) s.queries = lengths.queries;
  s.d = chance(0.6) ? Pick(random, {1, 32, 64, 64, 80, 96, 128, 256})
                    : 1 + static_cast<std::int64_t>(random.Below(chance(0.2) ? 256 : 100));
  s.d_v = chance(0.6) ? s.d : 1 + static_cast<std::int64_t>(random.Below(chance(0.2) ? 256 : 140));
  reference::Problem p = reference::RandomProblem(s, random.Next());

  if (chance(0.3)) p.causal = true;
  if (p.causal && chance(0.4)) c.causal_offset = static_cast<std::int64_t>(random.Below(70));
  for (std::int64_t b = 0; b < s.batch && chance(0.8); ++b) {
    p.key_lengths.push_back(static_cast<std::int64_t>(random.Below(s.keys + 1)));
    p.query_lengths.push_back(static_cast<std::int64_t>(random.Below(s.queries + 1)));
  }
  if (static_cast<std::int64_t>(p.key_lengths.size()) < s.batch || chance(0.6)) {
    p.key_lengths.clear();
    p.query_lengths.clear();
  }
  if (chance(0.25)) reference::AddRandomMask(p, Pick(random, {0, 30, 60, 95}) / 100.0, seed);
  if (chance(0.25)) {
    reference::AddRandomBias(p, 1, seed);
    for (std::size_t i = 0; i < p.bias.values.size(); i += 5) {
      p.bias.values[i] = chance(0.5) ? -std::numeric_limits<float>::infinity()
                                     : std::numeric_limits<float>::lowest();
    }
  }
  c.shared_mask = chance(0.4);
  if (c.shared_mask) random_case_internal::Share(p.mask);
  if (c.shared_mask) random_case_internal::Share(p.bias);

  c.dtype = chance(0.6) ? DType::kF32 : chance(0.5) ? DType::kF16 : DType::kBf16;
  const auto hold = [&](reference::Tensor<float>& values, DType dtype) {
    c.tensors.emplace_back(values, dtype, chance(0.4), Pick(random, {0, 0, 3}), chance(0.3));
    values = c.tensors.back().values();
  };
  hold(p.query, c.dtype);
  hold(p.key, c.dtype);
  hold(p.value, c.dtype);
  if (!p.bias.values.empty()) hold(p.bias, chance(0.6) ? DType::kF32 : DType::kBf16);

  const HashKind kinds[] = {HashKind::kKronecker3, HashKind::kHadamard, HashKind::kDense};
  c.plan =
      reference::TestPlan(s.d, Pick(random, {32, 64, 128}), s.heads, 0, kinds[random.Below(3)]);
  c.plan.rule = chance(0.3) ? Rule::kGap : Rule::kPaper;
  for (double& t : c.plan.thresholds[0]) {
    t = c.plan.rule == Rule::kGap ? 3 * random.Uniform() : 1.1 * random.Uniform() - 0.3;
  }
  c.plan.remainder = chance(0.6) ? Remainder::kMean : Remainder::kNone;
  c.plan.bias_in_test = chance(0.3);
  if (!p.causal && chance(0.2)) c.plan.centring = Centring::kOn;
  if (chance(0.2)) c.plan.dense_below = static_cast<std::int64_t>(random.Below(100));
  c.problem = std::move(p);
  return c;
}

// What a call gave.
struct CpuResult {
  reference::Tensor<double> out;
  reference::Tensor<float> log_sum_exp;  // [batch, heads, n_q, 1]
  Report report;
};

inline CpuResult RunCpu(const RandomCase& c, const Plan* plan, AttendOptions options,
                        DType out_dtype = DType::kF32) {
  const auto& q = c.problem.query.shape;
  const std::array<std::int64_t, 4> shape{q[0], q[1], q[2], c.problem.value.shape[3]};
  CpuResult result{
      reference::Tensor<double>(shape), reference::Tensor<float>({q[0], q[1], q[2], 1}, 7.5f), {}};
  StridedTensor out(reference::Tensor<float>(shape, 7.5f), out_dtype, c.seed % 2 == 0, 1, false);
  options.log_sum_exp = View<float, 3>(result.log_sum_exp.values.data(), {q[0], q[1], q[2]});
  result.report = Attend(c.inputs(), plan, 0, out.mutable_tensor(), options);
  const reference::Tensor<float> values = out.values();
  result.out.values.assign(values.values.begin(), values.values.end());
  return result;
}

// The largest norm of rows.
inline double LargestNorm(const reference::Tensor<float>& rows) {
  double largest = 0;
  const std::int64_t c = rows.shape[3];
  for (std::size_t first = 0; first < rows.values.size(); first += static_cast<std::size_t>(c)) {
    double square = 0;
    for (std::int64_t e = 0; e < c; ++e) square += std::pow(rows.values[first + e], 2);
    largest = std::max(largest, square);
  }
  return std::sqrt(largest);
}

inline double LargestValue(const reference::Tensor<float>& rows) {
  double largest = 0;
  for (float value : rows.values) largest = std::max(largest, std::abs(static_cast<double>(value)));
  return largest;
}

// ---- comparisons ----

// How far an output may lie from the reference. A score of length d in binary32 is off by at most
// (d + 4) half units of scale * |q| * |k|, plus a bias; weights by that, twice (numerator and
// denominator), and by the exponential's 4e-7; sums of n terms by n half units of the largest
// value.
inline double Float32Bound(const reference::Problem& p) {
  constexpr double kHalfUnit = 0x1p-24;
  const double size = p.scale * LargestNorm(p.query) * LargestNorm(p.key);
  double bias = 0;
  for (float b : p.bias.values) bias = b > -1e30f ? std::max(bias, std::abs(double{b})) : bias;
  const double score = kHalfUnit * (static_cast<double>(p.query.shape[3]) + 4) * (size + bias);
  const double sums = kHalfUnit * static_cast<double>(2 * p.key.shape[2] + 8);
  return LargestValue(p.value) * (2 * score + 4e-7 + sums) + 1e-30;
}

// The same of an output that is stored in 16 bits.
inline double StorageError(DType dtype, double value) {
  if (dtype == DType::kF32) return 0;
  return dtype == DType::kF16 ? std::abs(value) * 0x1p-11 + 0x1p-25 : std::abs(value) * 0x1p-8;
}

inline void ExpectEqualCounts(const std::vector<HeadReport>& got,
                              const std::vector<reference::HeadStats>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t h = 0; h < got.size(); ++h) {
    EXPECT_EQ(got[h].stats.queries, expected[h].queries);
    EXPECT_EQ(got[h].stats.empty_queries, expected[h].empty_queries);
    EXPECT_EQ(got[h].stats.exact_queries, expected[h].exact_queries);
    EXPECT_EQ(got[h].stats.fallback_queries, expected[h].fallback_queries);
    EXPECT_EQ(got[h].stats.pairs, expected[h].pairs);
    EXPECT_EQ(got[h].stats.kept, expected[h].kept);
  }
}

inline void ExpectClose(const reference::Tensor<double>& got,
                        const reference::Tensor<double>& expected, double bound, DType stored) {
  for (std::size_t i = 0; i < got.values.size(); ++i) {
    const double allowed = bound + StorageError(stored, std::abs(expected.values[i]) + bound);
    ASSERT_NEAR(got.values[i], expected.values[i], allowed) << "element " << i;
  }
}

}  // namespace elsa::cpu

#endif  // ELSA_CPU_ATTENTION_TESTING_H_
