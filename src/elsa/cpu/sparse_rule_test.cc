#include "elsa/cpu/sparse_rule.h"

#include <gtest/gtest.h>

namespace elsa::cpu {
namespace {

RuleCase CaseOf(std::int64_t n) {
  RuleCase r;
  r.queries = r.keys = n;
  r.d = r.d_v = 64;
  r.hash_bits = 64;
  return r;
}

TEST(SparseRule, SelectsWhereFewKeysAreKeptAndSequencesAreLong) {
  EXPECT_FALSE(ExactBefore(CaseOf(2048), 0.1));
  EXPECT_FALSE(ExactAfter(CaseOf(2048), 0.3));
  EXPECT_FALSE(ExactBefore(CaseOf(512), 0.2));
  EXPECT_EQ(ExactBefore(CaseOf(2048), 0.95), Path::kExactExpected);
  EXPECT_EQ(ExactAfter(CaseOf(2048), 0.95), Path::kExactObserved);
  EXPECT_EQ(ExactBefore(CaseOf(16), 0.1), Path::kExactTooShort);
}

TEST(SparseRule, EveryCostPullsItsWay) {
  const RuleCase base = CaseOf(1024);
  const double cost = RelativeCost(base, 0.2);
  EXPECT_LT(RelativeCost(base, 0.1), cost);
  EXPECT_LT(RelativeCost(CaseOf(4096), 0.2), cost);
  RuleCase r = base;
  r.bits16 = true;
  EXPECT_LT(RelativeCost(r, 0.2), cost);
  r = base;
  r.hash_bits = 256;
  EXPECT_GT(RelativeCost(r, 0.2), cost);
  r = base;
  r.group = 4;
  EXPECT_LT(RelativeCost(r, 0.2), cost);
  r = base;
  r.mean_row = true;
  EXPECT_GT(RelativeCost(r, 0.2), cost);
  r = base;
  r.visible = 0.5;
  EXPECT_GT(RelativeCost(r, 0.2), cost);
  r = base;
  r.own_masks = r.mean_row = true;
  EXPECT_GT(RelativeCost(r, 0.2), 1);  // its means alone cost what exact attention does
}

TEST(SparseRule, QueriesThatRunDenseCountAsKeepingAll) {
  RuleCase r = CaseOf(1024);
  r.dense_below = 1000;
  EXPECT_FALSE(ExactAfter(r, 0.1));
  r.visible = 0.5;  // causal: most queries see fewer
  EXPECT_TRUE(ExactAfter(r, 0.1));
  r.dense_below = 100;
  EXPECT_FALSE(ExactAfter(r, 0.1));
  r.dense_below = 2000;
  r.visible = 1;
  EXPECT_TRUE(ExactAfter(r, 0.1));
}

TEST(SparseRule, TilesAreWhatKernelsTake) {
  for (bool bits16 : {false, true}) {
    for (double kept : {0.0, 0.05, 0.15, 0.3, 1.0}) {
      const TileShape shape = ShapeFor(bits16, kept);
      EXPECT_GT(shape.queries, 0);
      EXPECT_EQ(shape.super_block % 64, 0);
      EXPECT_LE(shape.super_block, 32768);
      EXPECT_GE(shape.key_block, 1);
      EXPECT_GE(shape.value_block, 1);
    }
  }
}

}  // namespace
}  // namespace elsa::cpu
