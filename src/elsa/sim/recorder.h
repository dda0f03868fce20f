// Collects the timeline while a head runs, if one was asked for. Costs one test per event if not.
#ifndef ELSA_SIM_RECORDER_H_
#define ELSA_SIM_RECORDER_H_

#include <array>
#include <cstdint>
#include <optional>
#include <utility>

#include "elsa/sim/timeline.h"

namespace elsa::sim {

class Recorder {
 public:
  explicit Recorder(const std::optional<std::array<std::int64_t, 2>>& window) {
    if (!window) return;
    on_ = true;
    timeline_.from_cycle = (*window)[0];
    timeline_.to_cycle = (*window)[1];
  }

  bool on() const { return on_; }
  // Keeps the span if it touches the window.
  void Add(const Span& span) {
    if (!on_ || span.begin_cycle >= timeline_.to_cycle || span.end_cycle <= timeline_.from_cycle) {
      return;
    }
    timeline_.spans.push_back(span);
  }
  void Queued(std::int32_t bank, std::int64_t cycle, std::int32_t queued) {
    if (!on_ || cycle < timeline_.from_cycle || cycle >= timeline_.to_cycle) return;
    timeline_.samples.push_back({bank, cycle, queued});
  }
  Timeline Take() { return std::move(timeline_); }

 private:
  bool on_ = false;
  Timeline timeline_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_RECORDER_H_
