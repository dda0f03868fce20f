#include "elsa/sim/attend.h"

#include <gtest/gtest.h>

#include <mutex>
#include <vector>

#include "elsa/reference/testing.h"

namespace elsa::sim {
namespace {

using reference::Problem;
using reference::RandomProblem;
using reference::TestPlan;

// A machine for d = 16, k = 16: factors 4 x 2 x 2, 128 multiplications.
Config SmallMachine(const char* formats) {
  Config config;
  config.n = 64;
  config.d = 16;
  config.k = 16;
  config.hash_multipliers = 64;
  config.division_multipliers = 8;
  config.queue_depth = 2;
  SetFormats(&config, formats);
  return config;
}

struct Outcome {
  std::vector<float> values;
  AttendResult result;
};

Outcome RunSim(const Config& config, const Problem& p, const Plan* plan, AttendOptions options) {
  Outcome outcome;
  const reference::AttentionInputs inputs = p.inputs();
  const std::array<std::int64_t, 4> shape{inputs.batch(), inputs.heads(), inputs.query.shape[2],
                                          inputs.value.shape[3]};
  outcome.values.resize(View<float, 4>(nullptr, shape).size(), -7);
  outcome.result =
      Attend(config, inputs, plan, 0, View<float, 4>(outcome.values.data(), shape), options);
  return outcome;
}

TEST(SimAttend, HasTheBitsOfFixedInItsOwnOrder) {
  for (const char* formats : {"paper-literal", "recommended"}) {
    const Config config = SmallMachine(formats);
    Problem p = RandomProblem(
        {.batch = 2, .heads = 3, .kv_heads = 3, .queries = 40, .keys = 40, .d = 16, .d_v = 16}, 9);
    p.key_lengths = {40, 23};
    const Plan plan = TestPlan(16, 16, 3, 0.1);
    // The second path: job, selection, time and values by hand, head by head.
    const reference::AttentionInputs inputs = p.inputs();
    const Outcome outcome = RunSim(config, p, &plan, {});
    std::int64_t reordered = 0;
    for (std::int64_t b = 0; b < 2; ++b) {
      for (std::int64_t h = 0; h < 3; ++h) {
        reference::HeadInputs rows(inputs, b, h);
        const fixed::Job job = fixed::MakeJob(config, rows, &plan, 0, h);
        const fixed::Candidates candidates = fixed::SelectCandidates(config, job);
        const Result run = Simulate(config, WorkOf({b, h, job, &candidates}),
                                    {.record_order = true, .timeline = {}});
        const auto expected = fixed::Attend(config, job, &candidates, &run.order);
        std::vector<float> head(40 * 16);
        const View<float, 2> out(head.data(), {40, 16});
        fixed::StoreOutput(config, job, expected.rows, out);
        for (std::int64_t i = 0; i < job.queries; ++i) {
          for (std::int64_t c = 0; c < 16; ++c) {
            ASSERT_EQ(outcome.values[((b * 3 + h) * 40 + i) * 16 + c], head[i * 16 + c]);
          }
        }
        EXPECT_EQ(outcome.result.reports[b * 3 + h].cycles, run.report.cycles);
        for (std::size_t at = 1; at < run.order.keys.size(); ++at) {
          reordered += run.order.keys[at] < run.order.keys[at - 1] ? 1 : 0;
        }
      }
    }
    EXPECT_GT(reordered, 6 * 40 * 4);  // more than the steps from bank to bank and query to query
  }
}

TEST(SimAttend, ExactHeadsHaveTheBitsOfTheEngineFixed) {
  const Config config = SmallMachine("recommended");
  const Problem p = RandomProblem(
      {.batch = 1, .heads = 2, .kv_heads = 1, .queries = 30, .keys = 30, .d = 16, .d_v = 8}, 10);
  const Outcome outcome = RunSim(config, p, nullptr, {});
  std::vector<float> values(outcome.values.size());
  const reference::AttentionInputs inputs = p.inputs();
  fixed::Attend(config, inputs, nullptr, 0, View<float, 4>(values.data(), {1, 2, 30, 8}));
  EXPECT_EQ(outcome.values, values);
}

TEST(SimAttend, CyclesAloneTouchNoOutputAndAreTheSame) {
  const Config config = SmallMachine("paper-literal");
  const Problem p = RandomProblem(
      {.batch = 2, .heads = 2, .kv_heads = 2, .queries = 20, .keys = 20, .d = 16, .d_v = 16}, 11);
  const Plan plan = TestPlan(16, 16, 2, 0.1);
  const Outcome with = RunSim(config, p, &plan, {});
  std::mutex mutex;
  std::int64_t observed = 0;
  AttendOptions options;
  options.threads = 3;
  options.values = false;
  options.observe = [&](const fixed::HeadJob& head, const Report& report) {
    const std::lock_guard lock(mutex);
    EXPECT_NE(head.candidates, nullptr);
    observed += report.cycles;
  };
  const Outcome without = RunSim(config, p, &plan, options);
  EXPECT_EQ(without.values, std::vector<float>(without.values.size(), -7));
  std::int64_t cycles = 0;
  for (std::size_t item = 0; item < 4; ++item) {
    EXPECT_EQ(with.result.reports[item].cycles, without.result.reports[item].cycles);
    cycles += with.result.reports[item].cycles;
  }
  EXPECT_EQ(observed, cycles);
  for (std::size_t head = 0; head < 2; ++head) {
    EXPECT_EQ(with.result.fixed.heads[head].kept, without.result.fixed.heads[head].kept);
  }
}

}  // namespace
}  // namespace elsa::sim
