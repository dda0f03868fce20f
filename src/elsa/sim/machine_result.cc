#include "elsa/sim/machine_result.h"

#include "elsa/base/error.h"

namespace elsa::sim {

std::string_view Name(MachineModel model) {
  switch (model) {
    case MachineModel::kMeasured:
      return "measured";
    case MachineModel::kSimulated:
      return "simulated";
    case MachineModel::kAnalytic:
      return "analytic";
    case MachineModel::kPublishedRatio:
      return "published ratio";
  }
  return "";
}

MachineResult& MachineResult::operator+=(const MachineResult& other) {
  if (other.heads == 0) return *this;
  if (heads == 0) return *this = other;
  if (machine != other.machine) {
    throw Error(ErrorCode::kMismatch,
                "machine results: expected one of '" + machine + "', got '" + other.machine + "'");
  }
  heads += other.heads;
  cycles += other.cycles;
  preprocess_cycles += other.preprocess_cycles;
  selection_cycles += other.selection_cycles;
  latency_s += other.latency_s;
  batch_s += other.batch_s;
  batch_min_s += other.batch_min_s;
  batch_max_s += other.batch_max_s;
  pairs += other.pairs;
  scored_pairs += other.scored_pairs;
  kept_pairs += other.kept_pairs;
  packed_slots += other.packed_slots;
  mass_queries += other.mass_queries;
  mass_sum += other.mass_sum;
  if (notes.empty()) notes = other.notes;
  return *this;
}

}  // namespace elsa::sim
