// A cache beside plain rows that mirror it, for its tests: whatever is done to one is done to the
// other, and reference::Attend answers for the mirror.
#ifndef ELSA_CPU_KV_CACHE_TESTING_H_
#define ELSA_CPU_KV_CACHE_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/cpu/kv_cache.h"
#include "elsa/reference/testing.h"

namespace elsa::cpu {

using reference::RandomTensor;
template <typename T>
using Packed = reference::Tensor<T>;

inline float Rounded(float value, DType dtype) {
  if (dtype == DType::kF16) return FromF16(ToF16(value));
  if (dtype == DType::kBf16) return FromBf16(ToBf16(value));
  return value;
}

// What a cache holds, as plain rows: [batch][kv_head][key].
struct Mirror {
  using Rows = std::vector<std::vector<std::vector<std::vector<float>>>>;
  Rows keys;
  Rows values;

  Mirror(std::int64_t batch, std::int64_t kv_heads)
      : keys(batch, Rows::value_type(kv_heads)), values(keys) {}

  std::int64_t size() const { return static_cast<std::int64_t>(keys[0][0].size()); }
  static void Append(Rows& rows, const Packed<float>& t, DType dtype) {
    for (std::int64_t b = 0; b < t.shape[0]; ++b) {
      for (std::int64_t g = 0; g < t.shape[1]; ++g) {
        for (std::int64_t j = 0; j < t.shape[2]; ++j) {
          std::vector<float>& row = rows[b][g].emplace_back();
          for (std::int64_t c = 0; c < t.shape[3]; ++c)
            row.push_back(Rounded(t(b, g, j, c), dtype));
        }
      }
    }
  }
  void Erase(std::int64_t first, std::int64_t count) {
    for (Rows* rows : {&keys, &values}) {
      for (auto& sequence : *rows) {
        for (auto& head : sequence) {
          head.erase(head.begin() + first, head.begin() + first + count);
        }
      }
    }
  }
  void Reorder(const std::vector<std::int64_t>& order) {
    for (Rows* rows : {&keys, &values}) {
      Rows next;
      for (std::int64_t row : order) next.push_back((*rows)[row]);
      *rows = next;
    }
  }
  static Packed<float> Tensor(const Rows& rows, std::int64_t d) {
    const auto n = static_cast<std::int64_t>(rows[0][0].size());
    Packed<float> t(
        {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(rows[0].size()), n, d});
    for (std::int64_t b = 0; b < t.shape[0]; ++b) {
      for (std::int64_t g = 0; g < t.shape[1]; ++g) {
        for (std::int64_t j = 0; j < n; ++j) {
          for (std::int64_t c = 0; c < d; ++c) t(b, g, j, c) = rows[b][g][j][c];
        }
      }
    }
    return t;
  }
};

// A cache, its mirror, and what both are asked.
struct Pair {
  KvCacheOptions options;
  std::shared_ptr<const Plan> plan;
  KvCache cache;
  Mirror mirror;
  Random random;

  Pair(const KvCacheOptions& o, std::shared_ptr<const Plan> p, std::uint64_t seed)
      : options(o), plan(p), cache(o, p), mirror(o.batch, o.kv_heads), random(seed) {}

  Packed<float> NewRows(std::int64_t count, std::int64_t d, double spread) {
    return RandomTensor({options.batch, options.kv_heads, count, d}, random, spread);
  }
  void Append(const Packed<float>& key, const Packed<float>& value) {
    cache.Append(key.view(), value.view());
    Mirror::Append(mirror.keys, key, options.dtype);
    Mirror::Append(mirror.values, value, options.dtype);
  }
  void Append(std::int64_t count, double spread = 1.5) {
    Append(NewRows(count, options.d, spread), NewRows(count, options.d_v, 1));
  }
  void Evict(std::int64_t count) {
    cache.EvictFront(count);
    mirror.Erase(plan != nullptr ? std::min(plan->always_keep_first, mirror.size()) : 0, count);
  }
  void Truncate(std::int64_t length) {
    cache.Truncate(length);
    mirror.Erase(length, mirror.size() - length);
  }
  void Reorder(const std::vector<std::int64_t>& order) {
    cache.Reorder(order);
    mirror.Reorder(order);
    options.batch = static_cast<std::int64_t>(order.size());
  }
};

struct Question {
  std::int64_t n_q = 1;
  bool causal = true;
  bool mask = false;
  bool bias = false;
  Select select = Select::kAlways;
  bool group_union = false;
  int threads = 1;
  std::optional<Target> target = std::nullopt;
};

struct Answer {
  Packed<float> out;
  std::vector<float> log_sum_exp;
  Report report;
};

// The problem that reference::Attend solves for a question: the causal limit is a mask, because
// the reference aligns at the first row.
inline reference::Problem ProblemOf(Pair& p, const Question& question) {
  const KvCacheOptions& o = p.options;
  reference::Problem problem;
  problem.query = RandomTensor({o.batch, o.heads, question.n_q, o.d}, p.random, 1.5);
  problem.key = Mirror::Tensor(p.mirror.keys, o.d);
  problem.value = Mirror::Tensor(p.mirror.values, o.d_v);
  problem.scale = 1 / std::sqrt(static_cast<double>(o.d));
  if (question.mask) reference::AddRandomMask(problem, 0.7, p.random.Next());
  if (question.bias) {
    reference::AddRandomBias(problem, 1, p.random.Next());
    for (float& x : problem.bias.values) x = p.random.Uniform() < 0.1 ? -1e31f : x;
  }
  return problem;
}

inline Answer Ask(Pair& p, const Question& question, const reference::Problem& problem) {
  const KvCacheOptions& o = p.options;
  Answer answer{Packed<float>({o.batch, o.heads, question.n_q, o.d_v}, 7.5f),
                std::vector<float>(o.batch * o.heads * question.n_q, 7.5f),
                {}};
  DecodeOptions options;
  options.scale = problem.scale;
  options.causal = question.causal;
  options.mask = problem.mask.view();
  if (question.bias) options.bias = problem.bias.view();
  options.select = question.select;
  options.group_union = question.group_union;
  options.executor = &SharedExecutor(question.threads);
  options.target = question.target;
  options.log_sum_exp = {answer.log_sum_exp.data(), {o.batch, o.heads, question.n_q}};
  const View<float, 4> out(answer.out.values.data(), answer.out.shape);
  answer.report = p.cache.Attend(problem.query.view(), out, options);
  return answer;
}

inline reference::Attended Expect(const Pair& p, const Question& question,
                                  reference::Problem problem) {
  if (question.causal) {
    const bool masked = !problem.mask.values.empty();
    if (!masked) problem.mask = Packed<std::uint8_t>(problem.pairs(), 1);
    const std::int64_t n = problem.key.shape[2];
    for (std::size_t at = 0; at < problem.mask.values.size(); ++at) {
      const auto j = static_cast<std::int64_t>(at) % n;
      const std::int64_t i = static_cast<std::int64_t>(at) / n % question.n_q;
      if (j > i + n - question.n_q) problem.mask.values[at] = 0;
    }
  }
  return reference::RunAttend(problem, p.plan.get());
}

// What binary32 may be off by. A score is a sum of d products, each rounded, and so is scale * q:
// off by (d + 2) / 2^24 of the sum of magnitudes at most; so are, twice, its weights. Then the sum
// over keys, of which no more than a few hundred follow each other here.
inline double Tolerance(const reference::Problem& problem) {
  const auto largest = [](const Packed<float>& t) {
    double most = 0;
    for (float x : t.values) most = std::isfinite(x) ? std::max<double>(most, std::abs(x)) : most;
    return most;
  };
  const auto d = static_cast<double>(problem.query.shape[3]);
  const double score = problem.scale * d * largest(problem.query) * largest(problem.key);
  return largest(problem.value) * (2 * (d + 2) * score + 300) * 0x1p-24;
}

inline void ExpectEqual(const Answer& got, const reference::Attended& expected, double tolerance) {
  for (std::size_t i = 0; i < got.out.values.size(); ++i) {
    const double want = expected.out.values[i];
    const double have = got.out.values[i];
    if (std::isnan(want) ? !std::isnan(have) : !(std::abs(have - want) <= tolerance)) {
      ADD_FAILURE() << "element " << i << ": " << have << ", expected " << want << " within "
                    << tolerance;
      break;
    }
  }
  for (std::size_t h = 0; h < expected.stats.size(); ++h) {
    const reference::HeadStats& a = got.report.heads[h].stats;
    const reference::HeadStats& b = expected.stats[h];
    EXPECT_EQ(a.queries, b.queries) << h;
    EXPECT_EQ(a.empty_queries, b.empty_queries) << h;
    EXPECT_EQ(a.fallback_queries, b.fallback_queries) << h;
    EXPECT_EQ(a.exact_queries, b.exact_queries) << h;
    EXPECT_EQ(a.pairs, b.pairs) << h;
    EXPECT_EQ(a.kept, b.kept) << h;
  }
}

inline void AskAndCheck(Pair& p, const Question& question) {
  const reference::Problem problem = ProblemOf(p, question);
  const Answer answer = Ask(p, question, problem);
  ExpectEqual(answer, Expect(p, question, problem), Tolerance(problem));
}

inline std::shared_ptr<Plan> TestPlan(const KvCacheOptions& o, double threshold,
                                      std::int64_t k = 64) {
  auto plan =
      std::make_shared<Plan>(reference::TestPlan(o.d, k, o.heads, threshold, HashKind::kDense));
  return plan;
}

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KV_CACHE_TESTING_H_
