#include "elsa/reference/attention_inputs.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "elsa/base/error.h"

namespace elsa::reference {
namespace {

std::string ShapeText(const std::array<std::int64_t, 4>& shape) {
  std::string text = "[";
  for (int i = 0; i < 4; ++i) text += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return text + "]";
}

void RequireLengths(const char* name, std::span<const std::int64_t> lengths, std::int64_t batch,
                    std::int64_t n) {
  if (lengths.empty()) return;
  if (static_cast<std::int64_t>(lengths.size()) != batch) {
    throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected " +
                                                 std::to_string(batch) + " values, got " +
                                                 std::to_string(lengths.size()));
  }
  for (std::size_t b = 0; b < lengths.size(); ++b) {
    if (lengths[b] >= 0 && lengths[b] <= n) continue;
    throw Error(ErrorCode::kInvalidArgument, std::string(name) + "[" + std::to_string(b) +
                                                 "]: expected 0 to " + std::to_string(n) +
                                                 ", got " + std::to_string(lengths[b]));
  }
}

}  // namespace

void RequireShape(const char* name, const std::array<std::int64_t, 4>& got,
                  const std::array<std::int64_t, 4>& expected) {
  if (got == expected) return;
  throw Error(ErrorCode::kInvalidArgument, std::string(name) + ": expected shape " +
                                               ShapeText(expected) + ", got " + ShapeText(got));
}

void ValidateInputs(const AttentionInputs& inputs) {
  const auto& q = inputs.query.shape;
  const auto& k = inputs.key.shape;
  const auto& v = inputs.value.shape;
  RequireShape("key", k, {q[0], k[1], k[2], q[3]});
  RequireShape("value", v, {q[0], k[1], k[2], v[3]});
  if (q[3] < 1) {
    throw Error(ErrorCode::kInvalidArgument, "query: expected d of 1 or more, got 0");
  }
  if (q[1] > 0 && (k[1] < 1 || q[1] % k[1] != 0)) {
    throw Error(ErrorCode::kInvalidArgument, "key: expected a number of heads that divides " +
                                                 std::to_string(q[1]) + ", got " +
                                                 std::to_string(k[1]));
  }
  if (!std::isfinite(inputs.scale)) {
    throw Error(ErrorCode::kInvalidArgument,
                "scale: expected a finite number, got " + std::to_string(inputs.scale));
  }
  const std::array<std::int64_t, 4> pairs{q[0], q[1], q[2], k[2]};
  if (inputs.mask) RequireShape("mask", inputs.mask.shape, pairs);
  if (inputs.bias) RequireShape("bias", inputs.bias.shape, pairs);
  RequireLengths("query_lengths", inputs.query_lengths, q[0], q[2]);
  RequireLengths("key_lengths", inputs.key_lengths, q[0], k[2]);
}

void ValidatePlanFits(const Plan& plan, std::int64_t layer, const AttentionInputs& inputs) {
  if (layer < 0 || layer >= plan.layers()) {
    throw Error(ErrorCode::kMismatch, "plan: layer: expected 0 to " +
                                          std::to_string(plan.layers() - 1) + ", got " +
                                          std::to_string(layer));
  }
  const auto heads = static_cast<std::int64_t>(plan.thresholds[layer].size());
  if (heads != inputs.heads()) {
    throw Error(ErrorCode::kMismatch, "plan: layer " + std::to_string(layer) +
                                          ": heads: expected " + std::to_string(inputs.heads()) +
                                          " as in the input, got " + std::to_string(heads));
  }
  if (plan.hash.d < inputs.query.shape[3]) {
    throw Error(ErrorCode::kMismatch,
                "plan: hash.d: expected " + std::to_string(inputs.query.shape[3]) +
                    " or more as in the input, got " + std::to_string(plan.hash.d));
  }
  if (!(inputs.scale > 0)) {
    throw Error(ErrorCode::kUnsupported, "scale: expected a positive number with a plan, got " +
                                             std::to_string(inputs.scale));
  }
  if (inputs.causal && plan.centring != Centring::kOff) {
    throw Error(ErrorCode::kUnsupported, "plan: centring: expected off for causal attention, got " +
                                             std::string(Name(plan.centring)));
  }
}

HeadInputs::HeadInputs(const AttentionInputs& inputs, std::int64_t batch, std::int64_t head)
    : queries_(inputs.query_lengths.empty() ? inputs.query.shape[2] : inputs.query_lengths[batch]),
      keys_(inputs.key_lengths.empty() ? inputs.key.shape[2] : inputs.key_lengths[batch]),
      scale_(inputs.scale),
      causal_(inputs.causal),
      query_(inputs.query[batch][head]),
      key_(inputs.key[batch][inputs.kv_head(head)]),
      value_(inputs.value[batch][inputs.kv_head(head)]) {
  if (inputs.mask) mask_ = inputs.mask[batch][head];
  if (inputs.bias) bias_ = inputs.bias[batch][head];
  uniform_ = !causal_ && (!mask_ || mask_.stride[0] == 0) && (!bias_ || bias_.stride[0] == 0);
}

bool HeadInputs::Visible(std::int64_t query, std::int64_t key) const {
  if (key >= keys_ || (causal_ && key > query)) return false;
  if (mask_ && mask_(query, key) == 0) return false;
  // Written so that a NaN bias stays visible and shows in the output.
  return !(bias_ && bias_(query, key) <= kMaskedBias);
}

const std::vector<std::int32_t>& HeadInputs::VisibleKeys(std::int64_t query) {
  if (visible_to_ == query || (visible_to_ >= 0 && uniform_)) return visible_;
  visible_to_ = query;
  visible_.clear();
  const std::int64_t end = causal_ ? std::min(keys_, query + 1) : keys_;
  for (std::int64_t key = 0; key < end; ++key) {
    if (Visible(query, key)) visible_.push_back(static_cast<std::int32_t>(key));
  }
  return visible_;
}

}  // namespace elsa::reference
