// What the tests of this layer share.
#ifndef ELSA_CPU_TESTING_H_
#define ELSA_CPU_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <set>
#include <vector>

#include "elsa/cpu/target.h"

namespace elsa::cpu {

// The targets that run here, plainest first: a test loops over all of them.
inline std::vector<Target> RunningTargets() {
  std::vector<Target> running;
  for (const TargetInfo& info : Targets()) {
    if (info.runs) running.push_back(info.target);
  }
  return running;
}

// How often a random test repeats: `full` times on a real processor; fewer, but at least `least`
// times, under an emulator or a sanitizer (the test presets set ELSA_TEST_SLOWDOWN to how much
// fewer).
inline int Rounds(int full, int least = 1) {
  const char* text = std::getenv("ELSA_TEST_SLOWDOWN");
  const int slowdown = text != nullptr ? std::atoi(text) : 1;
  return slowdown > 1 ? std::min(full, std::max(full / slowdown, least)) : full;
}

// The lengths that every test of random shapes meets: one key, what lies beside the ends of
// vectors, words and tiles, and more than a block.
inline constexpr std::int64_t kNamedLengths[] = {1, 7, 63, 65, 1000};

// Queries and keys of a case; 0: any.
struct Lengths {
  std::int64_t queries = 0;
  std::int64_t keys = 0;
};

// What a round of a random test has to draw. Every fourth round names lengths. 1000 comes seldom,
// and every other time with a few queries only, because it costs as much as a hundred others; the
// first 20 rounds meet all.
inline Lengths LengthsOf(int round) {
  if (round % 4 != 0) return {};
  if (round % 40 == 0) return {round % 80 == 0 ? 1000 : 0, 1000};
  const std::int64_t n = kNamedLengths[round / 4 % 4];
  return {n, n};
}

// The lengths that a random test met.
class MetLengths {
 public:
  void Add(std::int64_t queries, std::int64_t keys) {
    queries_.insert(queries);
    keys_.insert(keys);
  }
  void ExpectNamedOnes() const {
    for (std::int64_t n : kNamedLengths) {
      EXPECT_GT(queries_.count(n), 0u) << n << " queries";
      EXPECT_GT(keys_.count(n), 0u) << n << " keys";
    }
  }

 private:
  std::set<std::int64_t> queries_;
  std::set<std::int64_t> keys_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_TESTING_H_
