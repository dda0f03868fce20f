// Random machines on random work: none deadlocks, every cycle has a cause, every candidate is
// attended once. A failure prints the machine and the seed that repeat it.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "elsa/params/derived.h"
#include "elsa/params/hash_shape.h"
#include "elsa/params/latency.h"
#include "elsa/sim/accelerator.h"
#include "elsa/sim/testing.h"

namespace elsa::sim {
namespace {

constexpr int kMachines = 4000;

template <std::size_t N>
std::int64_t Pick(Random& random, const std::array<std::int64_t, N>& choices) {
  return choices[random.Below(N)];
}

std::int64_t RandomDivisor(Random& random, std::int64_t work) {
  std::vector<std::int64_t> divisors;
  for (std::int64_t i = 1; i <= work; ++i) {
    if (work % i == 0) divisors.push_back(i);
  }
  return divisors[random.Below(divisors.size())];
}

Config RandomMachine(Random& random) {
  Config c;
  c.d = Pick(random, std::array<std::int64_t, 5>{8, 12, 16, 32, 64});
  c.k = Pick(random, std::array<std::int64_t, 6>{5, 8, 16, 32, 64, 100});
  c.hash = random.Below(2) == 0 ? HashKind::kKronecker3 : HashKind::kDense;
  c.banks = 1 + static_cast<std::int64_t>(random.Below(6));
  c.n = c.banks * (1 + static_cast<std::int64_t>(random.Below(20)));
  c.selectors_per_bank = 1 + static_cast<std::int64_t>(random.Below(c.n / c.banks));
  c.hash_multipliers = RandomDivisor(random, Multiplications(HashShapes(c.hash, c.d, c.k)));
  c.division_multipliers = RandomDivisor(random, c.d);
  c.queue_depth = 1 + static_cast<std::int64_t>(random.Below(random.Below(4) == 0 ? 40 : 3));
  c.query_buffers = 2 + static_cast<std::int64_t>(random.Below(random.Below(4) == 0 ? 15 : 2));
  c.remainder = random.Below(2) == 0 ? Remainder::kMean : Remainder::kNone;
  c.transfer = random.Below(2) == 0 ? HostTransfer::kCopy : HostTransfer::kReference;
  ValidateConfig(c);
  return c;
}

Work RandomWork(const Config& c, Random& random) {
  Work w;
  w.queries = 1 + static_cast<std::int64_t>(random.Below(c.n));
  w.keys = 1 + static_cast<std::int64_t>(random.Below(c.n));
  w.d = 1 + static_cast<std::int64_t>(random.Below(c.d));
  w.d_v = 1 + static_cast<std::int64_t>(random.Below(c.d));
  w.exact = random.Below(5) == 0;
  w.causal = random.Below(3) == 0;
  w.mean_row = !w.causal && !w.exact && c.remainder == Remainder::kMean;
  return w;
}

// More cycles than any machine without a deadlock needs: every stage of every query one after the
// other.
std::int64_t Sequential(const Config& c, const Work& w) {
  const Latencies l = LatenciesOf(c);
  const Derived d = Derive(c);
  const std::int64_t one = d.hash_cycles + l.Hash() + 2 * w.keys + 2 + l.Select() + l.Attention() +
                           c.d + l.Division() + l.query_read_cycles;
  return 2 * w.queries * one;
}

TEST(AcceleratorProperty, NoMachineDeadlocksAndEveryCycleHasACause) {
  for (std::uint64_t seed = 1; seed <= kMachines; ++seed) {
    Random random(seed);
    const Config config = RandomMachine(random);
    Work work = RandomWork(config, random);
    const double share = random.Below(4) == 0 ? 1.0 : random.Uniform() * random.Uniform();
    const fixed::Candidates candidates = RandomCandidates(work, share, random);
    if (!work.exact) work.candidates = &candidates;
    const Result result = Simulate(config, work, {.record_order = true, .timeline = {}});
    const Report& r = result.report;

    std::int64_t expected = 0;
    std::int64_t with_mean_row = 0;
    for (std::int64_t i = 0; i < work.queries; ++i) {
      const std::int64_t visible = work.causal ? std::min(i + 1, work.keys) : work.keys;
      std::int64_t kept = 0;
      for (std::int64_t j = 0; j < visible; ++j) {
        kept += work.exact || candidates.Kept(i, j) || candidates.fallback[i] == j ? 1 : 0;
      }
      expected += kept;
      with_mean_row += work.mean_row && kept < visible ? 1 : 0;
    }
    std::int64_t causes = Sum(r.machine);
    std::string wrong;
    if (r.counters.candidates != expected) wrong += " candidates";
    if (static_cast<std::int64_t>(result.order.keys.size()) != expected) wrong += " order";
    if (r.counters.mean_rows != with_mean_row) wrong += " mean rows";
    if (causes != r.cycles) wrong += " causes";
    for (std::size_t m = 0; m < kModules; ++m) {
      if (Sum(r.modules[m]) != r.cycles * r.instances[m]) {
        wrong += " " + std::string(Name(static_cast<Module>(m)));
      }
    }
    if (r.execute_cycles > Sequential(config, work)) wrong += " too slow";
    if (r.longest_queue > config.queue_depth) wrong += " queue";
    ASSERT_EQ(wrong, "") << "seed " << seed << ", machine " << Digest(config);
  }
}

}  // namespace
}  // namespace elsa::sim
