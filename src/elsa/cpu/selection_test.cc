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

// One head of n queries and keys, fit for every rule.
Case LargeCase(std::int64_t n, std::int64_t d, std::int64_t k, HashKind kind, double t) {
  Case c;
  c.problem = RandomProblem({1, 1, 1, n, n, d, 8}, n + k);
  c.plan = TestPlan(d, k, 1, t, kind);
  return c;
}

TEST(Selection, EqualsTheReferenceOnAThousandKeys) {
  const std::int64_t n = Rounds(1000, 300);
  for (const std::int64_t k : {32, 64, 128, 256}) {
    Case plain = LargeCase(n, 64, k, HashKind::kKronecker3, 0.25);
    const double share = CheckCase(plain, 1000);
    EXPECT_TRUE(share > 0.01 && share < 0.6) << "k = " << k << ": kept " << share;
    Case causal = LargeCase(n, 32, k, HashKind::kDense, 0.2);
    causal.problem.causal = true;
    CheckCase(causal);
  }
  Case masked = LargeCase(n, 64, 64, HashKind::kHadamard, 0.2);
  AddRandomMask(masked.problem, 0.1, 3);
  CheckCase(masked);
  Case gap = LargeCase(n, 64, 64, HashKind::kKronecker2, 1.5);
  gap.plan.rule = Rule::kGap;
  CheckCase(gap);
  Case wide = LargeCase(n, 40, 1100, HashKind::kGaussian, 0.2);
  CheckCase(wide);
}

TEST(Selection, EqualsTheReferenceWhereTheLargestNormRisesWithEveryKey) {
  Case c = LargeCase(600, 16, 64, HashKind::kKronecker3, 0.3);
  c.problem.causal = true;
  for (std::int64_t j = 0; j < 600; ++j) {
    for (std::int64_t i = 0; i < 16; ++i) {
      c.problem.key(0, 0, j, i) *= 1 + 0.02f * static_cast<float>(j);
    }
  }
  CheckCase(c);
}

TEST(Selection, EqualsTheReferenceOnPackedSequences) {
  // Six sequences in one: a mask of blocks, so that K_max differs between them.
  Case c = LargeCase(600, 32, 64, HashKind::kKronecker3, 0.3);
  c.problem.mask = reference::Tensor<std::uint8_t>(c.problem.pairs());
  for (std::int64_t i = 0; i < 600; ++i) {
    for (std::int64_t j = 0; j < 600; ++j) c.problem.mask(0, 0, i, j) = i / 100 == j / 100 ? 1 : 0;
  }
  CheckCase(c);
}

TEST(Selection, SamplesTheKeptFractionAndAlwaysTheSame) {
  Case c = LargeCase(700, 64, 64, HashKind::kKronecker3, 0.25);
  const double kept = CheckCase(c);
  const Inputs in = c.EngineInputs();
  for (Target target : RunningTargets()) {
    const KernelSet& kernels = KernelsOf(target);
    const auto hash = MakeHashProgram(c.plan.hash, 64);
    const auto keys = MakeKeySketch(in, c.plan, hash, 0, 0, kernels);
    const HeadSelection selection(in, c.plan, 0, 0, 0, keys, kernels);
    const double sampled = selection.SampleKeptFraction();
    // 21 queries; the shares of single queries differ by about 0.05.
    EXPECT_NEAR(sampled, kept, 0.05) << Name(target);
    EXPECT_EQ(sampled, selection.SampleKeptFraction()) << Name(target);
  }
}

// ---- the kernels, one by one ----

TEST(HashRows, EqualsTheReference) {
  Random random(5);
  const std::int64_t sizes[][2] = {{1, 1},   {7, 7},    {7, 20},   {32, 32},   {64, 64},
                                   {64, 32}, {80, 100}, {96, 96},  {100, 256}, {128, 128},
                                   {50, 65}, {256, 64}, {24, 150}, {13, 13}};
  for (const auto& [d, k] : sizes) {
    for (HashKind kind : kKinds) {
      for (const std::int64_t hash_d : {d, d + 3}) {
        const HashSpec hash = reference::MakeHash(kind, hash_d, k, d + k);
        const std::int64_t count = 1 + static_cast<std::int64_t>(random.Below(40));
        const std::int64_t stride = d + static_cast<std::int64_t>(random.Below(3));
        const auto dtype = static_cast<DType>(random.Below(3));
        std::vector<float> rows(count * d);
        std::vector<float> origin(d);
        // One element off alignment, and nothing after the last row.
        std::vector<float> floats(1 + (count - 1) * stride + d);
        std::vector<std::uint16_t> halves(floats.size());
        for (float& x : origin) x = static_cast<float>(random.Normal());
        const bool centred = random.Below(2) == 0;
        for (std::int64_t i = 0; i < count * d; ++i) {
          float x = static_cast<float>(random.Normal());
          if (random.Below(50) == 0) x *= 1e-40f;
          if (random.Below(500) == 0) x = random.Below(2) == 0 ? kNaN : kInfinity;
          const std::int64_t at = 1 + i / d * stride + i % d;
          halves[at] = dtype == DType::kF16 ? ToF16(x) : ToBf16(x);
          if (dtype == DType::kF16) x = FromF16(halves[at]);
          if (dtype == DType::kBf16) x = FromBf16(halves[at]);
          floats[at] = x;
          rows[i] = centred ? x - origin[i % d] : x;
        }
        const auto* data = dtype == DType::kF32
                               ? reinterpret_cast<const std::byte*>(floats.data() + 1)
                               : reinterpret_cast<const std::byte*>(halves.data() + 1);
        const reference::HashBits expected = reference::HashVectors(hash, rows, d);
        const auto program = MakeHashProgram(hash, d);
        for (Target target : RunningTargets()) {
          reference::HashBits bits(expected.size(), 77);
          std::vector<float> norms(count, -1.0f);
          HashRows(*program, KernelsOf(target), {data, static_cast<int>(dtype), stride, count},
                   centred ? origin.data() : nullptr, bits.data(), norms.data());
          const std::string where = std::string(Name(target)) + " " + std::string(Name(kind)) +
                                    " d=" + std::to_string(d) + " k=" + std::to_string(k) +
                                    " rows=" + std::to_string(count) + " " +
                                    std::string(Name(dtype));
          ASSERT_EQ(bits, expected) << where;
          for (std::int64_t i = 0; i < count; ++i) {
            const float norm = reference::Norm(std::span(rows).subspan(i * d, d));
            ASSERT_TRUE(norms[i] == norm || (std::isnan(norm) && std::isnan(norms[i])))
                << where << " row " << i << ": " << norms[i] << " for " << norm;
          }
        }
      }
    }
  }
}

TEST(CutOffs, DecideAsTheTableForEveryDistance) {
  constexpr float kMost = std::numeric_limits<float>::max();
  std::vector<float> norms = {0,    1e-45f, 3e-45f, 1e-40f, 1.2e-38f, 1e-20f,    0.3f,       1,
                              1.5f, 2,      1e20f,  kMost,  kNaN,     kInfinity, 0.99999994f};
  Random random(9);
  const int more = Rounds(1200, 60);
  for (int i = 0; i < more; ++i) norms.push_back(static_cast<float>(std::abs(random.Normal())));
  for (const std::int64_t k : {1, 7, 64, 100, 256}) {
    for (const double theta_bias : {0.0, 0.127, 0.8, -0.2}) {
      const std::vector<float> cosines = reference::CosineTable(k, theta_bias);
      std::vector<float> cuts = {0, -0.0f, 1e-45f, -1e-45f, 1e-39f, 0.2f,      -0.2f,
                                 1, -1.0f, kMost,  -kMost,  kNaN,   kInfinity, -kInfinity};
      // Ties: cuts that are products of the table.
      for (int i = 0; i < 12; ++i) {
        cuts.push_back(norms[random.Below(norms.size())] * cosines[random.Below(k + 1)]);
      }
      for (float cut : cuts) {
        for (Target target : RunningTargets()) {
          std::vector<std::int16_t> cut_offs(norms.size(), 99);
          KernelsOf(target).select->cut_offs(norms.data(), static_cast<std::int64_t>(norms.size()),
                                             cosines.data(), k, cut, cut_offs.data());
          for (std::size_t j = 0; j < norms.size(); ++j) {
            for (std::int64_t h = 0; h <= k; ++h) {
              const bool keep = !std::isfinite(norms[j]) || norms[j] * cosines[h] > cut;
              ASSERT_EQ(h <= cut_offs[j], keep)
                  << Name(target) << " k=" << k << " norm=" << norms[j] << " cut=" << cut
                  << " theta_bias=" << theta_bias << " distance=" << h;
            }
          }
        }
      }
    }
  }
}

// Hashes at every distance from the queries, and cut-offs around it.
TEST(Filters, KeepWhatIsWithinTheCutOff) {
  Random random(11);
  for (const std::int64_t k : {1, 2, 7, 31, 32, 33, 63, 64, 65, 100, 128, 129, 200, 256, 300}) {
    const std::int64_t words = (k + 63) / 64;
    const std::int64_t count = 517;
    constexpr std::int64_t kQueries = 5;
    std::vector<std::uint64_t> queries(kQueries * words);
    std::vector<std::uint64_t> keys(count * words);
    std::vector<std::int16_t> cut_offs(count);
    for (std::int64_t i = 0; i < kQueries * k; ++i) {
      queries[i / k * words + i % k / 64] |= (random.Next() & 1) << (i % k % 64);
    }
    for (std::int64_t j = 0; j < count; ++j) {
      const auto distance = static_cast<std::int64_t>(random.Below(k + 1));
      std::copy_n(&queries[j % kQueries * words], words, &keys[j * words]);
      for (std::int64_t i = 0; i < distance; ++i) {
        const std::int64_t bit = (j * 7 + i) % k;
        keys[j * words + bit / 64] ^= std::uint64_t{1} << (bit % 64);
      }
      const std::int64_t cut = random.Below(8) == 0
                                   ? static_cast<std::int64_t>(random.Below(k + 2)) - 1
                                   : distance + static_cast<std::int64_t>(random.Below(3)) - 1;
      cut_offs[j] = static_cast<std::int16_t>(std::min(cut, k));
    }
    const auto within = [&](std::int64_t q, std::int64_t j) {
      return reference::HammingDistance(std::span(queries).subspan(q * words, words),
                                        std::span(keys).subspan(j * words, words)) <= cut_offs[j];
    };
    for (Target target : RunningTargets()) {
      const SelectKernels& select = *KernelsOf(target).select;
      const std::string where = std::string(Name(target)) + " k=" + std::to_string(k);
      for (std::int64_t q = 0; q < kQueries; ++q) {
        std::vector<std::uint64_t> mask((count + 63) / 64, ~std::uint64_t{0});
        select.filter_rows(&queries[q * words], keys.data(), cut_offs.data(), count, words,
                           mask.data());
        for (std::int64_t j = 0; j < static_cast<std::int64_t>(mask.size()) * 64; ++j) {
          ASSERT_EQ((mask[j / 64] >> (j % 64)) & 1, j < count && within(q, j) ? 1u : 0u)
              << where << " rows, query " << q << " key " << j;
        }
      }
      const SelectKernels::FilterSizes sizes = select.filter_sizes(k);
      ASSERT_EQ(sizes.table_bytes == 0, k > 256) << where;
      if (sizes.table_bytes == 0) continue;
      Buffer buffers[3];
      auto* table = buffers[0].Get<std::byte>(sizes.table_bytes);
      auto* limits = buffers[1].Get<std::byte>(sizes.limit_bytes);
      auto* patterns = buffers[2].Get<std::uint16_t>(kQueries * sizes.patterns + 15);
      select.query_patterns(queries.data(), kQueries, k, patterns);
      const std::int64_t block = select.block_keys;
      for (std::int64_t first = 0; first < count; first += block) {
        const std::int64_t here = std::min(block, count - first);
        select.build_table(&keys[first * words], here, k, table);
        select.build_limits(&cut_offs[first], here, k, limits);
        std::vector<std::uint64_t> masks(kQueries * block / 64);
        select.filter_block(table, limits, patterns, kQueries, k, masks.data(), block / 64);
        for (std::int64_t i = 0; i < kQueries * block; ++i) {
          const std::int64_t q = i / block;
          const std::int64_t j = first + i % block;
          ASSERT_EQ((masks[i / 64] >> (i % 64)) & 1, j < count && within(q, j) ? 1u : 0u)
              << where << " planes, query " << q << " key " << j;
        }
      }
    }
  }
}

}  // namespace
}  // namespace elsa::cpu
