#include "elsa/cpu/interim.h"

#include <cstring>
#include <vector>

namespace elsa::cpu {
namespace {

std::vector<float> Packed(const Tensor& t) {
  std::vector<float> values;
  for (std::int64_t a = 0; a < t.shape[0]; ++a) {
    for (std::int64_t b = 0; b < t.shape[1]; ++b) {
      for (std::int64_t c = 0; c < t.shape[2]; ++c) {
        for (std::int64_t i = 0; i < t.shape[3]; ++i) {
          values.push_back(ElementAt(t.Row(a, b, c), t.dtype, i * t.stride[3]));
        }
      }
    }
  }
  return values;
}

}  // namespace

void InterimAttend(const Call& call, const Plan* plan, std::int64_t layer,
                   std::span<const HeadItem> heads, std::span<HeadReport> reports) {
  const Inputs& in = call.inputs;
  const std::vector<float> q = Packed(in.query);
  const std::vector<float> k = Packed(in.key);
  const std::vector<float> v = Packed(in.value);
  const std::vector<float> bias = in.bias ? Packed(in.bias) : std::vector<float>();
  reference::AttentionInputs inputs;
  inputs.query = {q.data(), in.query.shape};
  inputs.key = {k.data(), in.key.shape};
  inputs.value = {v.data(), in.value.shape};
  inputs.scale = in.scale;
  inputs.causal = in.causal;
  inputs.mask = in.mask;
  if (in.bias) inputs.bias = {bias.data(), in.bias.shape};
  inputs.query_lengths = in.query_lengths;
  inputs.key_lengths = in.key_lengths;
  const MutableTensor& out = call.output.out;
  std::vector<float> result(out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3]);
  const View<float, 4> to(result.data(), out.shape);
  const auto stats = reference::Attend(inputs, plan, layer, to, {1});
  for (const HeadItem& item : heads) {
    for (std::int64_t i = 0; i < out.shape[2]; ++i) {
      for (std::int64_t c = 0; c < out.shape[3]; ++c) {
        const float value = to(item.batch, item.head, i, c);
        const std::uint16_t bits = out.dtype == DType::kF16 ? ToF16(value) : ToBf16(value);
        std::byte* row = out.Row(item.batch, item.head, i);
        if (out.dtype == DType::kF32) {
          std::memcpy(row + 4 * c, &value, 4);
        } else {
          std::memcpy(row + 2 * c, &bits, 2);
        }
      }
    }
  }
  if (plan == nullptr) return;
  for (const HeadItem& item : heads) {
    if (item.batch == 0) reports[item.head].stats += stats[item.head];
    ++reports[item.head].heads_by_path[static_cast<int>(Path::kSelected)];
  }
}

}  // namespace elsa::cpu
