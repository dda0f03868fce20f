// Plans of the C interface.
#include "elsa/params/plan.h"

#include <memory>
#include <string_view>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/capi/guard.h"
#include "elsa/capi/handles.h"
#include "elsa/elsa_c.h"
#include "elsa/io/plan_file.h"

namespace elsa::capi {
namespace {

void Give(Plan&& made, elsa_plan** plan) {
  auto handle = std::make_unique<elsa_plan>();
  handle->plan = std::make_shared<const Plan>(std::move(made));
  *plan = handle.release();
}

const Plan& PlanOf(const elsa_plan* plan) {
  RequirePointer("plan", plan);
  return *plan->plan;
}

void RequireIndex(const char* name, std::int64_t index, std::int64_t count) {
  if (index >= 0 && index < count) return;
  throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected 0 to " +
                                               std::to_string(count - 1) + ", got " +
                                               std::to_string(index));
}

std::int64_t HeadsOf(const Plan& plan, std::int64_t layer) {
  RequireIndex("layer", layer, plan.layers());
  return static_cast<std::int64_t>(plan.thresholds[layer].size());
}

}  // namespace
}  // namespace elsa::capi

extern "C" {

elsa_status elsa_plan_read(const char* path, elsa_plan** plan) {
  return elsa::capi::Guard([&] {
    elsa::capi::RequirePointer("plan", plan);
    *plan = nullptr;
    elsa::capi::RequirePointer("path", path);
    elsa::capi::Give(elsa::io::ReadPlan(path), plan);
  });
}

elsa_status elsa_plan_parse(const char* json, size_t size, const char* name, elsa_plan** plan) {
  return elsa::capi::Guard([&] {
    elsa::capi::RequirePointer("plan", plan);
    *plan = nullptr;
    elsa::capi::RequirePointer("json", json);
    elsa::capi::Give(
        elsa::io::ParsePlan(std::string_view(json, size), name != nullptr ? name : "plan"), plan);
  });
}

void elsa_plan_free(elsa_plan* plan) { delete plan; }

const char* elsa_plan_model(const elsa_plan* plan) {
  return elsa::capi::GuardValue<const char*>(
      nullptr, [&] { return elsa::capi::PlanOf(plan).model.c_str(); });
}

const char* elsa_plan_profile(const elsa_plan* plan) {
  return elsa::capi::GuardValue<const char*>(
      nullptr, [&] { return elsa::ProfileName(elsa::capi::PlanOf(plan)).data(); });
}

int64_t elsa_plan_layers(const elsa_plan* plan) {
  return elsa::capi::GuardValue<int64_t>(-1, [&] { return elsa::capi::PlanOf(plan).layers(); });
}

int64_t elsa_plan_heads(const elsa_plan* plan, int64_t layer) {
  return elsa::capi::GuardValue<int64_t>(
      -1, [&] { return elsa::capi::HeadsOf(elsa::capi::PlanOf(plan), layer); });
}

int64_t elsa_plan_hash_d(const elsa_plan* plan) {
  return elsa::capi::GuardValue<int64_t>(-1, [&] { return elsa::capi::PlanOf(plan).hash.d; });
}

int64_t elsa_plan_hash_bits(const elsa_plan* plan) {
  return elsa::capi::GuardValue<int64_t>(-1, [&] { return elsa::capi::PlanOf(plan).hash.k; });
}

int32_t elsa_plan_is_exact_head(const elsa_plan* plan, int64_t layer, int64_t head) {
  return elsa::capi::GuardValue<int32_t>(-1, [&] {
    const elsa::Plan& p = elsa::capi::PlanOf(plan);
    elsa::capi::RequireIndex("head", head, elsa::capi::HeadsOf(p, layer));
    return p.IsExactHead(layer, head) ? 1 : 0;
  });
}

}  // extern "C"
