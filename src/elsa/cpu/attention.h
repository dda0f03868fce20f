// Attention on this processor: exact, and ELSA's over the keys that a plan selects. Source: Sec.
// II-A, Sec. III. The same keys as reference::Attend selects, on every target; values within the
// error of the chosen precision. docs/reference/cpu.md tells how.
#ifndef ELSA_CPU_ATTENTION_H_
#define ELSA_CPU_ATTENTION_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/cpu/executor.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/target.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention.h"

namespace elsa::cpu {

// What K and V are computed with. Selection (hashes, norms, thresholds) is binary32 always. The
// error is the relative L2 error of the output on random normal rows.
enum class Precision {
  kAuto,     // kFloat32 for float32 tensors, kBits16 for 16-bit ones
  kFloat32,  // products and sums in binary32: 1e-6
  kBits16,   // K, V and weights in 16 bits (fixed point, or bfloat16 where the target multiplies it
             // at full rate), sums in binary32: 4e-3
  kInt8,     // as kBits16, and scores from 8 bits where the target multiplies them: 1.5e-2
};
std::string_view Name(Precision precision);  // "auto" "float32" "16bit" "int8"
// Errors: kInvalidArgument naming the valid words.
Precision ParsePrecision(std::string_view name);

// How a head with a plan is computed.
enum class Select {
  kAuto,    // by the plan, or exactly where that is as fast: those heads keep every key
  kAlways,  // by the plan, whatever it costs: the keys of reference::Attend
};

struct AttendOptions {
  Executor* executor = nullptr;  // null: DefaultExecutor(). Never changes the result.
  Precision precision = Precision::kAuto;
  Select select = Select::kAuto;
  std::optional<Target> target = std::nullopt;  // default: SelectedTarget()
  View<float, 3> log_sum_exp = {};  // optional [batch, heads, n_q]: log of the sum of exp(score)
                                    // over what the softmax runs over; -infinity for empty rows
};

// How a head was computed, and why.
enum class Path {
  kExact,          // no plan, p = 0, or an exact head
  kSelected,       // by the plan
  kExactExpected,  // exactly: the plan's calibration expects too many keys to gain from selection
  kExactObserved,  // exactly: a sample of this call's queries keeps too many keys
  kExactTooShort,  // exactly: too few keys for selection to pay
};
std::string_view Name(Path path);  // "exact" "selected" "exact_expected" ...

// The counts of one head over all batches, and how many of its batches took each path.
struct HeadReport {
  reference::HeadStats stats;  // mass_kept_sum is not measured
  std::int64_t heads_by_path[5] = {};
  HeadReport& operator+=(const HeadReport& other);
};

struct Report {
  Target target;
  Precision precision;  // what kAuto became
  std::vector<HeadReport> heads;
};

// Computes attention for every (batch, head, query). Rows of padded queries and of queries that see
// no key are 0. Without a plan, or with `plan->IsExactHead`: exact.
// Errors: those of ValidateInputs and ValidatePlanFits.
Report Attend(const Inputs& inputs, const Plan* plan, std::int64_t layer, const MutableTensor& out,
              const AttendOptions& options = {});

}  // namespace elsa::cpu

#endif  // ELSA_CPU_ATTENTION_H_
