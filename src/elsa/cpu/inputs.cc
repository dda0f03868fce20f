#include "elsa/cpu/inputs.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string>

#include "elsa/base/error.h"

namespace elsa::cpu {
namespace {

[[noreturn]] void Refuse(const std::string& what, const std::string& expected,
                         const std::string& got) {
  throw Error(ErrorCode::kInvalidArgument, what + ": expected " + expected + ", got " + got);
}

template <typename Byte>
void RequireRows(const char* name, const BasicTensor<Byte>& t) {
  const auto elements = t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3];
  if (elements == 0) return;
  if (t.data == nullptr) Refuse(name, "data", "a null pointer");
  if (t.shape[3] > 1 && t.stride[3] != 1) {
    Refuse(name, "a stride of 1 in the last dimension", std::to_string(t.stride[3]));
  }
  if (reinterpret_cast<std::uintptr_t>(t.data) % SizeOf(t.dtype) != 0) {
    Refuse(name, "an address that is a multiple of " + std::to_string(SizeOf(t.dtype)),
           "a misaligned one");
  }
}

void RequireComponents(const char* name, std::int64_t d) {
  if (d >= 1 && d <= kMaxD) return;
  Refuse(name, "1 to " + std::to_string(kMaxD) + " components", std::to_string(d));
}

void RequireDType(const char* name, DType got, DType expected) {
  if (got == expected) return;
  Refuse(name, std::string(Name(expected)) + " as query", std::string(Name(got)));
}

// No extent is negative, and the tensor's addresses and number of elements are numbers: later
// checks and kernels multiply without looking.
template <typename View4>
void RequireExtents(const char* name, const View4& t) {
  constexpr std::int64_t kMost = INT64_MAX / 64;  // bytes of four such sums are a number still
  std::int64_t elements = 1;
  for (int i = 0; i < 4; ++i) {
    const std::int64_t extent = t.shape[i];
    if (extent < 0) Refuse(name, "no negative extent", std::to_string(extent));
    std::int64_t reach = 0;
    const bool far =
        __builtin_mul_overflow(std::max<std::int64_t>(extent - 1, 1), t.stride[i], &reach) ||
        reach > kMost || reach < -kMost;
    if (far || extent > kMost / elements) {
      Refuse(name, "extents and strides within the memory of a machine", "larger ones");
    }
    elements *= std::max<std::int64_t>(extent, 1);
  }
}

// The addresses that an argument touches: [first, last).
struct Range {
  std::uintptr_t first = 0;
  std::uintptr_t last = 0;
};

// `size`: bytes of an element.
Range RangeOf(const void* data, std::int64_t size, const std::array<std::int64_t, 4>& shape,
              const std::array<std::int64_t, 4>& stride) {
  const auto base = reinterpret_cast<std::uintptr_t>(data);
  std::int64_t low = 0;
  std::int64_t high = 0;
  for (int i = 0; i < 4; ++i) {
    if (shape[i] == 0) return {};
    const std::int64_t reach = (shape[i] - 1) * stride[i];
    (reach < 0 ? low : high) += reach;
  }
  return {base + low * size, base + (high + 1) * size};
}

template <typename Byte>
Range RangeOf(const BasicTensor<Byte>& t) {
  return RangeOf(t.data, SizeOf(t.dtype), t.shape, t.stride);
}

Range RangeOf(std::span<const std::int64_t> lengths) {
  return RangeOf(lengths.data(), sizeof(std::int64_t),
                 {1, 1, 1, static_cast<std::int64_t>(lengths.size())}, {0, 0, 0, 1});
}

// Whether two elements of an output may share an address: sorted by stride, each dimension must
// step over everything that the smaller ones reach.
bool OverlapsItself(const MutableTensor& t) {
  if (std::count(t.shape.begin(), t.shape.end(), 0) > 0) return false;
  std::array<int, 4> order{0, 1, 2, 3};
  const auto size = [&](int i) { return std::abs(t.stride[i]); };
  std::sort(order.begin(), order.end(), [&](int a, int b) { return size(a) < size(b); });
  std::int64_t reach = 0;
  for (int i : order) {
    if (t.shape[i] == 1) continue;
    if (size(i) <= reach) return true;
    reach += (t.shape[i] - 1) * size(i);
  }
  return false;
}

// What an output must not overlap.
struct Neighbour {
  const char* name;
  Range range;  // empty if absent
};

// The last one is out itself, for the other output.
std::array<Neighbour, 8> NeighboursOf(const Inputs& inputs, const MutableTensor& out) {
  const View<const std::uint8_t, 4>& mask = inputs.mask;
  return {{{"query", RangeOf(inputs.query)},
           {"key", RangeOf(inputs.key)},
           {"value", RangeOf(inputs.value)},
           {"mask", mask ? RangeOf(mask.data, 1, mask.shape, mask.stride) : Range()},
           {"bias", inputs.bias ? RangeOf(inputs.bias) : Range()},
           {"query_lengths", RangeOf(inputs.query_lengths)},
           {"key_lengths", RangeOf(inputs.key_lengths)},
           {"out", RangeOf(out)}}};
}

// Refuses an output that is written twice at one address, or where others are read or written.
void RequireApart(const char* name, const MutableTensor& out, const char* from,
                  std::span<const Neighbour> neighbours) {
  if (OverlapsItself(out)) Refuse(name, "elements that do not overlap", "strides that make them");
  const Range written = RangeOf(out);
  for (const Neighbour& other : neighbours) {
    if (written.first >= other.range.last || other.range.first >= written.last) continue;
    Refuse(name, std::string("memory apart from ") + from,
           std::string("an overlap with ") + other.name);
  }
}

void RequireOut(const Inputs& inputs, const MutableTensor& out) {
  reference::RequireShape(
      "out", out.shape,
      {inputs.batch(), inputs.heads(), inputs.query.shape[2], inputs.value.shape[3]});
  RequireRows("out", out);
  if (out.dtype == DType::kF32 || out.dtype == inputs.query.dtype) return;
  Refuse("out", "float32 or query's " + std::string(Name(inputs.query.dtype)),
         std::string(Name(out.dtype)));
}

void RequireOutputs(const Inputs& inputs, const MutableTensor& out,
                    const View<float, 3>& log_sum_exp) {
  RequireOut(inputs, out);
  const std::array<Neighbour, 8> neighbours = NeighboursOf(inputs, out);
  RequireApart("out", out, "the inputs", std::span(neighbours).first<7>());
  if (!log_sum_exp) return;
  const auto& shape = log_sum_exp.shape;
  const auto& stride = log_sum_exp.stride;
  const MutableTensor rows(View<float, 4>(log_sum_exp.data, {shape[0], shape[1], shape[2], 1},
                                          {stride[0], stride[1], stride[2], 1}));
  RequireExtents("log_sum_exp", rows);
  reference::RequireShape("log_sum_exp", rows.shape,
                          {inputs.batch(), inputs.heads(), inputs.query.shape[2], 1});
  RequireRows("log_sum_exp", rows);
  RequireApart("log_sum_exp", rows, "the inputs and out", neighbours);
}

// The same shapes, lengths and scale, for the checks that do not look at data.
reference::AttentionInputs ShapesOf(const Inputs& inputs) {
  const auto view = [](const Tensor& t) {
    return View<const float, 4>(reinterpret_cast<const float*>(t.data), t.shape, t.stride);
  };
  reference::AttentionInputs shapes;
  shapes.query = view(inputs.query);
  shapes.key = view(inputs.key);
  shapes.value = view(inputs.value);
  shapes.scale = inputs.scale;
  shapes.causal = inputs.causal;
  shapes.mask = inputs.mask;
  shapes.bias = view(inputs.bias);
  shapes.query_lengths = inputs.query_lengths;
  shapes.key_lengths = inputs.key_lengths;
  return shapes;
}

}  // namespace

Inputs InputsOf(const reference::AttentionInputs& inputs) {
  Inputs out;
  out.query = inputs.query;
  out.key = inputs.key;
  out.value = inputs.value;
  out.scale = inputs.scale;
  out.causal = inputs.causal;
  out.mask = inputs.mask;
  if (inputs.bias) out.bias = inputs.bias;
  out.query_lengths = inputs.query_lengths;
  out.key_lengths = inputs.key_lengths;
  return out;
}

void ValidateInputs(const Inputs& inputs, const MutableTensor& out,
                    const View<float, 3>& log_sum_exp) {
  RequireExtents("query", inputs.query);
  RequireExtents("key", inputs.key);
  RequireExtents("value", inputs.value);
  RequireExtents("mask", inputs.mask);
  RequireExtents("bias", inputs.bias);
  RequireExtents("out", out);
  RequireComponents("query", inputs.query.shape[3]);
  RequireComponents("value", inputs.value.shape[3]);
  reference::ValidateInputs(ShapesOf(inputs));
  RequireDType("key", inputs.key.dtype, inputs.query.dtype);
  RequireDType("value", inputs.value.dtype, inputs.query.dtype);
  RequireRows("query", inputs.query);
  RequireRows("key", inputs.key);
  RequireRows("value", inputs.value);
  if (inputs.key.shape[2] > INT32_MAX) {
    Refuse("key", "up to " + std::to_string(INT32_MAX) + " keys",
           std::to_string(inputs.key.shape[2]));
  }
  if (inputs.causal_offset < 0 || inputs.causal_offset > INT32_MAX ||
      (inputs.causal_offset > 0 && !inputs.causal)) {
    Refuse("causal_offset", "0, or up to " + std::to_string(INT32_MAX) + " if causal",
           std::to_string(inputs.causal_offset));
  }
  RequireOutputs(inputs, out, log_sum_exp);
}

bool Unmasked(const Inputs& inputs, std::int64_t batch, std::int64_t head, std::int64_t query,
              std::int64_t key) {
  if (inputs.mask && inputs.mask(batch, head, query, key) == 0) return false;
  if (!inputs.bias) return true;
  const std::int64_t at = key * inputs.bias.stride[3];
  // Written so that a NaN bias stays visible and shows in the output.
  return !(ElementAt(inputs.bias.Row(batch, head, query), inputs.bias.dtype, at) <=
           reference::kMaskedBias);
}

std::int64_t VisibleKeys(const Inputs& inputs, std::int64_t batch, std::int64_t head,
                         std::int64_t query) {
  const std::int64_t end = std::max<std::int64_t>(inputs.KeyEnd(batch, query), 0);
  if (!inputs.mask && !inputs.bias) return end;
  std::int64_t count = 0;
  for (std::int64_t key = 0; key < end; ++key) {
    count += Unmasked(inputs, batch, head, query, key) ? 1 : 0;
  }
  return count;
}

void ValidatePlanFits(const Plan& plan, std::int64_t layer, const Inputs& inputs) {
  reference::ValidatePlanFits(plan, layer, ShapesOf(inputs));
}

}  // namespace elsa::cpu
