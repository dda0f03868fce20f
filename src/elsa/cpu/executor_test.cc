#include "elsa/cpu/executor.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <vector>

namespace elsa::cpu {
namespace {

TEST(ThreadPool, RunsEveryItemOnce) {
  ThreadPool pool(4);
  std::vector<std::atomic<int>> ran(1000);
  pool.Run(1000, [&](std::int64_t i) { ++ran[static_cast<std::size_t>(i)]; });
  for (const std::atomic<int>& times : ran) EXPECT_EQ(times, 1);
}

// As many items as threads, and hardly any work: often the caller is done before a helper, woken
// late, begins the item that it took.
TEST(ThreadPool, ManyShortJobsRunEveryItem) {
  ThreadPool pool(3);
  std::atomic<int> ran = 0;
  constexpr int kJobs = 20000;
  for (int job = 0; job < kJobs; ++job) pool.Run(3, [&](std::int64_t) { ++ran; });
  EXPECT_EQ(ran, 3 * kJobs);
}

TEST(ThreadPool, AnExceptionOfATaskIsRethrownAndThePoolStaysUsable) {
  ThreadPool pool(3);
  const auto fail = [](std::int64_t i) {
    if (i == 5) throw std::runtime_error("five");
  };
  for (int job = 0; job < 100; ++job) EXPECT_THROW(pool.Run(10, fail), std::runtime_error);
  std::atomic<int> ran = 0;
  pool.Run(10, [&](std::int64_t) { ++ran; });
  EXPECT_EQ(ran, 10);
}

}  // namespace
}  // namespace elsa::cpu
