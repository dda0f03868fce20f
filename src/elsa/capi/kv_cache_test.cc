// KV caches of the C interface against the brute-force oracles of the reference's tests.
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "elsa/capi/testing.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {
namespace {

using reference::BruteExact;
using reference::Problem;
using reference::RandomProblem;
using reference::TestPlan;

struct FreeCache {
  void operator()(elsa_kv_cache* cache) const { elsa_kv_cache_free(cache); }
};
using CacheHandle = std::unique_ptr<elsa_kv_cache, FreeCache>;

elsa_kv_cache_options OptionsFor(const Problem& p) {
  elsa_kv_cache_options options = elsa_kv_cache_options_init();
  options.batch = p.query.shape[0];
  options.heads = p.query.shape[1];
  options.kv_heads = p.key.shape[1];
  options.d = p.key.shape[3];
  options.d_v = p.value.shape[3];
  return options;
}

CacheHandle MakeCache(const Problem& p, const elsa_plan* plan = nullptr) {
  const elsa_kv_cache_options options = OptionsFor(p);
  elsa_kv_cache* cache = nullptr;
  EXPECT_EQ(elsa_kv_cache_create(&options, plan, 0, &cache), ELSA_OK) << elsa_last_error();
  return CacheHandle(cache);
}

// Keys [first, last) of a problem.
elsa_status Append(elsa_kv_cache* cache, const Problem& p, std::int64_t first, std::int64_t last) {
  elsa_tensor key = TensorOf(p.key, ELSA_FLOAT32);
  elsa_tensor value = TensorOf(p.value, ELSA_FLOAT32);
  key.data = p.key.values.data() + first * p.key.shape[3];
  value.data = p.value.values.data() + first * p.value.shape[3];
  key.shape[2] = value.shape[2] = last - first;
  return elsa_kv_cache_append(cache, &key, &value);
}

reference::Tensor<float> Attend(elsa_kv_cache* cache, const Problem& p,
                                const elsa_decode_options* options, elsa_report** report) {
  Out out(p);
  const elsa_tensor query = TensorOf(p.query, ELSA_FLOAT32);
  const elsa_mutable_tensor to = out.tensor();
  EXPECT_EQ(elsa_kv_cache_attend(cache, &query, &to, options, report), ELSA_OK)
      << elsa_last_error();
  return out.values;
}

// The problem that a cache with keys [first, last) of `p` computes.
Problem KeysOf(const Problem& p, std::int64_t first, std::int64_t last) {
  Problem part = p;
  part.key =
      reference::Tensor<float>({p.key.shape[0], p.key.shape[1], last - first, p.key.shape[3]});
  part.value =
      reference::Tensor<float>({p.key.shape[0], p.key.shape[1], last - first, p.value.shape[3]});
  for (std::int64_t b = 0; b < p.key.shape[0]; ++b) {
    for (std::int64_t h = 0; h < p.key.shape[1]; ++h) {
      for (std::int64_t j = first; j < last; ++j) {
        for (std::int64_t c = 0; c < p.key.shape[3]; ++c) {
          part.key(b, h, j - first, c) = p.key(b, h, j, c);
        }
        for (std::int64_t c = 0; c < p.value.shape[3]; ++c) {
          part.value(b, h, j - first, c) = p.value(b, h, j, c);
        }
      }
    }
  }
  return part;
}

// One query against 40 keys: a causal query at the end sees them all.
Problem OneQuery() {
  return RandomProblem({.batch = 2, .heads = 4, .kv_heads = 2, .queries = 1, .keys = 40, .d_v = 6},
                       1);
}

TEST(CKvCache, AppendsEvictsTruncatesAndReorders) {
  const Problem p = OneQuery();
  const CacheHandle cache = MakeCache(p);
  ASSERT_EQ(Append(cache.get(), p, 0, 30), ELSA_OK) << elsa_last_error();
  ASSERT_EQ(Append(cache.get(), p, 30, 40), ELSA_OK) << elsa_last_error();
  EXPECT_EQ(elsa_kv_cache_size(cache.get()), 40);
  EXPECT_EQ(elsa_kv_cache_batch(cache.get()), 2);
  EXPECT_GE(elsa_kv_cache_bytes(cache.get()), 2 * 2 * 40 * (8 + 6) * 4);
  EXPECT_LT(MaxDifference(Attend(cache.get(), p, nullptr, nullptr), BruteExact(p)), kFloat32Error);

  ASSERT_EQ(elsa_kv_cache_evict_front(cache.get(), 7), ELSA_OK) << elsa_last_error();
  ASSERT_EQ(elsa_kv_cache_truncate(cache.get(), 20), ELSA_OK) << elsa_last_error();
  EXPECT_EQ(elsa_kv_cache_size(cache.get()), 20);
  Problem part = KeysOf(p, 7, 27);
  EXPECT_LT(MaxDifference(Attend(cache.get(), part, nullptr, nullptr), BruteExact(part)),
            kFloat32Error);

  const std::int64_t rows[] = {1, 1};
  ASSERT_EQ(elsa_kv_cache_reorder(cache.get(), rows, 2), ELSA_OK) << elsa_last_error();
  const auto half = [](auto& t) {  // sequence 0 becomes sequence 1
    const std::size_t size = t.values.size() / 2;
    std::copy(t.values.begin() + size, t.values.end(), t.values.begin());
  };
  half(part.key);
  half(part.value);
  EXPECT_LT(MaxDifference(Attend(cache.get(), part, nullptr, nullptr), BruteExact(part)),
            kFloat32Error);
}

TEST(CKvCache, FollowsAPlanThatWasFreed) {
  const Problem p = OneQuery();
  const Plan plan = TestPlan(8, 64, 4, 0.4);
  const auto expected = reference::RunAttend(p, &plan);
  PlanHandle handle = HandleOf(plan);
  const CacheHandle cache = MakeCache(p, handle.get());
  handle.reset();
  ASSERT_EQ(Append(cache.get(), p, 0, 40), ELSA_OK) << elsa_last_error();
  elsa_decode_options options = elsa_decode_options_init();
  options.select = ELSA_SELECT_ALWAYS;
  options.threads = 2;
  elsa_report* raw = nullptr;
  const auto out = Attend(cache.get(), p, &options, &raw);
  const ReportHandle report(raw);
  EXPECT_LT(MaxDifference(out, expected.out), kFloat32Error);
  for (int h = 0; h < 4; ++h) {
    elsa_head_report head = elsa_head_report_init();
    ASSERT_EQ(elsa_report_head(raw, h, &head), ELSA_OK);
    EXPECT_EQ(head.kept, expected.stats[h].kept);
    EXPECT_EQ(head.pairs, expected.stats[h].pairs);
  }
}

TEST(CKvCache, MasksAndStoresSixteenBits) {
  Problem p = OneQuery();
  reference::AddRandomMask(p, 0.5, 2);
  elsa_kv_cache_options options = OptionsFor(p);
  options.dtype = ELSA_BFLOAT16;
  elsa_kv_cache* raw = nullptr;
  ASSERT_EQ(elsa_kv_cache_create(&options, nullptr, 0, &raw), ELSA_OK) << elsa_last_error();
  const CacheHandle cache(raw);
  ASSERT_EQ(Append(raw, p, 0, 40), ELSA_OK) << elsa_last_error();
  elsa_decode_options decode = elsa_decode_options_init();
  decode.mask = TensorOf(p.mask, ELSA_BOOL);
  // Keys rounded to 8 bits move scores of up to 10 by up to 10/256, and weights by as much.
  EXPECT_LT(MaxDifference(Attend(raw, p, &decode, nullptr), BruteExact(p)), 0.3);
}

TEST(CKvCacheErrors, NullPointersAndOptions) {
  const Problem p = OneQuery();
  elsa_kv_cache_options options = OptionsFor(p);
  elsa_kv_cache* cache = reinterpret_cast<elsa_kv_cache*>(1);
  const auto create = [&] { return elsa_kv_cache_create(&options, nullptr, 0, &cache); };
  ExpectFailure(elsa_kv_cache_create(nullptr, nullptr, 0, &cache), ELSA_INVALID_ARGUMENT,
                {"options", "null"});
  EXPECT_EQ(cache, nullptr);
  ExpectFailure(elsa_kv_cache_create(&options, nullptr, 0, nullptr), ELSA_INVALID_ARGUMENT,
                {"cache", "null"});
  options.heads = 3;
  ExpectFailure(create(), ELSA_INVALID_ARGUMENT, {"heads"});
  options = OptionsFor(p);
  options.d = 257;
  ExpectFailure(create(), ELSA_INVALID_ARGUMENT, {"257"});
  options = OptionsFor(p);
  options.batch = -1;
  ExpectFailure(create(), ELSA_INVALID_ARGUMENT, {"batch", "-1"});
  options = OptionsFor(p);
  options.dtype = ELSA_BOOL;
  ExpectFailure(create(), ELSA_INVALID_ARGUMENT, {"dtype"});
  options = OptionsFor(p);
  options.capacity = -1;
  ExpectFailure(create(), ELSA_INVALID_ARGUMENT, {"capacity", "-1"});
  options = OptionsFor(p);
  options.struct_size = 8;
  ExpectFailure(create(), ELSA_INVALID_ARGUMENT, {"struct_size", "8"});
  options = OptionsFor(p);
  const PlanHandle other = HandleOf(TestPlan(8, 64, 3, 0.4));
  ExpectFailure(elsa_kv_cache_create(&options, other.get(), 0, &cache), ELSA_MISMATCH, {"4", "3"});

  EXPECT_EQ(elsa_kv_cache_size(nullptr), -1);
  EXPECT_EQ(elsa_kv_cache_batch(nullptr), -1);
  EXPECT_EQ(elsa_kv_cache_bytes(nullptr), -1);
  ExpectFailure(elsa_kv_cache_append(nullptr, nullptr, nullptr), ELSA_INVALID_ARGUMENT, {"cache"});
  ExpectFailure(elsa_kv_cache_evict_front(nullptr, 1), ELSA_INVALID_ARGUMENT, {"cache"});
  ExpectFailure(elsa_kv_cache_truncate(nullptr, 1), ELSA_INVALID_ARGUMENT, {"cache"});
  ExpectFailure(elsa_kv_cache_reorder(nullptr, nullptr, 1), ELSA_INVALID_ARGUMENT, {"cache"});
  ExpectFailure(elsa_kv_cache_attend(nullptr, nullptr, nullptr, nullptr, nullptr),
                ELSA_INVALID_ARGUMENT, {"cache"});
  elsa_kv_cache_free(nullptr);
}

TEST(CKvCacheErrors, AFailedCallChangesNothing) {
  const Problem p = OneQuery();
  const CacheHandle cache = MakeCache(p);
  ASSERT_EQ(Append(cache.get(), p, 0, 40), ELSA_OK) << elsa_last_error();
  const auto before = Attend(cache.get(), p, nullptr, nullptr);

  elsa_tensor key = TensorOf(p.key, ELSA_FLOAT32);
  elsa_tensor value = TensorOf(p.value, ELSA_FLOAT32);
  ExpectFailure(elsa_kv_cache_append(cache.get(), nullptr, &value), ELSA_INVALID_ARGUMENT, {"key"});
  ExpectFailure(elsa_kv_cache_append(cache.get(), &key, nullptr), ELSA_INVALID_ARGUMENT, {"value"});
  value.shape[2] = 39;
  ExpectFailure(elsa_kv_cache_append(cache.get(), &key, &value), ELSA_INVALID_ARGUMENT, {"39"});
  key.shape[1] = 1;
  ExpectFailure(elsa_kv_cache_append(cache.get(), &key, &value), ELSA_INVALID_ARGUMENT, {"key"});
  ExpectFailure(elsa_kv_cache_evict_front(cache.get(), 41), ELSA_INVALID_ARGUMENT, {"41"});
  ExpectFailure(elsa_kv_cache_evict_front(cache.get(), -1), ELSA_INVALID_ARGUMENT, {"-1"});
  ExpectFailure(elsa_kv_cache_truncate(cache.get(), 41), ELSA_INVALID_ARGUMENT, {"41"});
  ExpectFailure(elsa_kv_cache_truncate(cache.get(), -1), ELSA_INVALID_ARGUMENT, {"-1"});
  const std::int64_t rows[] = {0, 2};
  ExpectFailure(elsa_kv_cache_reorder(cache.get(), rows, 2), ELSA_INVALID_ARGUMENT, {"2"});
  ExpectFailure(elsa_kv_cache_reorder(cache.get(), rows, 0), ELSA_INVALID_ARGUMENT, {"0"});
  ExpectFailure(elsa_kv_cache_reorder(cache.get(), nullptr, 2), ELSA_INVALID_ARGUMENT, {"rows"});

  const elsa_tensor query = TensorOf(p.query, ELSA_FLOAT32);
  Out out(p);
  elsa_mutable_tensor to = out.tensor();
  ExpectFailure(elsa_kv_cache_attend(cache.get(), nullptr, &to, nullptr, nullptr),
                ELSA_INVALID_ARGUMENT, {"query"});
  ExpectFailure(elsa_kv_cache_attend(cache.get(), &query, nullptr, nullptr, nullptr),
                ELSA_INVALID_ARGUMENT, {"out"});
  to.shape[1] = 3;
  ExpectFailure(elsa_kv_cache_attend(cache.get(), &query, &to, nullptr, nullptr),
                ELSA_INVALID_ARGUMENT, {"out"});
  to = out.tensor();
  elsa_decode_options options = elsa_decode_options_init();
  options.target = "avx1024";
  ExpectFailure(elsa_kv_cache_attend(cache.get(), &query, &to, &options, nullptr),
                ELSA_INVALID_ARGUMENT, {"target", "avx1024"});
  options = elsa_decode_options_init();
  options.log_sum_exp = to;
  options.log_sum_exp.shape[3] = 1;
  ExpectFailure(elsa_kv_cache_attend(cache.get(), &query, &to, &options, nullptr),
                ELSA_INVALID_ARGUMENT, {"log_sum_exp", "overlap with out"});
  options = elsa_decode_options_init();
  options.mask = elsa_tensor_packed(to.data, ELSA_BOOL, p.query.shape[0], p.query.shape[1], 1, 40);
  ExpectFailure(elsa_kv_cache_attend(cache.get(), &query, &to, &options, nullptr),
                ELSA_INVALID_ARGUMENT, {"out", "overlap with mask"});
  options = elsa_decode_options_init();
  options.struct_size = 1;
  ExpectFailure(elsa_kv_cache_attend(cache.get(), &query, &to, &options, nullptr),
                ELSA_INVALID_ARGUMENT, {"struct_size"});

  EXPECT_EQ(elsa_kv_cache_size(cache.get()), 40);
  EXPECT_EQ(Attend(cache.get(), p, nullptr, nullptr).values, before.values);
}

}  // namespace
}  // namespace elsa::capi
