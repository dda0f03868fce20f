#include "elsa/cpu/target.h"

#include <gtest/gtest.h>

#include "elsa/cpu/executor.h"

namespace elsa::cpu {
namespace {

TEST(Target, SomethingRunsAndTheLastThatRunsIsTheMostCapable) {
  bool portable_runs = false;
  for (const TargetInfo& info : Targets()) {
    portable_runs = portable_runs || (info.target == Target::kPortable && info.runs);
    if (info.runs) {
      EXPECT_FALSE(info.compiled_for.empty()) << info.name;
    }
  }
  EXPECT_TRUE(portable_runs);
}

}  // namespace
}  // namespace elsa::cpu
