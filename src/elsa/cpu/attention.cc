#include "elsa/cpu/attention.h"

#include <string>

#include "elsa/base/error.h"
#include "elsa/cpu/exact_attention.h"
#include "elsa/cpu/sparse_attention.h"

namespace elsa::cpu {
namespace {

constexpr Precision kPrecisions[] = {Precision::kAuto, Precision::kFloat32, Precision::kBits16,
                                     Precision::kInt8};

Precision Resolve(Precision asked, DType dtype) {
  if (asked != Precision::kAuto) return asked;
  return dtype == DType::kF32 ? Precision::kFloat32 : Precision::kBits16;
}

// Counts of an exactly computed head: every visible key is kept.
void CountExact(const Inputs& inputs, const HeadItem& item, HeadReport& report) {
  reference::HeadStats& stats = report.stats;
  const std::int64_t queries = inputs.queries(item.batch);
  stats.queries += queries;
  for (std::int64_t i = 0; i < queries; ++i) {
    const std::int64_t visible = VisibleKeys(inputs, item.batch, item.head, i);
    stats.empty_queries += visible == 0 ? 1 : 0;
    stats.exact_queries += visible == 0 ? 0 : 1;
    stats.pairs += visible;
    stats.kept += visible;
  }
}

}  // namespace

std::string_view Name(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return "auto";
    case Precision::kFloat32:
      return "float32";
    case Precision::kBits16:
      return "16bit";
    case Precision::kInt8:
      return "int8";
  }
  return "";
}

Precision ParsePrecision(std::string_view name) {
  for (Precision precision : kPrecisions) {
    if (Name(precision) == name) return precision;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "precision: expected auto, float32, 16bit or int8, got " + std::string(name));
}

std::string_view Name(Path path) {
  switch (path) {
    case Path::kExact:
      return "exact";
    case Path::kSelected:
      return "selected";
    case Path::kExactExpected:
      return "exact_expected";
    case Path::kExactObserved:
      return "exact_observed";
    case Path::kExactTooShort:
      return "exact_too_short";
  }
  return "";
}

HeadReport& HeadReport::operator+=(const HeadReport& other) {
  stats += other.stats;
  for (std::size_t i = 0; i < std::size(heads_by_path); ++i) {
    heads_by_path[i] += other.heads_by_path[i];
  }
  return *this;
}

Report Attend(const Inputs& inputs, const Plan* plan, std::int64_t layer, const MutableTensor& out,
              const AttendOptions& options) {
  ValidateInputs(inputs, out, options.log_sum_exp);
  if (plan != nullptr) ValidatePlanFits(*plan, layer, inputs);
  const Target target = options.target.value_or(SelectedTarget());
  const Precision precision = Resolve(options.precision, inputs.query.dtype);
  Executor& executor = options.executor != nullptr ? *options.executor : DefaultExecutor();
  const Output output{out, options.log_sum_exp};
  const Call call{inputs, output, KernelsOf(target), executor, precision != Precision::kFloat32};

  Report report{target, precision, std::vector<HeadReport>(inputs.heads())};
  std::vector<HeadItem> exact;
  std::vector<HeadItem> selected;
  for (std::int64_t b = 0; b < inputs.batch(); ++b) {
    for (std::int64_t h = 0; h < inputs.heads(); ++h) {
      if (plan != nullptr && !plan->IsExactHead(layer, h)) {
        selected.push_back({b, h});
      } else {
        exact.push_back({b, h});
        ++report.heads[h].heads_by_path[static_cast<int>(Path::kExact)];
      }
    }
  }
  if (!selected.empty()) {
    const std::vector<HeadItem> left =
        SparseAttention(call, *plan, layer, selected, precision, options.select, report.heads);
    exact.insert(exact.end(), left.begin(), left.end());
  }
  ExactAttention(call, exact);
  for (const HeadItem& item : exact) CountExact(inputs, item, report.heads[item.head]);
  return report;
}

}  // namespace elsa::cpu
