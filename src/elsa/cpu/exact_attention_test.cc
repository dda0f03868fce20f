#include "elsa/cpu/exact_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/cpu/attention.h"
#include "elsa/cpu/testing.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/testing.h"

namespace elsa::cpu {
namespace {

using reference::Problem;

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

float Rounded(float x, DType dtype) {
  if (dtype == DType::kF16) return FromF16(ToF16(x));
  if (dtype == DType::kBf16) return FromBf16(ToBf16(x));
  return x;
}

void Put(std::byte* row, DType dtype, std::int64_t index, float x) {
  const std::uint16_t half = dtype == DType::kF16 ? ToF16(x) : ToBf16(x);
  if (dtype == DType::kF32) {
    std::memcpy(row + 4 * index, &x, 4);
  } else {
    std::memcpy(row + 2 * index, &half, 2);
  }
}

// A tensor with memory of its own: [b][h][n] or [b][n][h] rows with a gap of NaN after each.
struct Handed {
  std::vector<std::byte> bytes;
  MutableTensor tensor;

  Handed(const std::array<std::int64_t, 4>& shape, DType dtype, bool transposed, std::int64_t gap) {
    const std::int64_t row = shape[3] + gap;
    std::array<std::int64_t, 4> stride{shape[1] * shape[2] * row, shape[2] * row, row, 1};
    if (transposed) stride = {shape[1] * shape[2] * row, row, shape[1] * row, 1};
    const std::int64_t count = shape[0] * shape[1] * shape[2] * row;
    bytes.resize((count + 1) * SizeOf(dtype));
    std::byte* data = bytes.data() + (gap % 2) * SizeOf(dtype);
    for (std::int64_t i = 0; i < count; ++i) Put(data, dtype, i, kNaN);
    tensor = MutableTensor(data, dtype, shape, stride);
  }
  Handed(const reference::Tensor<float>& from, DType dtype, bool transposed, std::int64_t gap)
      : Handed(from.shape, dtype, transposed, gap) {
    for (std::int64_t b = 0; b < from.shape[0]; ++b) {
      for (std::int64_t h = 0; h < from.shape[1]; ++h) {
        for (std::int64_t i = 0; i < from.shape[2]; ++i) {
          for (std::int64_t c = 0; c < from.shape[3]; ++c) {
            Put(tensor.Row(b, h, i), dtype, c, from(b, h, i, c));
          }
        }
      }
    }
  }
  Tensor view() const { return {tensor.data, tensor.dtype, tensor.shape, tensor.stride}; }
  float At(std::int64_t b, std::int64_t h, std::int64_t i, std::int64_t c) const {
    return ElementAt(tensor.Row(b, h, i), tensor.dtype, c);
  }
};

struct Handover {
  DType dtype = DType::kF32;
  DType out_dtype = DType::kF32;
  DType bias_dtype = DType::kF32;
  Precision precision = Precision::kAuto;
  bool transposed = false;
  std::int64_t gap = 0;
  std::int64_t causal_offset = 0;
  bool mask_for_all_heads = false;    // [batch, 1, n_q, n_k], stride 0
  bool mask_for_all_queries = false;  // stride 0 over queries
};

void RoundTo(reference::Tensor<float>& t, DType dtype) {
  for (float& x : t.values) x = Rounded(x, dtype);
}

// Makes what the setup hands over what the problem says.
void Apply(const Handover& s, Problem& p) {
  for (auto* t : {&p.query, &p.key, &p.value}) RoundTo(*t, s.dtype);
  RoundTo(p.bias, s.bias_dtype);
  const auto share = [&](auto& t) {
    if (t.values.empty()) return;
    for (std::int64_t b = 0; b < t.shape[0]; ++b) {
      for (std::int64_t h = 0; h < t.shape[1]; ++h) {
        for (std::int64_t i = 0; i < t.shape[2]; ++i) {
          for (std::int64_t j = 0; j < t.shape[3]; ++j) {
            t(b, h, i, j) = t(b, s.mask_for_all_heads ? 0 : h, s.mask_for_all_queries ? 0 : i, j);
          }
        }
      }
    }
  };
  share(p.mask);
  share(p.bias);
}

struct Result {
  Handed out;
  reference::Tensor<float> log_sum_exp;
};

Result Attended(const Problem& p, const Handover& s, Target target, Executor* executor = nullptr) {
  Handed q(p.query, s.dtype, s.transposed, s.gap);
  Handed k(p.key, s.dtype, s.transposed, s.gap + 1);
  Handed v(p.value, s.dtype, s.transposed, s.gap);
  // What lies beyond the lengths is NaN or infinite.
  for (std::int64_t b = 0; b < static_cast<std::int64_t>(p.key_lengths.size()); ++b) {
    for (std::int64_t h = 0; h < p.key.shape[1]; ++h) {
      for (std::int64_t j = p.key_lengths[b]; j < p.key.shape[2]; ++j) {
        for (std::int64_t c = 0; c < p.key.shape[3]; ++c)
          Put(k.tensor.Row(b, h, j), s.dtype, c, kNaN);
        for (std::int64_t c = 0; c < p.value.shape[3]; ++c)
          Put(v.tensor.Row(b, h, j), s.dtype, c, kInf);
      }
    }
  }
  Handed bias(p.bias, s.bias_dtype, false, s.gap);
  Inputs in;
  in.query = q.view();
  in.key = k.view();
  in.value = v.view();
  in.scale = p.scale;
  in.causal = p.causal;
  in.causal_offset = s.causal_offset;
  in.query_lengths = p.query_lengths;
  in.key_lengths = p.key_lengths;
  in.mask = p.mask.view();
  if (!p.bias.values.empty()) in.bias = bias.view();
  if (s.mask_for_all_heads) in.mask.stride[1] = in.bias.stride[1] = 0;
  if (s.mask_for_all_queries) in.mask.stride[2] = in.bias.stride[2] = 0;
  Result r{Handed({p.query.shape[0], p.query.shape[1], p.query.shape[2], p.value.shape[3]},
                  s.out_dtype, s.transposed, s.gap),
           reference::Tensor<float>({p.query.shape[0], p.query.shape[1], p.query.shape[2], 1})};
  AttendOptions options;
  options.executor = executor;
  options.target = target;
  options.precision = s.precision;
  if (!r.log_sum_exp.values.empty()) {
    options.log_sum_exp = View<float, 3>(r.log_sum_exp.values.data(),
                                         {p.query.shape[0], p.query.shape[1], p.query.shape[2]});
  }
  Attend(in, nullptr, 0, r.out.tensor, options);
  return r;
}

// What one row should be, and how far rounding may take it.
struct Expected {
  std::vector<double> out;
  std::vector<double> bound;
  double log_sum_exp = -HUGE_VAL;
  double log_sum_exp_bound = 0;
};

// Unit roundoffs of what K, V and weights, and the output, are rounded to.
double Roundoff(DType dtype) {
  return dtype == DType::kF32 ? 0x1p-24 : dtype == DType::kF16 ? 0x1p-11 : 0x1p-8;
}

// The bound: a score is off by (d + 4) roundings of the sum of its products' sizes (their scaling
// and summation) and 4 of its own; a weight is off by the factor e^(twice that: its own and the
// largest's) and by the error of 2^x; the sums over n keys by n roundings. In 16 bits, queries and
// weights are rounded once more, keys and values of binary32 too.
Expected Oracle(const Problem& p, const Handover& s, std::int64_t b, std::int64_t h,
                std::int64_t i) {
  const std::int64_t d_v = p.value.shape[3];
  Expected e{std::vector<double>(d_v), std::vector<double>(d_v)};
  std::vector<std::int64_t> keys;
  Problem const& q = p;
  for (std::int64_t j = 0; j < p.key.shape[2]; ++j) {
    if (!p.query_lengths.empty() && i >= p.query_lengths[b]) continue;
    if (!p.key_lengths.empty() && j >= p.key_lengths[b]) continue;
    if (p.causal && j > i + s.causal_offset) continue;
    if (!p.mask.values.empty() && p.mask(b, h, i, j) == 0) continue;
    if (!p.bias.values.empty() && p.bias(b, h, i, j) <= -1e30f) continue;
    keys.push_back(j);
  }
  if (keys.empty()) return e;
  const double u = 0x1p-24;
  // bfloat16 where that is asked for; tensors of fp16 are not cut down to it.
  const bool bits16 = s.precision == Precision::kBits16 ||
                      (s.precision == Precision::kAuto && s.dtype != DType::kF32);
  const double u16 = bits16 && s.dtype != DType::kF16 ? 0x1p-8 : 0;
  std::vector<double> scores;
  double off = 0;
  for (const std::int64_t j : keys) {
    double size = 0;
    for (std::int64_t c = 0; c < q.query.shape[3]; ++c) {
      size += std::abs(p.scale * q.query(b, h, i, c) * q.key(b, q.kv_head(h), j, c));
    }
    scores.push_back(reference::BruteScore(p, b, h, i, j));
    const double bias = p.bias.values.empty() ? 0 : std::abs(p.bias(b, h, i, j));
    const double d = static_cast<double>(q.query.shape[3]);
    off = std::max(off, size * ((d + 4) * u + u16) + 4 * u * (std::abs(scores.back()) + bias));
  }
  const double peak = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (const double x : scores) sum += std::exp(x - peak);
  const double n = static_cast<double>(keys.size());
  // 2^x: 2.5e-7 and its rounding; for each 256 keys one more correction of older sums.
  const double relative = std::expm1(2 * off) + 4e-7 * (2 + n / 256) + (2 * n + 4) * u + 2 * u16;
  for (std::size_t a = 0; a < keys.size(); ++a) {
    const double weight = std::exp(scores[a] - peak) / sum;
    for (std::int64_t c = 0; c < d_v; ++c) {
      const double value = p.value(b, p.kv_head(h), keys[a], c);
      e.out[c] += weight * value;
      // What is below 2^-126 of the largest weight may be lost.
      e.bound[c] += (weight * relative + 0x1p-125) * std::abs(value);
    }
  }
  for (std::int64_t c = 0; c < d_v; ++c) {
    e.bound[c] += Roundoff(s.out_dtype) * (std::abs(e.out[c]) + e.bound[c]) +
                  (s.out_dtype == DType::kF16 ? 0x1p-24 : 0x1p-149);
  }
  e.log_sum_exp = std::log(sum) + peak;
  e.log_sum_exp_bound = relative + off + 4 * u * std::abs(e.log_sum_exp) + 0x1p-60;
  return e;
}

// The rows to look at: all; of many, some at every position of a tile of 24, and the last one.
std::vector<std::int64_t> SomeRows(std::int64_t queries) {
  std::vector<std::int64_t> rows;
  const std::int64_t step = queries > 300 ? 19 : 1;
  for (std::int64_t i = 0; i < queries; i += step) rows.push_back(i);
  if (queries > 0 && rows.back() != queries - 1) rows.push_back(queries - 1);
  return rows;
}

::testing::AssertionResult Close(const Problem& p, const Handover& s, const Result& r) {
  for (std::int64_t b = 0; b < p.query.shape[0]; ++b) {
    for (std::int64_t h = 0; h < p.query.shape[1]; ++h) {
      for (const std::int64_t i : SomeRows(p.query.shape[2])) {
        const Expected e = Oracle(p, s, b, h, i);
        const auto where = [&] {
          return " at batch " + std::to_string(b) + " head " + std::to_string(h) + " query " +
                 std::to_string(i);
        };
        for (std::int64_t c = 0; c < p.value.shape[3]; ++c) {
          const double got = r.out.At(b, h, i, c);
          if (std::abs(got - e.out[c]) <= e.bound[c]) continue;
          return ::testing::AssertionFailure() << got << " instead of " << e.out[c] << " +- "
                                               << e.bound[c] << where() << " column " << c;
        }
        const double lse = r.log_sum_exp(b, h, i, 0);
        if (lse == e.log_sum_exp || std::abs(lse - e.log_sum_exp) <= e.log_sum_exp_bound) continue;
        return ::testing::AssertionFailure()
               << "log_sum_exp " << lse << " instead of " << e.log_sum_exp << where();
      }
    }
  }
  return ::testing::AssertionSuccess();
}

struct Drawn {
  Problem problem;
  Handover setup;
  std::string text;
};

// A problem with a bit of everything, small enough for an oracle where `lengths` leaves it open.
Drawn Draw(std::uint64_t seed, const Lengths& lengths) {
  Random random(seed);
  const auto one_of = [&](auto... values) {
    const std::int64_t all[] = {static_cast<std::int64_t>(values)...};
    return all[random.Below(std::size(all))];
  };
  const auto chance = [&](double p) { return random.Uniform() < p; };
  reference::ProblemShape shape;
  shape.batch = one_of(1, 1, 2);
  shape.kv_heads = one_of(1, 1, 2);
  shape.heads = shape.kv_heads * one_of(1, 1, 2, 3);
  shape.queries = one_of(0, 1, 2, 3, 7, 12, 13, 25, 63, random.Below(60));
  shape.keys = one_of(0, 1, 2, 7, 8, 16, 17, 33, 63, 65, random.Below(90), 256 + random.Below(30));
  if (lengths.queries > 0) shape.queries = lengths.queries;
  if (lengths.keys > 0) shape.keys = lengths.keys;
  shape.d = one_of(1, 2, 3, 8, 13, 16, 32, 64, 80, 128, 256, 1 + random.Below(100),
                   1 + random.Below(256));
  shape.d_v = chance(0.5) ? shape.d
                          : one_of(1, 5, 8, 9, 16, 17, 24, 40, 64, 256, 1 + random.Below(70),
                                   1 + random.Below(256));
  Drawn drawn{reference::RandomProblem(shape, random.Next()), {}, {}};
  Problem& p = drawn.problem;
  Handover& s = drawn.setup;
  const DType dtypes[] = {DType::kF32, DType::kF32, DType::kF16, DType::kBf16};
  s.dtype = dtypes[random.Below(4)];
  s.out_dtype = chance(0.5) ? s.dtype : DType::kF32;
  s.bias_dtype = dtypes[random.Below(4)];
  const Precision precisions[] = {Precision::kAuto, Precision::kFloat32, Precision::kBits16};
  s.precision = precisions[random.Below(3)];
  s.transposed = chance(0.5);
  s.gap = one_of(0, 0, 1, 3);
  s.mask_for_all_heads = chance(0.3);
  s.mask_for_all_queries = chance(0.3);
  p.causal = chance(0.4);
  if (p.causal && chance(0.5)) s.causal_offset = random.Below(2 * shape.keys + 1);
  if (chance(0.3)) reference::AddRandomMask(p, one_of(0, 1, 5, 9) / 10.0, random.Next());
  if (chance(0.3)) reference::AddRandomBias(p, 2, random.Next());
  if (!p.bias.values.empty() && chance(0.5)) {
    const float hidden[] = {-kInf, -1e30f, std::numeric_limits<float>::lowest(), -3e38f};
    for (float& x : p.bias.values)
      x = chance(0.3) ? hidden[random.Below(s.bias_dtype == DType::kF16 ? 1 : 4)] : x;
  }
  for (std::int64_t b = 0; b < shape.batch && chance(0.5); ++b) {
    p.query_lengths.resize(shape.batch, shape.queries);
    p.key_lengths.resize(shape.batch, shape.keys);
    p.query_lengths[b] = random.Below(shape.queries + 1);
    p.key_lengths[b] = random.Below(shape.keys + 1);
  }
  if (chance(0.2)) p.scale *= one_of(-1, 0, 10);
  Apply(s, p);
  drawn.text = "Draw(" + std::to_string(seed) + "): batch " + std::to_string(shape.batch) +
               " heads " + std::to_string(shape.heads) + "/" + std::to_string(shape.kv_heads) +
               " n_q " + std::to_string(shape.queries) + " n_k " + std::to_string(shape.keys) +
               " d " + std::to_string(shape.d) + " d_v " + std::to_string(shape.d_v) + " " +
               std::string(Name(s.dtype));
  return drawn;
}

TEST(ExactAttention, IsWithinTheBoundOfTheOracleForRandomProblems) {
  MetLengths met;
  for (int round = 0; round < Rounds(2000, 100); ++round) {
    const Drawn drawn = Draw(1 + round, LengthsOf(round));
    met.Add(drawn.problem.query.shape[2], drawn.problem.key.shape[2]);
    for (Target target : RunningTargets()) {
      const Result r = Attended(drawn.problem, drawn.setup, target);
      ASSERT_TRUE(Close(drawn.problem, drawn.setup, r)) << drawn.text << " on " << Name(target);
    }
  }
  met.ExpectNamedOnes();
}

TEST(ExactAttention, TheBoundTellsAHiddenKeyAndAnotherScaleApart) {
  for (const std::int64_t n : kNamedLengths) {
    if (n == 1) continue;  // one key has the weight 1 at any scale
    const Problem p = reference::RandomProblem({1, 1, 1, n, n, 64, 64}, n);
    const Result r = Attended(p, {}, RunningTargets().back());
    ASSERT_TRUE(Close(p, {}, r)) << n;
    Problem scaled = p;
    scaled.scale *= 1.001;
    EXPECT_FALSE(Close(scaled, {}, r)) << n;
    Problem hidden = p;
    hidden.key_lengths = {n - 1};
    EXPECT_FALSE(Close(hidden, {}, r)) << n;
  }
}

TEST(ExactAttention, IsWithinTheBoundForLengthsAndComponentsOfAllSizes) {
  for (const std::int64_t n : {1, 7, 63, 65, 300, 1000}) {
    for (const std::int64_t d : {1, 32, 63, 64, 80, 96, 128, 256}) {
      if (n >= 300 && d != 64 && d != 256) continue;
      for (const bool causal : {false, true}) {
        Problem p = reference::RandomProblem({1, 1, 1, n == 1000 ? 30 : n, n, d, d}, n * 1000 + d);
        p.causal = causal;
        Handover s;
        s.causal_offset = causal && n == 1000 ? n - 30 : 0;
        for (Target target : RunningTargets()) {
          ASSERT_TRUE(Close(p, s, Attended(p, s, target)))
              << "n " << n << " d " << d << " causal " << causal << " on " << Name(target);
        }
      }
    }
  }
}

TEST(ExactAttention, IsWithinTheBoundForFewQueriesOverManyKeys) {
  for (const bool causal : {false, true}) {
    Problem p = reference::RandomProblem({2, 6, 2, 3, 9001, 16, 24}, 11);
    p.causal = causal;
    p.key_lengths = {9001, 4096};
    p.query_lengths = {2, 3};
    Handover s;
    s.causal_offset = causal ? 8500 : 0;
    for (const double visible : {1.0, 0.5, 0.0001}) {
      if (visible < 1) reference::AddRandomMask(p, visible, 12);
      for (Target target : RunningTargets()) {
        ASSERT_TRUE(Close(p, s, Attended(p, s, target))) << visible << " on " << Name(target);
      }
    }
  }
}

bool SameBits(const Result& a, const Result& b) {
  return a.out.bytes == b.out.bytes &&
         std::memcmp(a.log_sum_exp.values.data(), b.log_sum_exp.values.data(),
                     a.log_sum_exp.values.size() * sizeof(float)) == 0;
}

TEST(ExactAttention, GivesTheSameBitsForAnyNumberOfThreads) {
  ThreadPool one(1);
  ThreadPool two(2);
  ThreadPool five(5);
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const bool causal : {false, true}) {
      Problem p = reference::RandomProblem({2, 4, 2, 131, 547, 40, 24}, 3);
      p.causal = causal;
      if (!causal) p.key_lengths = {547, 290};
      if (causal) reference::AddRandomMask(p, 0.02, 4);
      Handover s;
      s.dtype = dtype;
      s.causal_offset = causal ? 100 : 0;
      Apply(s, p);
      Problem few = reference::RandomProblem({1, 2, 1, 2, 20000, 16, 16}, 4);
      Handover plain;
      for (Target target : RunningTargets()) {
        const Result alone = Attended(p, s, target, &one);
        const Result few_alone = Attended(few, plain, target, &one);
        for (ThreadPool* pool : {&two, &five}) {
          EXPECT_TRUE(SameBits(alone, Attended(p, s, target, pool))) << Name(target);
          EXPECT_TRUE(SameBits(few_alone, Attended(few, plain, target, pool))) << Name(target);
        }
      }
    }
  }
}

TEST(ExactAttention, GivesTheSameBitsWhicheverHeadsAreListedTogether) {
  const Problem p = reference::RandomProblem({1, 6, 2, 77, 300, 32, 32}, 5);
  const Inputs in = InputsOf(p.inputs());
  const auto attend = [&](Target target, const std::vector<std::vector<HeadItem>>& lists) {
    std::vector<float> out(6 * 77 * 32, 1.5f);
    const Output output{View<float, 4>(out.data(), {1, 6, 77, 32}), {}};
    for (const std::vector<HeadItem>& list : lists) {
      ExactAttention({in, output, KernelsOf(target), SharedExecutor(2), false}, list);
    }
    return out;
  };
  for (Target target : RunningTargets()) {
    const auto together = attend(target, {{{0, 0}, {0, 1}, {0, 2}, {0, 3}, {0, 4}, {0, 5}}});
    EXPECT_EQ(together, attend(target, {{{0, 5}, {0, 1}}, {{0, 3}}, {{0, 0}, {0, 4}, {0, 2}}}));
    const auto one = attend(target, {{{0, 4}}});
    EXPECT_EQ(one[0], 1.5f) << "a row of a head that is not listed was written";
  }
}

// Every pair sees or does not see the poisoned key 40; nobody sees 41.
void ExpectPoisonOnlyWhereSeen(const Problem& p, const Handover& s, bool in_value, float poison,
                               Target target) {
  Problem poisoned = p;
  for (const std::int64_t key : {40, 41}) {
    auto& rows = in_value ? poisoned.value : poisoned.key;
    for (std::int64_t c = 0; c < rows.shape[3]; c += in_value ? 3 : 1) rows(0, 0, key, c) = poison;
  }
  const Result clean = Attended(p, s, target);
  const Result got = Attended(poisoned, s, target);
  for (std::int64_t i = 0; i < p.query.shape[2]; ++i) {
    const std::vector<std::int64_t> seen = reference::BruteVisible(p, 0, 0, i);
    const bool sees = std::count(seen.begin(), seen.end(), 40) > 0;
    for (std::int64_t c = 0; c < p.value.shape[3]; ++c) {
      const float x = got.out.At(0, 0, i, c);
      if (!sees || (in_value && c % 3 != 0)) {
        ASSERT_EQ(x, clean.out.At(0, 0, i, c)) << "query " << i << " on " << Name(target);
      } else if (in_value && std::isinf(poison)) {
        ASSERT_EQ(x, poison) << "query " << i << " on " << Name(target);
      } else {
        ASSERT_TRUE(std::isnan(x)) << "query " << i << " got " << x << " on " << Name(target);
      }
    }
  }
}

TEST(ExactAttention, ShowsNaNAndInfinityToThoseWhoSeeThemOnly) {
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBf16}) {
    for (const bool by_bias : {false, true}) {
      Problem p = reference::RandomProblem({1, 1, 1, 50, 70, 24, 20}, 6);
      p.mask = reference::Tensor<std::uint8_t>(p.pairs(), 1);
      if (by_bias) p.bias = reference::Tensor<float>(p.pairs(), 0.25f);
      for (std::int64_t i = 0; i < 50; ++i) {
        p.mask(0, 0, i, 41) = 0;
        if (!by_bias) p.mask(0, 0, i, 40) = i % 3 == 0;
        if (by_bias && i % 3 != 0) p.bias(0, 0, i, 40) = -kInf;
      }
      Handover s;
      s.dtype = dtype;
      Apply(s, p);
      for (Target target : RunningTargets()) {
        ExpectPoisonOnlyWhereSeen(p, s, false, kNaN, target);
        ExpectPoisonOnlyWhereSeen(p, s, true, kNaN, target);
        ExpectPoisonOnlyWhereSeen(p, s, true, kInf, target);
        ExpectPoisonOnlyWhereSeen(p, s, true, -kInf, target);
      }
      p.mask = {};
      p.bias = {};
      p.causal = true;  // 41 and 40 are beyond most queries
      for (Target target : RunningTargets()) {
        if (by_bias) continue;
        Problem first = p;
        first.key_lengths = {41};
        ExpectPoisonOnlyWhereSeen(first, s, true, kInf, target);
        ExpectPoisonOnlyWhereSeen(first, s, false, kNaN, target);
      }
    }
  }
}

TEST(ExactAttention, NaNOfAnyPayloadStaysNaN) {
  Problem p = reference::RandomProblem({1, 1, 1, 9, 30, 8, 8}, 7);
  for (const std::uint32_t bits : {0x7fc00001u, 0xffc001ffu, 0x7f800001u, 0x7fffffffu}) {
    std::memcpy(&p.query(0, 0, 4, 3), &bits, 4);
    for (Target target : RunningTargets()) {
      const Result r = Attended(p, {}, target);
      EXPECT_TRUE(std::isnan(r.out.At(0, 0, 4, 0))) << Name(target);
      EXPECT_FALSE(std::isnan(r.out.At(0, 0, 5, 0))) << Name(target);
    }
  }
}

TEST(ExactAttention, HugeScoresPickTheLargest) {
  Problem p = reference::RandomProblem({1, 1, 1, 3, 500, 4, 4}, 8);
  for (float& x : p.query.values) x = 1e15f;
  for (std::int64_t j = 0; j < 500; ++j) {
    for (std::int64_t c = 0; c < 4; ++c) p.key(0, 0, j, c) = -1e15f * static_cast<float>(j + 1);
  }
  p.scale = 1;
  for (const std::int64_t winner : {0, 300, 499}) {
    Problem q = p;
    for (std::int64_t c = 0; c < 4; ++c) q.key(0, 0, winner, c) = 1e14f;
    for (Target target : RunningTargets()) {
      const Result r = Attended(q, {}, target);
      for (std::int64_t c = 0; c < 4; ++c) {
        EXPECT_EQ(r.out.At(0, 0, 1, c), q.value(0, 0, winner, c)) << Name(target);
      }
    }
  }
}

// Hidden keys share vectors with seen ones; their weights would be 2^231 and more.
TEST(ExactAttention, HugeScoresOfHiddenKeysChangeNothing) {
  Problem p = reference::RandomProblem({1, 1, 1, 40, 40, 4, 4}, 12);
  for (float& x : p.query.values) x = 1;
  for (std::int64_t j = 0; j < 40; ++j) {
    for (std::int64_t c = 0; c < 4; ++c) p.key(0, 0, j, c) = 40.0f * static_cast<float>(j);
  }
  p.scale = 1;
  p.causal = true;
  for (Target target : RunningTargets()) {
    const Result r = Attended(p, {}, target);
    for (std::int64_t i = 0; i < 40; ++i) {
      for (std::int64_t c = 0; c < 4; ++c) {
        EXPECT_EQ(r.out.At(0, 0, i, c), p.value(0, 0, i, c)) << "query " << i << Name(target);
      }
    }
  }
}

TEST(ExactAttention, InfiniteScoresAreAsInAPlainSoftmax) {
  Problem p = reference::RandomProblem({1, 1, 1, 4, 20, 2, 3}, 9);
  p.query(0, 0, 1, 0) = p.query(0, 0, 2, 0) = 1;
  p.query(0, 0, 3, 0) = -1;
  p.key(0, 0, 5, 0) = -kInf;  // weight 0 for queries 1 and 2, NaN for 3
  Problem without = p;
  without.mask = reference::Tensor<std::uint8_t>(p.pairs(), 1);
  for (std::int64_t i = 0; i < 4; ++i) without.mask(0, 0, i, 5) = 0;
  Problem all = p;
  for (std::int64_t j = 0; j < 20; ++j) all.key(0, 0, j, 0) = -kInf;
  for (Target target : RunningTargets()) {
    const Result r = Attended(p, {}, target);
    const Result expected = Attended(without, {}, target);
    for (std::int64_t c = 0; c < 3; ++c) {
      EXPECT_EQ(r.out.At(0, 0, 1, c), expected.out.At(0, 0, 1, c)) << Name(target);
      EXPECT_TRUE(std::isnan(r.out.At(0, 0, 3, c))) << Name(target);
      EXPECT_TRUE(std::isnan(Attended(all, {}, target).out.At(0, 0, 1, c))) << Name(target);
    }
  }
}

TEST(ExactAttention, TakesScalesThatBinary32CannotHold) {
  Problem p = reference::RandomProblem({1, 1, 1, 5, 40, 8, 8}, 10);
  for (float& x : p.query.values) x *= 1e-30f;
  for (float& x : p.key.values) x *= 1e-15f;
  p.query(0, 0, 4, 0) = 0;
  p.scale = 1e45;
  for (Target target : RunningTargets()) EXPECT_TRUE(Close(p, {}, Attended(p, {}, target)));
  p.scale = 0;
  for (Target target : RunningTargets()) EXPECT_TRUE(Close(p, {}, Attended(p, {}, target)));
}

}  // namespace
}  // namespace elsa::cpu
