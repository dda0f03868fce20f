#include "elsa/sim/cluster.h"

#include <algorithm>
#include <deque>
#include <numeric>

namespace elsa::sim {

double Schedule::Utilisation() const {
  const double work =
      static_cast<double>(std::accumulate(busy_cycles.begin(), busy_cycles.end(), std::int64_t{0}));
  const double room = static_cast<double>(cycles) * static_cast<double>(busy_cycles.size());
  return room > 0 ? work / room : 1;
}

Schedule ScheduleJobs(const Config& config, std::span<const std::int64_t> job_cycles) {
  const auto accelerators = static_cast<std::size_t>(config.accelerators);
  const auto room = static_cast<std::size_t>(1 + config.command_queue_depth);
  Schedule schedule;
  schedule.busy_cycles.resize(accelerators);
  std::vector<std::deque<std::int64_t>> ends(accelerators);  // of the commands that it holds
  std::int64_t now = 0;
  for (const std::int64_t cycles : job_cycles) {
    std::size_t least = 0;
    while (true) {
      for (auto& held : ends) {
        while (!held.empty() && held.front() <= now) held.pop_front();
      }
      const auto fewer = [](const auto& a, const auto& b) { return a.size() < b.size(); };
      least = std::min_element(ends.begin(), ends.end(), fewer) - ends.begin();
      if (ends[least].size() < room) break;
      now = ends[0].front();  // all are full: until the first completion
      for (const auto& held : ends) now = std::min(now, held.front());
    }
    const std::int64_t begin = ends[least].empty() ? now : ends[least].back();
    ends[least].push_back(begin + cycles);
    schedule.runs.push_back({static_cast<std::int64_t>(least), begin, begin + cycles});
    schedule.busy_cycles[least] += cycles;
    schedule.cycles = std::max(schedule.cycles, begin + cycles);
  }
  return schedule;
}

}  // namespace elsa::sim
