#include "elsa/sim/cluster.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "elsa/base/random.h"

namespace elsa::sim {
namespace {

Config Machine(std::int64_t accelerators, std::int64_t depth) {
  Config config;
  config.accelerators = accelerators;
  config.command_queue_depth = depth;
  return config;
}

TEST(ScheduleJobs, SharesEqualJobsEvenly) {
  const std::vector<std::int64_t> jobs(24, 100);
  const Schedule s = ScheduleJobs(Machine(12, 2), jobs);
  EXPECT_EQ(s.cycles, 200);
  EXPECT_EQ(s.Utilisation(), 1.0);
  EXPECT_EQ(s.busy_cycles, std::vector<std::int64_t>(12, 200));
}

TEST(ScheduleJobs, ByHandOnTwoAccelerators) {
  // Both queues take one waiting command. 0 and 1 start; 2 waits behind 0, 3 behind 1; job 4 is
  // handed over when job 1 ends at 3 (accelerator 1 then holds job 3 only).
  const std::vector<std::int64_t> jobs{10, 3, 4, 5, 6};
  const Schedule s = ScheduleJobs(Machine(2, 1), jobs);
  const std::vector<std::array<std::int64_t, 3>> expected{
      {0, 0, 10}, {1, 0, 3}, {0, 10, 14}, {1, 3, 8}, {1, 8, 14}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(s.runs[i].accelerator, expected[i][0]) << i;
    EXPECT_EQ(s.runs[i].begin_cycle, expected[i][1]) << i;
    EXPECT_EQ(s.runs[i].end_cycle, expected[i][2]) << i;
  }
  EXPECT_EQ(s.cycles, 14);
  EXPECT_EQ(s.Utilisation(), 28.0 / 28.0);
}

TEST(ScheduleJobs, NothingToDo) {
  const Schedule s = ScheduleJobs(Machine(3, 1), {});
  EXPECT_EQ(s.cycles, 0);
  EXPECT_EQ(s.Utilisation(), 1.0);
}

TEST(ScheduleJobs, NeverOverlapsAndStaysWithinTheBoundOfListScheduling) {
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    const std::int64_t accelerators = 1 + static_cast<std::int64_t>(random.Below(12));
    std::vector<std::int64_t> jobs(random.Below(60));
    for (std::int64_t& job : jobs) job = 1 + static_cast<std::int64_t>(random.Below(1000));
    const std::int64_t depth = 1 + static_cast<std::int64_t>(random.Below(3));
    const Schedule s = ScheduleJobs(Machine(accelerators, depth), jobs);
    std::vector<std::int64_t> free_at(accelerators);
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      EXPECT_GE(s.runs[i].begin_cycle, free_at[s.runs[i].accelerator]);
      EXPECT_EQ(s.runs[i].end_cycle - s.runs[i].begin_cycle, jobs[i]);
      free_at[s.runs[i].accelerator] = s.runs[i].end_cycle;
    }
    if (jobs.empty()) continue;
    const std::int64_t longest = *std::max_element(jobs.begin(), jobs.end());
    const std::int64_t work = std::accumulate(jobs.begin(), jobs.end(), std::int64_t{0});
    EXPECT_GE(s.cycles, std::max(longest, (work + accelerators - 1) / accelerators));
    // A queue can hold an accelerator's last jobs while others are done: depth + 1 of them.
    EXPECT_LE(s.cycles, work / accelerators + (depth + 1) * longest);
  }
}

}  // namespace
}  // namespace elsa::sim
