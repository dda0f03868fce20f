// One attention operation of one head on the machine's values, block by block. Source: Sec. IV-B.
// Values only: cycles, and the order in which candidates arrive, are the simulator's (elsa/sim).
#ifndef ELSA_FIXED_HEAD_H_
#define ELSA_FIXED_HEAD_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

// Where values met the ends of their formats.
struct MachineCounts {
  std::int64_t norms = 0;
  std::int64_t saturated_norms = 0;
  std::int64_t scores = 0;          // of candidates and mean rows
  std::int64_t clamped_scores = 0;  // beyond the exponent's range
  std::int64_t outputs = 0;
  std::int64_t saturated_outputs = 0;
  MachineCounts& operator+=(const MachineCounts& other);
};

// Preprocessing and selection. `config` is valid, `job` is not exact.
Candidates SelectCandidates(const Config& config, const Job& job, MachineCounts* counts = nullptr);

struct HeadOutput {
  std::vector<std::int16_t> rows;  // [queries, d_v], in the format of V with its shift
  MachineCounts counts;            // scores and outputs
};

// Attention over the candidates. `candidates` is null exactly if the job is exact. Without an order
// each bank takes its candidates by ascending key. A query that sees no key gives zeros.
// Errors: kMismatch if candidates or order are missing or of other sizes.
HeadOutput Attend(const Config& config, const Job& job, const Candidates* candidates,
                  const IssueOrder* order = nullptr);

// The mean row of a job that has one: sums of all keys and values times 1/n, rounded by
// qkv_rounding.
struct MeanRow {
  std::vector<std::int16_t> key;
  std::vector<std::int16_t> value;
};
MeanRow MeanRowOf(const Config& config, const Job& job);

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_HEAD_H_
