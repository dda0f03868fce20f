#include "elsa/cpu/selection.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <sstream>

#include "elsa/cpu/hash_program.h"
#include "elsa/cpu/target.h"
#include "elsa/cpu/testing.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/testing.h"

namespace elsa::cpu {
namespace {

using reference::AddRandomBias;
using reference::AddRandomMask;
using reference::Problem;
using reference::ProblemShape;
using reference::RandomProblem;
using reference::TestPlan;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// A problem and what the engine sees of it. With a causal offset the problem has that many queries
// more, in front: the reference knows no offset.
struct Case {
  Problem problem;
  Plan plan;
  DType dtype = DType::kF32;
  std::int64_t causal_offset = 0;
  bool broadcast_masks = false;  // mask and bias rows of query 0 serve all queries
  std::vector<std::uint16_t> halves[3];
  std::vector<std::int64_t> query_lengths;

  std::uint16_t ToHalf(float x) const { return dtype == DType::kF16 ? ToF16(x) : ToBf16(x); }
  float FromHalf(std::uint16_t x) const { return dtype == DType::kF16 ? FromF16(x) : FromBf16(x); }

  // Makes every value one of the dtype.
  void Round() {
    reference::Tensor<float>* tensors[] = {&problem.query, &problem.key, &problem.bias};
    for (int i = 0; i < 3 && dtype != DType::kF32; ++i) {
      halves[i].clear();
      for (float& x : tensors[i]->values) {
        halves[i].push_back(ToHalf(x));
        x = FromHalf(halves[i].back());
      }
    }
  }
  template <typename T>
  void Broadcast(reference::Tensor<T>& t) {
    if (t.values.empty()) return;
    const std::int64_t row = t.shape[3];
    const std::int64_t rows = t.shape[0] * t.shape[1] * t.shape[2];
    for (std::int64_t i = 0; i < rows; ++i) {
      std::copy_n(&t.values[i / t.shape[2] * t.shape[2] * row], row, &t.values[i * row]);
    }
  }
  void Prepare() {
    if (broadcast_masks) Broadcast(problem.mask);
    if (broadcast_masks) Broadcast(problem.bias);
    Round();
  }

  Tensor EngineTensor(const reference::Tensor<float>& t, int i, std::int64_t skip) {
    if (t.shape[0] == 0) return {};
    Tensor tensor = t.view();
    if (dtype != DType::kF32) {
      tensor.data = reinterpret_cast<const std::byte*>(halves[i].data());
      tensor.dtype = dtype;
    }
    tensor.data += skip * tensor.stride[2] * SizeOf(tensor.dtype);
    tensor.shape[2] -= skip;
    return tensor;
  }
  Inputs EngineInputs() {
    Inputs in;
    in.query = EngineTensor(problem.query, 0, causal_offset);
    in.key = EngineTensor(problem.key, 1, 0);
    in.value = in.key;
    in.bias = EngineTensor(problem.bias, 2, causal_offset);
    if (!problem.mask.values.empty()) {
      in.mask = problem.mask.view();
      in.mask.data += causal_offset * in.mask.stride[2];
      in.mask.shape[2] -= causal_offset;
    }
    if (broadcast_masks) {
      in.mask.stride[2] = 0;
      in.bias.stride[2] = 0;
    }
    in.scale = problem.scale;
    in.causal = problem.causal;
    in.causal_offset = causal_offset;
    query_lengths.clear();
    for (std::int64_t length : problem.query_lengths) {
      query_lengths.push_back(std::max<std::int64_t>(length - causal_offset, 0));
    }
    in.query_lengths = query_lengths;
    in.key_lengths = problem.key_lengths;
    return in;
  }
};

struct Decision {
  std::vector<std::int32_t> kept;
  QueryCount count;
};

// What the reference decides for the queries of one (batch, head).
std::vector<Decision> ReferenceDecisions(const Case& c, std::int64_t batch, std::int64_t head) {
  const reference::AttentionInputs inputs = c.problem.inputs();
  reference::HeadInputs rows(inputs, batch, head);
  reference::SimilarityEstimator estimator(rows, reference::EstimatorOptionsOf(c.plan, 0, head));
  std::vector<Decision> decisions;
  for (std::int64_t i = c.causal_offset; i < c.problem.query.shape[2]; ++i) {
    Decision d;
    if (i < rows.queries()) {
      const std::vector<std::int32_t> visible = rows.VisibleKeys(i);
      d.count.visible = static_cast<std::int32_t>(visible.size());
      d.kept = visible;
      d.count.exact = !visible.empty() && d.count.visible < c.plan.dense_below;
      if (!visible.empty() && !d.count.exact) {
        reference::Selection selection;
        reference::Select(estimator.Estimate(i), c.plan.rule, c.plan.thresholds[0][head], selection,
                          reference::AlwaysKeepOf(c.plan));
        d.kept = selection.kept;
        d.count.fallback = selection.fallback;
      }
    }
    d.count.kept = static_cast<std::int32_t>(d.kept.size());
    decisions.push_back(d);
  }
  return decisions;
}

std::vector<Decision> EngineDecisions(const HeadSelection& selection, std::int64_t queries,
                                      std::int64_t step) {
  std::vector<Decision> decisions;
  const std::int64_t words = selection.words();
  for (std::int64_t first = 0; first < queries; first += step) {
    const std::int64_t count = std::min(step, queries - first);
    std::vector<std::uint64_t> masks(count * words, 0x5555555555555555);
    std::vector<QueryCount> counts(count);
    selection.Decide(first, count, masks.data(), counts.data());
    for (std::int64_t i = 0; i < count; ++i) {
      Decision d;
      d.count = counts[i];
      for (std::int64_t w = 0; w < words; ++w) {
        for (std::uint64_t bits = masks[i * words + w]; bits != 0; bits &= bits - 1) {
          d.kept.push_back(static_cast<std::int32_t>(64 * w + std::countr_zero(bits)));
        }
      }
      decisions.push_back(d);
    }
  }
  return decisions;
}

std::string Describe(const Case& c) {
  std::ostringstream text;
  const Problem& p = c.problem;
  text << Name(c.plan.hash.kind) << " d=" << p.query.shape[3] << " hash.d=" << c.plan.hash.d
       << " k=" << c.plan.hash.k << " n_q=" << p.query.shape[2] << " n_k=" << p.key.shape[2]
       << " t=" << c.plan.thresholds[0][0] << " rule=" << Name(c.plan.rule)
       << " causal=" << p.causal << " offset=" << c.causal_offset << " dtype=" << Name(c.dtype)
       << " mask=" << !p.mask.values.empty() << " bias=" << !p.bias.values.empty()
       << " broadcast=" << c.broadcast_masks << " bias_in_test=" << c.plan.bias_in_test
       << " centring=" << Name(c.plan.centring) << " dense_below=" << c.plan.dense_below
       << " always=" << c.plan.always_keep_first << "+" << c.plan.always_keep_recent;
  return text.str();
}

void ExpectSame(const std::vector<Decision>& expected, const std::vector<Decision>& got,
                const std::string& where) {
  ASSERT_EQ(expected.size(), got.size()) << where;
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(expected[i].kept, got[i].kept) << where << " query " << i;
    ASSERT_EQ(expected[i].count.visible, got[i].count.visible) << where << " query " << i;
    ASSERT_EQ(expected[i].count.kept, got[i].count.kept) << where << " query " << i;
    ASSERT_EQ(expected[i].count.fallback, got[i].count.fallback) << where << " query " << i;
    ASSERT_EQ(expected[i].count.exact, got[i].count.exact) << where << " query " << i;
  }
}

// Every (batch, head) on every target, in pieces of `step` queries. Returns the share kept.
double CheckCase(Case& c, std::int64_t step = 64) {
  c.Prepare();
  const Inputs in = c.EngineInputs();
  const auto hash = MakeHashProgram(c.plan.hash, in.query.shape[3]);
  std::int64_t kept = 0;
  std::int64_t pairs = 0;
  for (std::int64_t b = 0; b < in.batch(); ++b) {
    for (std::int64_t h = 0; h < in.heads(); ++h) {
      const std::vector<Decision> expected = ReferenceDecisions(c, b, h);
      for (Target target : RunningTargets()) {
        const KernelSet& kernels = KernelsOf(target);
        const auto keys = MakeKeySketch(in, c.plan, hash, b, in.kv_head(h), kernels);
        const HeadSelection selection(in, c.plan, 0, b, h, keys, kernels);
        const std::string where = std::string(Name(target)) + " batch " + std::to_string(b) +
                                  " head " + std::to_string(h) + " " + Describe(c);
        ExpectSame(expected, EngineDecisions(selection, in.query.shape[2], step), where);
        if (testing::Test::HasFatalFailure()) return 0;
        const double share = selection.SampleKeptFraction();
        EXPECT_TRUE(share >= 0 && share <= 1) << where;
      }
      for (const Decision& d : expected) {
        kept += d.count.kept;
        pairs += d.count.visible;
      }
    }
  }
  return pairs > 0 ? static_cast<double>(kept) / static_cast<double>(pairs) : 1;
}

constexpr HashKind kKinds[] = {HashKind::kKronecker3, HashKind::kKronecker2, HashKind::kDense,
                               HashKind::kHadamard, HashKind::kGaussian};
constexpr Rule kRules[] = {Rule::kPaper, Rule::kMass, Rule::kBudget, Rule::kGap};

// Norms that differ by orders of magnitude, zeros, ties, denormals; rarely NaN and infinity.
void Disturb(reference::Tensor<float>& t, Random& random) {
  const std::int64_t d = t.shape[3];
  const auto rows = static_cast<std::int64_t>(t.values.size()) / d;
  for (std::int64_t row = 0; row < rows; ++row) {
    float* x = &t.values[row * d];
    const std::uint64_t what = random.Below(24);
    float factor = 1;
    if (what == 0) factor = 0;
    if (what == 1) factor = 1e-3f;
    if (what == 2) factor = 1e-38f;
    if (what == 3) factor = 1e-22f;  // its square is denormal
    if (what == 4) factor = 30;
    if (what == 5) factor = -1;
    if (what <= 5) {
      for (std::int64_t c = 0; c < d; ++c) x[c] *= factor;
    }
    if (what == 6 && row > 0) std::copy_n(x - d, d, x);
    if (what == 7 && random.Below(4) == 0) x[random.Below(d)] = kNaN;
    if (what == 8 && random.Below(4) == 0) x[random.Below(d)] = -kInfinity;
    if (what == 9 && random.Below(4) == 0) x[random.Below(d)] = 2e19f;  // its square is infinite
  }
}

Case RandomCase(std::uint64_t seed) {
  Random random(seed);
  const auto between = [&](std::int64_t low, std::int64_t high) {
    return low + static_cast<std::int64_t>(random.Below(high - low + 1));
  };
  const auto chance = [&](int one_in) { return random.Below(one_in) == 0; };
  Case c;
  ProblemShape shape;
  shape.kv_heads = between(1, 2);
  shape.heads = shape.kv_heads * between(1, 2);
  shape.batch = between(1, 2);
  shape.d = chance(2) ? between(1, 40) : std::int64_t{16} << between(0, 2);
  const bool causal = chance(2);
  if (causal && chance(2)) c.causal_offset = between(1, 40);
  shape.queries = between(1, 24) + c.causal_offset;
  shape.keys = chance(3) ? between(1, 12) : between(1, 100);
  if (chance(20)) shape.keys = 0;
  if (chance(10)) shape.keys = between(500, 530);
  c.problem = RandomProblem(shape, random.Next());
  c.problem.causal = causal;
  if (chance(2)) Disturb(c.problem.key, random);
  if (chance(2)) Disturb(c.problem.query, random);
  if (chance(3)) AddRandomMask(c.problem, random.Uniform(), random.Next());
  if (chance(3)) {
    AddRandomBias(c.problem, 2, random.Next());
    for (float& x : c.problem.bias.values) {
      const std::uint64_t what = random.Below(8);
      if (what == 0) x = -kInfinity;
      if (what == 1) x = std::numeric_limits<float>::lowest();
      if (what == 2 && random.Below(10) == 0) x = kNaN;
      if (what == 3 && random.Below(10) == 0) x = kInfinity;
    }
  }
  c.broadcast_masks = chance(3);
  const std::int64_t batches = shape.batch;
  for (std::int64_t b = 0; b < batches && chance(3); ++b) {
    c.problem.query_lengths.resize(batches, shape.queries);
    c.problem.query_lengths[b] = between(0, shape.queries);
  }
  for (std::int64_t b = 0; b < batches && chance(3); ++b) {
    c.problem.key_lengths.resize(batches, shape.keys);
    c.problem.key_lengths[b] = between(0, shape.keys);
  }
  if (chance(3)) c.dtype = chance(2) ? DType::kF16 : DType::kBf16;

  const std::int64_t lengths[] = {1, 7, 16, 32, 33, 64, 65, 100, 128, 256, 300};
  const std::int64_t hash_d = chance(3) ? shape.d + between(1, 30) : shape.d;
  c.plan = TestPlan(hash_d, lengths[random.Below(std::size(lengths))], shape.heads, 0.2,
                    kKinds[random.Below(std::size(kKinds))], random.Next());
  c.plan.rule = kRules[random.Below(std::size(kRules))];
  for (double& t : c.plan.thresholds[0]) {
    t = 0.4 * random.Normal();
    if (chance(8)) t = 0;
    if (chance(16)) t = chance(2) ? 1.5 : -1.5;
    if (chance(16)) t = 1e-39;
    if (c.plan.rule == Rule::kGap) t = 3 * random.Uniform() - 0.3;
  }
  c.plan.theta_bias_rad = {std::vector<double>(shape.heads)};
  for (double& bias : c.plan.theta_bias_rad[0]) bias = 0.3 * random.Uniform();
  c.plan.bias_in_test = chance(2);
  if (!causal && chance(2)) {
    c.plan.centring = chance(2) ? Centring::kOn : Centring::kByLength;
    c.plan.centring_min_keys = between(0, shape.keys + 2);
  }
  if (chance(4)) c.plan.dense_below = between(1, 20);
  if (chance(4)) c.plan.always_keep_first = between(0, 5);
  if (chance(4)) c.plan.always_keep_recent = between(0, 20);
  return c;
}

TEST(Selection, EqualsTheReferenceInThousandsOfSmallCases) {
  const int rounds = Rounds(3000, 100);
  for (int round = 0; round < rounds; ++round) {
    Case c = RandomCase(round);
    const std::int64_t steps[] = {1, 3, 7, 64};
    CheckCase(c, steps[round % 4]);
    ASSERT_FALSE(HasFatalFailure()) << "RandomCase(" << round << ")";
  }
}

}  // namespace
}  // namespace elsa::cpu
