#include "elsa/base/parallel_for.h"

#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <vector>

namespace elsa {
namespace {

TEST(ParallelFor, RunsEveryIndexOnce) {
  for (int threads : {0, 1, 2, 5}) {
    std::vector<std::atomic<int>> runs(1000);
    ParallelFor(1000, threads, [&](std::int64_t i) { ++runs[i]; });
    for (const auto& count : runs) EXPECT_EQ(count, 1);
  }
}

TEST(ParallelFor, DoesNothingForNoItems) {
  ParallelFor(0, 4, [](std::int64_t) { FAIL(); });
  ParallelFor(-3, 4, [](std::int64_t) { FAIL(); });
}

TEST(ParallelFor, RethrowsATaskError) {
  for (int threads : {1, 4}) {
    EXPECT_THROW(ParallelFor(100, threads,
                             [](std::int64_t i) {
                               if (i == 37) throw std::runtime_error("item 37");
                             }),
                 std::runtime_error);
  }
}

}  // namespace
}  // namespace elsa
