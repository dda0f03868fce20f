// The attention computation module of one bank: a pipeline that takes a candidate per cycle and
// leaves a query's sums in its output buffer. If that still holds the sums of the query before,
// the pipeline stands still. Source: Sec. IV-C "Attention Computation Module".
#ifndef ELSA_SIM_ATTENTION_UNIT_H_
#define ELSA_SIM_ATTENTION_UNIT_H_

#include <cstdint>
#include <vector>

#include "elsa/sim/candidate_arbiter.h"
#include "elsa/sim/recorder.h"

namespace elsa::sim {

class AttentionUnit {
 public:
  AttentionUnit(const Config& config, std::int64_t bank, Recorder& recorder);

  // Whether the pipeline stands still in this cycle; `freeing`: the divider reads the last of the
  // output buffer in it.
  bool Frozen(bool freeing) const { return pipeline_[oldest_].last && buffer_full_ && !freeing; }
  // Moves the pipeline and takes what the arbiter picked; not if it stands still.
  void Step(std::int64_t cycle, const Token& token);
  // Ends the cycle: the output buffer as the next cycle sees it.
  void Commit(bool freed);
  bool buffer_full() const { return buffer_full_; }

 private:
  struct Stage {
    Token token;
    std::int64_t picked_at = 0;
    bool last = false;
  };
  std::int64_t bank_;
  std::vector<Stage> pipeline_;  // ring: one token per stage
  std::size_t oldest_ = 0;
  bool buffer_full_ = false;
  bool arrived_ = false;
  Recorder& recorder_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_ATTENTION_UNIT_H_
