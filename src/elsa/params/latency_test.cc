#include "elsa/params/latency.h"

#include <gtest/gtest.h>

#include <set>

namespace elsa {
namespace {

TEST(Latencies, OfThePapersMachine) {
  const Latencies l = LatenciesOf(Config());
  EXPECT_EQ(l.Hash(), 1 + 3 + 1);            // 768 multiplications on 256 multipliers
  EXPECT_EQ(l.Norm(), 1 + (1 + 3) + 4 + 2);  // 64 products: six levels, two a cycle
  EXPECT_EQ(l.Select(), 1 + 2 + 2 + 1);
  EXPECT_EQ(l.Attention(), 1 + 1 + (1 + 3) + 3 + 4);
  EXPECT_EQ(l.Division(), (2 + 1) + 2 + 2 + 1);
}

TEST(Latencies, FollowTheMachine) {
  Config machine;
  machine.hash_multipliers = 768;  // one row per cycle, but three factors one after the other
  EXPECT_EQ(LatenciesOf(machine).hash_compute_cycles, 3);
  machine.hash_multipliers = 64;
  EXPECT_EQ(LatenciesOf(machine).hash_compute_cycles, 12);
  machine = Config();
  machine.banks = 1;
  EXPECT_EQ(LatenciesOf(machine).division_merge_cycles, 2);
  machine = Config();
  machine.remainder = Remainder::kMean;
  EXPECT_EQ(LatenciesOf(machine).attention_exp_cycles,
            LatenciesOf(Config()).attention_exp_cycles + 1);
  EXPECT_EQ(LatenciesOf(machine).mean_row_cycles, 3);
}

TEST(LatencyFields, NameEveryMemberOnce) {
  Latencies latencies;
  std::int64_t mark = 0;
  for (const LatencyField& field : LatencyFields()) latencies.*field.member = ++mark;
  std::set<std::int64_t> marks;
  for (const LatencyField& field : LatencyFields()) {
    marks.insert(latencies.*field.member);
    EXPECT_FALSE(field.doc.empty() || field.module.empty()) << field.name;
  }
  EXPECT_EQ(marks.size(), LatencyFields().size());
  EXPECT_EQ(sizeof(Latencies), LatencyFields().size() * sizeof(std::int64_t));
}

}  // namespace
}  // namespace elsa
