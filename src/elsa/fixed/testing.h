// Random machines and jobs for the tests of this layer and of those that use it.
#ifndef ELSA_FIXED_TESTING_H_
#define ELSA_FIXED_TESTING_H_

#include <cmath>
#include <cstdint>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/fixed/host.h"
#include "elsa/params/config.h"
#include "elsa/reference/testing.h"

namespace elsa::fixed {

inline std::int64_t Between(std::int64_t low, std::int64_t high, Random& random) {
  return low + static_cast<std::int64_t>(random.Below(high - low + 1));
}

// A valid machine of up to 64 keys with formats drawn from wide ranges.
inline Config RandomMachine(Random& random) {
  Config config;
  constexpr std::int64_t kComponents[] = {8, 16, 32, 64};
  constexpr std::int64_t kBanks[] = {1, 2, 3, 4, 5, 8};
  config.banks = kBanks[random.Below(6)];
  config.n = config.banks * Between(2, 9, random);
  config.d = kComponents[random.Below(4)];
  config.k = Between(3, 70, random);
  config.hash = random.Below(2) != 0 ? HashKind::kKronecker3 : HashKind::kDense;
  config.selectors_per_bank = 1;
  config.hash_multipliers = 1;
  config.division_multipliers = 1;
  config.remainder = random.Below(2) != 0 ? Remainder::kMean : Remainder::kNone;
  config.scaling = random.Below(2) != 0 ? HostScaling::kPowerOfTwo : HostScaling::kNone;
  config.qkv_integer_bits = Between(1, 6, random);
  config.qkv_fraction_bits = Between(1, 5, random);
  config.qkv_rounding = static_cast<Rounding>(random.Below(4));
  config.hash_fraction_bits = Between(2, 8, random);
  config.hash_stage_fraction_bits = Between(0, 3, random);
  config.norm_bits = Between(4, 12, random);
  config.norm_fraction_bits = Between(0, 5, random);
  config.sqrt_table_entries = std::int64_t{2} << random.Below(7);
  config.sqrt_fraction_bits = Between(4, 14, random);
  config.cosine_fraction_bits = Between(3, 12, random);
  config.threshold_fraction_bits = Between(3, 12, random);
  config.score_constant_bits = Between(3, 14, random);
  config.exp_table_entries = std::int64_t{2} << random.Below(7);
  config.float_exponent_bits = Between(4, 10, random);
  config.float_fraction_bits = Between(1, 12, random);
  config.accumulator = random.Below(2) != 0 ? Accumulator::kInteger : Accumulator::kFloat;
  config.accumulator_fraction_bits = Between(1, 9, random);
  config.sum_fraction_bits = Between(5, 16, random);
  config.accumulator_rounding = static_cast<Rounding>(random.Below(4));
  config.reciprocal_table_entries = std::int64_t{2} << random.Below(5);
  config.reciprocal_fraction_bits = Between(1, 12, random);
  config.output_rounding = static_cast<Rounding>(random.Below(4));
  ValidateConfig(config);
  return config;
}

// A problem that fits the machine, and a plan for it. Values are of the size that the formats are
// made for, or a few times larger, so that all of them saturate at times.
struct MachineProblem {
  reference::Problem problem;
  Plan plan;
};
inline MachineProblem RandomMachineProblem(const Config& config, std::uint64_t seed) {
  Random random(seed);
  reference::ProblemShape shape;
  shape.heads = shape.kv_heads = 1;
  shape.queries = Between(1, config.n, random);
  shape.keys = Between(1, config.n, random);
  shape.d = Between((config.d + 1) / 2, config.d, random);
  shape.d_v = Between(1, config.d, random);
  MachineProblem result{reference::RandomProblem(shape, seed), {}};
  const double factor = std::ldexp(1, static_cast<int>(Between(-2, 2, random)));
  for (auto* tensor : {&result.problem.query, &result.problem.key, &result.problem.value}) {
    for (float& x : tensor->values) x = static_cast<float>(x * factor);
  }
  result.problem.causal = random.Below(3) == 0;
  const double threshold = random.Uniform() * 0.8 - 0.2;
  result.plan = reference::TestPlan(config.d, config.k, 1, threshold, config.hash, seed);
  const bool mean = config.remainder == Remainder::kMean && !result.problem.causal;
  if (mean && random.Below(4) != 0) result.plan.remainder = Remainder::kMean;
  if (random.Below(3) == 0) result.plan.dense_below = Between(1, 12, random);
  if (random.Below(6) == 0) result.plan.thresholds[0][0] = kExactHead;
  return result;
}

inline Job JobOf(const Config& config, const reference::Problem& problem, const Plan* plan) {
  const reference::AttentionInputs inputs = problem.inputs();
  reference::HeadInputs head(inputs, 0, 0);
  return MakeJob(config, head, plan, 0, 0);
}

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_TESTING_H_
