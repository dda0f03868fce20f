#include "elsa/cpu/kv_cache.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "elsa/reference/testing.h"

namespace elsa::cpu {
namespace {

TEST(KvCache, OneQueryOverAppendedKeysIsAttentionOverAllOfThem) {
  const reference::Problem p = reference::RandomProblem({2, 4, 2, 1, 70, 8, 8}, 1);
  KvCache cache({.batch = 2, .kv_heads = 2, .heads = 4, .d = 8, .d_v = 8});
  const Tensor key(p.key.view());
  const Tensor value(p.value.view());
  for (std::int64_t j = 0; j < 70; j += 7) {
    const auto part = [&](Tensor t) {
      t.data = t.Row(0, 0, j);
      t.shape[2] = 7;
      return t;
    };
    cache.Append(part(key), part(value));
  }
  ASSERT_EQ(cache.size(), 70);
  std::vector<float> out(2 * 4 * 8);
  const View<float, 4> to(out.data(), {2, 4, 1, 8});
  cache.Attend(p.query.view(), to, {.scale = p.scale});
  const reference::Tensor<double> expected = reference::BruteExact(p);
  for (std::size_t i = 0; i < out.size(); ++i) EXPECT_NEAR(out[i], expected.values[i], 1e-5);
}

}  // namespace
}  // namespace elsa::cpu
