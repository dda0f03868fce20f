// Prints random machines and work, and the cycles that `sim` takes for them, one JSON object per
// line: the C++ half of cycle_oracle_test.py. Usage: elsa_timed_works FIRST_SEED COUNT
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "elsa/params/derived.h"
#include "elsa/params/latency.h"
#include "elsa/sim/testing.h"

namespace elsa::sim {
namespace {

using nlohmann::json;

std::int64_t Among(Random& random, std::int64_t from, std::int64_t to) {
  return from + static_cast<std::int64_t>(random.Below(to - from + 1));
}

Config RandomMachine(Random& random) {
  Config c;
  c.d = 16;
  c.k = 16;
  c.banks = Among(random, 1, 4);
  c.n = c.banks * Among(random, 2, 12);
  c.selectors_per_bank = Among(random, 1, std::min<std::int64_t>(4, c.n / c.banks));
  constexpr std::int64_t kHashMultipliers[] = {8, 16, 32, 64, 128};  // of 128
  c.hash_multipliers = kHashMultipliers[random.Below(5)];
  constexpr std::int64_t kDivisionMultipliers[] = {1, 2, 4, 8, 16};
  c.division_multipliers = kDivisionMultipliers[random.Below(5)];
  c.queue_depth = Among(random, 1, 4);
  c.query_buffers = Among(random, 2, 5);
  c.remainder = random.Below(2) == 0 ? Remainder::kMean : Remainder::kNone;
  ValidateConfig(c);
  return c;
}

json CaseOf(std::uint64_t seed) {
  Random random(seed);
  const Config c = RandomMachine(random);
  Work w{.queries = Among(random, 1, c.n),
         .keys = Among(random, 1, c.n),
         .d = Among(random, 1, c.d),
         .d_v = Among(random, 1, c.d),
         .causal = random.Below(4) == 0,
         .exact = random.Below(6) == 0};
  w.mean_row = !w.causal && !w.exact && c.remainder == Remainder::kMean;
  fixed::Candidates candidates = RandomCandidates(w, random.Uniform() * random.Uniform(), random);
  for (std::int64_t i = 0; i < w.queries; ++i) {
    const std::int64_t visible = w.causal ? std::min(i + 1, w.keys) : w.keys;
    if (candidates.fallback[i] >= 0) {
      candidates.fallback[i] = static_cast<std::int32_t>(random.Below(visible));
    }
  }
  if (!w.exact) w.candidates = &candidates;
  const Result result = Simulate(c, w, {.record_order = true, .timeline = {}});
  json kept = json::array();
  for (std::int64_t i = 0; i < w.queries; ++i) {
    json keys = json::array();
    for (std::int64_t j = 0; j < w.keys; ++j) {
      if (candidates.Kept(i, j)) keys.push_back(j);
    }
    kept.push_back(keys);
  }
  const Latencies latencies = LatenciesOf(c);
  json latency;
  for (const LatencyField& field : LatencyFields()) {
    latency[std::string(field.name)] = latencies.*field.member;
  }
  const Report& r = result.report;
  return {{"seed", seed},
          {"machine",
           {{"banks", c.banks},
            {"selectors_per_bank", c.selectors_per_bank},
            {"hash_cycles", Derive(c).hash_cycles},
            {"division_multipliers", c.division_multipliers},
            {"queue_depth", c.queue_depth},
            {"query_buffers", c.query_buffers}}},
          {"latency", latency},
          {"queries", w.queries},
          {"keys", w.keys},
          {"d_v", w.d_v},
          {"causal", w.causal},
          {"exact", w.exact},
          {"mean_row", w.mean_row},
          {"kept", kept},
          {"fallback", candidates.fallback},
          {"preprocess_cycles", r.preprocess_cycles},
          {"execute_cycles", r.execute_cycles},
          {"order", result.order.keys}};
}

}  // namespace
}  // namespace elsa::sim

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::uint64_t first = std::strtoull(argv[1], nullptr, 10);
  const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
  for (std::uint64_t seed = first; seed < first + count; ++seed) {
    std::puts(elsa::sim::CaseOf(seed).dump().c_str());
  }
  return 0;
}
