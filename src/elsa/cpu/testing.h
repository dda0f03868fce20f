// What the tests of this layer share.
#ifndef ELSA_CPU_TESTING_H_
#define ELSA_CPU_TESTING_H_

#include <algorithm>
#include <cstdlib>
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
// times, where an emulator runs it (make test-neon and the like set ELSA_TEST_SLOWDOWN to how much
// fewer).
inline int Rounds(int full, int least = 1) {
  const char* text = std::getenv("ELSA_TEST_SLOWDOWN");
  const int slowdown = text != nullptr ? std::atoi(text) : 1;
  return slowdown > 1 ? std::min(full, std::max(full / slowdown, least)) : full;
}

}  // namespace elsa::cpu

#endif  // ELSA_CPU_TESTING_H_
