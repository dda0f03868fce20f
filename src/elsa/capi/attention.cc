// Attention and its reports of the C interface.
#include "elsa/cpu/attention.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <span>
#include <string>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/capi/convert.h"
#include "elsa/capi/guard.h"
#include "elsa/capi/handles.h"
#include "elsa/cpu/inputs.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {
namespace {

static_assert(static_cast<int>(cpu::Path::kExact) == ELSA_PATH_EXACT);
static_assert(static_cast<int>(cpu::Path::kSelected) == ELSA_PATH_SELECTED);
static_assert(static_cast<int>(cpu::Path::kExactExpected) == ELSA_PATH_EXACT_EXPECTED);
static_assert(static_cast<int>(cpu::Path::kExactObserved) == ELSA_PATH_EXACT_OBSERVED);
static_assert(static_cast<int>(cpu::Path::kExactTooShort) == ELSA_PATH_EXACT_TOO_SHORT);
constexpr int kPaths = std::size(decltype(cpu::HeadReport::heads_by_path){});
static_assert(kPaths <= ELSA_PATHS);

std::span<const std::int64_t> LengthsOf(const std::int64_t* lengths, std::int64_t batch) {
  if (lengths == nullptr || batch < 0) return {};  // a negative extent is refused with the shapes
  return {lengths, static_cast<std::size_t>(batch)};
}

cpu::Inputs InputsOf(const elsa_inputs& given) {
  cpu::Inputs inputs;
  inputs.query = TensorOf("query", given.query);
  inputs.key = TensorOf("key", given.key);
  inputs.value = TensorOf("value", given.value);
  inputs.mask = MaskOf(given.mask);
  inputs.bias = OptionalTensorOf("bias", given.bias);
  inputs.scale = ScaleOf(given.scale, inputs.query.shape[3]);
  inputs.causal = given.causal != 0;
  inputs.causal_offset = given.causal_offset;
  inputs.query_lengths = LengthsOf(given.query_lengths, inputs.query.shape[0]);
  inputs.key_lengths = LengthsOf(given.key_lengths, inputs.query.shape[0]);
  return inputs;
}

cpu::AttendOptions OptionsOf(const elsa_attend_options* given) {
  const elsa_attend_options o =
      given != nullptr ? CopyStruct("options", given) : elsa_attend_options_init();
  cpu::AttendOptions options;
  options.executor = &ExecutorOf(o.executor, o.threads);
  options.precision = PrecisionOf(o.precision);
  options.select = SelectOf(o.select);
  options.target = TargetOf(o.target);
  options.log_sum_exp = LogSumExpOf(o.log_sum_exp);
  return options;
}

const cpu::Report& ReportOf(const elsa_report* report) {
  RequirePointer("report", report);
  return report->report;
}

elsa_head_report CountsOf(const cpu::HeadReport& head) {
  elsa_head_report counts = elsa_head_report_init();
  counts.queries = head.stats.queries;
  counts.empty_queries = head.stats.empty_queries;
  counts.fallback_queries = head.stats.fallback_queries;
  counts.exact_queries = head.stats.exact_queries;
  counts.pairs = head.stats.pairs;
  counts.kept = head.stats.kept;
  std::copy_n(head.heads_by_path, kPaths, counts.heads_by_path);
  return counts;
}

}  // namespace
}  // namespace elsa::capi

extern "C" {

elsa_status elsa_attend(const elsa_inputs* inputs, const elsa_plan* plan, int64_t layer,
                        const elsa_mutable_tensor* out, const elsa_attend_options* options,
                        elsa_report** report) {
  return elsa::capi::Guard([&] {
    if (report != nullptr) *report = nullptr;
    const elsa::cpu::Inputs in = elsa::capi::InputsOf(elsa::capi::CopyStruct("inputs", inputs));
    elsa::capi::RequirePointer("out", out);
    elsa::capi::GiveReport(
        elsa::cpu::Attend(in, plan != nullptr ? plan->plan.get() : nullptr, layer,
                          elsa::capi::TensorOf("out", *out), elsa::capi::OptionsOf(options)),
        report);
  });
}

const char* elsa_report_target(const elsa_report* report) {
  return elsa::capi::GuardValue<const char*>(
      nullptr, [&] { return elsa::cpu::Name(elsa::capi::ReportOf(report).target).data(); });
}

elsa_precision elsa_report_precision(const elsa_report* report) {
  return elsa::capi::GuardValue<elsa_precision>(
      -1, [&] { return elsa::capi::ToC(elsa::capi::ReportOf(report).precision); });
}

int64_t elsa_report_heads(const elsa_report* report) {
  return elsa::capi::GuardValue<int64_t>(
      -1, [&] { return static_cast<int64_t>(elsa::capi::ReportOf(report).heads.size()); });
}

elsa_status elsa_report_head(const elsa_report* report, int64_t head, elsa_head_report* counts) {
  return elsa::capi::Guard([&] {
    const auto& heads = elsa::capi::ReportOf(report).heads;
    const size_t size = elsa::capi::CopyStruct("counts", counts).struct_size;
    if (head < 0 || head >= static_cast<int64_t>(heads.size())) {
      throw elsa::Error(elsa::ErrorCode::kInvalidArgument, "head: expected 0 to " +
                                                               std::to_string(heads.size() - 1) +
                                                               ", got " + std::to_string(head));
    }
    elsa_head_report filled = elsa::capi::CountsOf(heads[head]);
    filled.struct_size = size;
    std::memcpy(counts, &filled, std::min(size, sizeof(filled)));
  });
}

void elsa_report_free(elsa_report* report) { delete report; }

const char* elsa_path_name(int32_t path) {
  if (path < 0 || path >= elsa::capi::kPaths) return nullptr;
  return elsa::cpu::Name(static_cast<elsa::cpu::Path>(path)).data();
}

}  // extern "C"
