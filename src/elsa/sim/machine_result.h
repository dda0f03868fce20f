// What a machine that ELSA is compared with takes for one head, or for several summed up: time,
// work, and how far the numbers can be trusted. Source: Sec. V-C and V-E. Plain data; what each
// machine assumes is in its notes and in docs/reference/machines.md. ELSA's own report, with its
// causes of stalls, is elsa/sim/report.h.
#ifndef ELSA_SIM_MACHINE_RESULT_H_
#define ELSA_SIM_MACHINE_RESULT_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace elsa::sim {

// Where the time comes from, best first.
enum class MachineModel {
  kMeasured,        // by a clock, on this computer
  kSimulated,       // decisions on the head's own integers, stages followed query by query
  kAnalytic,        // a formula of sizes and peak rates
  kPublishedRatio,  // a ratio that a paper measured, times our own time of its reference
};
std::string_view Name(MachineModel model);  // "measured" "simulated" "analytic" "published ratio"

struct MachineResult {
  std::string machine;  // its name in MachineNames()
  MachineModel model = MachineModel::kAnalytic;
  std::int64_t heads = 0;

  // Of one accelerator working alone on one head after another; 0 if the machine has no such time.
  double cycles = 0;             // preprocessing included
  double preprocess_cycles = 0;  // before the first query; part of cycles
  double selection_cycles = 0;   // the selecting hardware's own; most of it overlaps the rest
  double latency_s = 0;          // cycles / clock
  // With all accelerators busy on different heads: the time per head that throughput means. The
  // range is that of a published ratio; elsewhere both ends equal batch_s.
  double batch_s = 0;
  double batch_min_s = 0;
  double batch_max_s = 0;

  std::int64_t pairs = 0;         // (query, visible key)
  std::int64_t scored_pairs = 0;  // of these: the exact score is computed
  std::int64_t kept_pairs = 0;    // of these: take part in softmax and weighted sum
  std::int64_t packed_slots =
      0;  // slots that kept pairs occupy, empty ones included; 0: no packing

  // Only if asked for (MachineOptions::mass).
  std::int64_t mass_queries = 0;  // queries that see a key
  double mass_sum = 0;            // over them: the share of exact softmax mass on kept keys

  std::vector<std::string> notes;  // assumptions, one sentence each

  // The share of slots that do useful work; 1 if the machine does not pack.
  double PackingUtilisation() const {
    return packed_slots == 0 ? 1.0
                             : static_cast<double>(kept_pairs) / static_cast<double>(packed_slots);
  }
  // The mean over queries; 0 if it was not asked for.
  double MassKept() const {
    return mass_queries == 0 ? 0.0 : mass_sum / static_cast<double>(mass_queries);
  }
  // Adds another head; notes stay this one's unless it has none.
  // Errors: kMismatch if both have a machine and it is not the same one.
  MachineResult& operator+=(const MachineResult& other);
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_RESULT_H_
