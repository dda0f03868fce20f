// The output division module: when all banks have a query's sums, it reads m_o components of each
// per cycle, merges them and divides. Source: Sec. IV-C "Output Division Module", Sec. IV-D
// "Parallel Pipeline".
#ifndef ELSA_SIM_OUTPUT_DIVIDER_H_
#define ELSA_SIM_OUTPUT_DIVIDER_H_

#include <cstdint>
#include <vector>

#include "elsa/sim/attention_unit.h"
#include "elsa/sim/recorder.h"

namespace elsa::sim {

class OutputDivider {
 public:
  OutputDivider(const Config& config, const Work& work, Recorder& recorder);

  // One cycle. Returns what the module did.
  Cause Step(std::int64_t cycle, const std::vector<AttentionUnit>& banks);
  // Whether it reads the last components of the banks' buffers in this cycle.
  bool freeing() const { return freeing_; }
  bool reading() const { return group_ > 0 || freeing_; }
  std::int64_t divided() const { return divided_; }  // queries read to the end
  // The cycle in which the last output so far is in memory.
  std::int64_t written_at() const { return written_at_; }

 private:
  std::int64_t queries_;
  std::int64_t groups_;   // of m_o components in a row
  std::int64_t latency_;  // from reading sums to the quotients in memory
  std::int64_t group_ = 0;
  std::int64_t divided_ = 0;
  std::int64_t began_ = 0;
  std::int64_t written_at_ = 0;
  bool freeing_ = false;
  Recorder& recorder_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_OUTPUT_DIVIDER_H_
