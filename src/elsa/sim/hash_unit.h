// The hash computation module in the execution phase: one query after the other, ahead of the
// banks as far as there are query buffers. In the exact mode nothing is hashed and the same
// component stands for the reads of query vectors. Source: Sec. IV-C (2), Fig. 9.
// The preprocessing phase, where nothing can hold it up, is in closed form: controller.h.
#ifndef ELSA_SIM_HASH_UNIT_H_
#define ELSA_SIM_HASH_UNIT_H_

#include <cstdint>
#include <vector>

#include "elsa/sim/head.h"
#include "elsa/sim/recorder.h"

namespace elsa::sim {

class HashUnit {
 public:
  // `ready` queries have their hash when the phase begins.
  HashUnit(const Config& config, const Work& work, std::int64_t ready, Recorder& recorder);

  // One cycle; `attended` queries have left the banks. Returns what the unit did.
  Cause Step(std::int64_t cycle, std::int64_t attended);
  // Whether the query's hash and vector can be used in this cycle.
  bool Ready(std::int64_t cycle, std::int64_t query) const {
    return query < started_ && ready_at_[query % buffers_] <= cycle;
  }
  // Whether the next query waits for a buffer.
  bool blocked() const { return blocked_; }

 private:
  std::int64_t queries_;
  bool exact_;
  std::int64_t interval_;  // cycles from one start to the next
  std::int64_t latency_;   // cycles from a start until the hash can be used
  std::int64_t buffers_;
  std::int64_t started_;
  std::int64_t busy_until_ = 0;
  bool blocked_ = false;
  std::vector<std::int64_t> ready_at_;  // [buffers]
  Recorder& recorder_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_HASH_UNIT_H_
