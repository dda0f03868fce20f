#include "elsa/cpu/key_sketch.h"

#include <algorithm>
#include <limits>

#include "elsa/cpu/selection.h"
#include "elsa/cpu/visibility.h"

namespace elsa::cpu {
namespace {

// Whether all heads of a group see the same keys.
bool GroupSeesTheSame(const Inputs& inputs) {
  if (inputs.heads() == inputs.kv_heads()) return true;
  return (!inputs.mask || inputs.mask.stride[1] == 0) &&
         (!inputs.bias || inputs.bias.stride[1] == 0);
}

// Whether queries see all keys or none, whatever the query.
bool SeesAll(const Inputs& inputs) { return !inputs.causal && !inputs.mask && !inputs.bias; }

}  // namespace

Sketch::Sketch(const HashProgram& hash, const RowsView& rows, const float* origin, bool tables,
               const KernelSet& kernels)
    : count_(rows.count),
      bits_(buffers_[0].Get<std::uint64_t>(count_ * hash.words())),
      norms_(buffers_[1].Get<float>(count_)),
      endless_(buffers_[2].Get<std::uint64_t>((count_ + 63) / 64)) {
  const SelectKernels& select = *kernels.select;
  HashRows(hash, kernels, rows, origin, bits_, norms_);
  select.above_bits(norms_, std::numeric_limits<float>::max(), count_, endless_);
  const std::int64_t k = hash.view.k;
  if (!tables || select.filter_sizes(k).table_bytes == 0) return;
  table_bytes_ = select.filter_sizes(k).table_bytes;
  const std::int64_t block = select.block_keys;
  tables_ = buffers_[3].Get<std::byte>((count_ + block - 1) / block * table_bytes_);
  for (std::int64_t first = 0; first < count_; first += block) {
    select.build_table(bits_ + first * hash.words(), std::min(block, count_ - first), k,
                       tables_ + first / block * table_bytes_);
  }
}

RowsView RowsOf(const Tensor& tensor, std::int64_t batch, std::int64_t head, std::int64_t first,
                std::int64_t step, std::int64_t count) {
  return {tensor.Row(batch, head, first), static_cast<int>(tensor.dtype), tensor.stride[2] * step,
          count};
}

std::shared_ptr<const Sketch> MakeCentred(const Inputs& inputs, const Plan& plan,
                                          const HashProgram& hash, std::int64_t batch,
                                          std::int64_t head, const KernelSet& kernels) {
  const std::vector<float> mean = Visibility(inputs, batch, head, kernels).MeanKey();
  const RowsView rows = RowsOf(inputs.key, batch, inputs.kv_head(head), 0, 1, inputs.keys(batch));
  return std::make_shared<Sketch>(hash, rows, mean.data(), DecidesByDistance(plan, inputs),
                                  kernels);
}

std::shared_ptr<const KeySketch> MakeKeySketch(const Inputs& inputs, const Plan& plan,
                                               std::shared_ptr<const HashProgram> hash,
                                               std::int64_t batch, std::int64_t kv_head,
                                               const KernelSet& kernels) {
  auto sketch = std::make_shared<KeySketch>();
  sketch->hash = std::move(hash);
  const std::int64_t keys = inputs.keys(batch);
  bool plain = plan.centring != Centring::kOn;
  bool centred = plan.centring != Centring::kOff;
  if (plan.centring == Centring::kByLength && SeesAll(inputs)) {
    centred = keys >= plan.centring_min_keys;
    plain = !centred;
  }
  if (plain) {
    const RowsView rows = RowsOf(inputs.key, batch, kv_head, 0, 1, keys);
    sketch->plain = std::make_shared<Sketch>(*sketch->hash, rows, nullptr,
                                             DecidesByDistance(plan, inputs), kernels);
  }
  if (centred && GroupSeesTheSame(inputs)) {
    const std::int64_t head = kv_head * (inputs.heads() / inputs.kv_heads());
    sketch->centred = MakeCentred(inputs, plan, *sketch->hash, batch, head, kernels);
  }
  return sketch;
}

}  // namespace elsa::cpu
