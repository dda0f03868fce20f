// One ELSA accelerator, clock by clock: how many cycles a head takes, where they went, and in which
// order candidates reached the attention modules. Source: Sec. IV-B to IV-D; latencies are those
// of elsa/params/latency.h. Time only: values are elsa/fixed/head.h's, given the same order.
#ifndef ELSA_SIM_ACCELERATOR_H_
#define ELSA_SIM_ACCELERATOR_H_

#include <array>
#include <cstdint>
#include <optional>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/report.h"
#include "elsa/sim/timeline.h"

namespace elsa::sim {

// What time depends on: sizes, mode and, unless exact, the outcome of selection.
struct Work {
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  std::int64_t d = 0;    // components of a query and key
  std::int64_t d_v = 0;  // of a value
  bool causal = false;   // query i sees keys 0 to i
  bool exact = false;    // no preprocessing, no selection
  bool mean_row = false;
  const fixed::Candidates* candidates = nullptr;  // null if exact

  // Keys that the query sees: the first ones.
  std::int64_t Visible(std::int64_t query) const {
    return causal && query + 1 < keys ? query + 1 : keys;
  }
};

struct Options {
  bool record_order = false;
  // Record what happens from the first cycle on, up to the second, exclusive.
  std::optional<std::array<std::int64_t, 2>> timeline;
};

struct Result {
  Report report;
  fixed::IssueOrder order;  // empty unless recorded
  Timeline timeline;        // empty unless recorded
};

// Simulates one head from its command to its completion. `config` is valid.
// Errors: kMismatch if the work exceeds the machine's n or candidates are missing or of other
// sizes.
Result Simulate(const Config& config, const Work& work, const Options& options = {});

}  // namespace elsa::sim

#endif  // ELSA_SIM_ACCELERATOR_H_
