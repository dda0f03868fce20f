#include "elsa/cpu/sparse_rows.h"

#include <algorithm>

namespace elsa::cpu {
namespace {

int Padded(const Tensor& tensor) { return PaddedComponents(static_cast<int>(tensor.shape[3])); }

// Whether rows can be read where they are: packed, padded and aligned to the widest vectors.
bool InPlace(const Tensor& tensor, const std::byte* rows, int padded) {
  return tensor.dtype == DType::kF32 && tensor.shape[3] == padded && tensor.stride[2] == padded &&
         reinterpret_cast<std::uintptr_t>(rows) % 64 == 0;
}

}  // namespace

const float* PackedHead::Pack(const Tensor& tensor, std::int64_t batch, std::int64_t kv_head,
                              int padded, const SparseKernels& kernels, Buffer& buffer) const {
  const std::byte* rows = tensor.Row(batch, kv_head, 0);
  if (InPlace(tensor, rows, padded)) return reinterpret_cast<const float*>(rows);
  float* to = buffer.Get<float>(keys_ * padded);
  kernels.pack({.from = rows,
                .stride = tensor.stride[2] * SizeOf(tensor.dtype),
                .dtype = static_cast<int>(tensor.dtype),
                .count = static_cast<int>(keys_),
                .d = static_cast<int>(tensor.shape[3]),
                .padded = padded,
                .scale = 1,
                .to = to});
  return to;
}

void PackedHead::Prepare(const Inputs& inputs, std::int64_t batch, std::int64_t kv_head,
                         const KernelSet& kernels, bool with_sums) {
  const SparseKernels& sparse = *kernels.sparse;
  keys_ = inputs.keys(batch);
  d_ = Padded(inputs.key);
  d_v_ = Padded(inputs.value);
  key_ = Pack(inputs.key, batch, kv_head, d_, sparse, key_buffer_);
  value_ = Pack(inputs.value, batch, kv_head, d_v_, sparse, value_buffer_);
  if (!with_sums) return;
  const std::int64_t blocks = (keys_ + kSumBlock - 1) / kSumBlock;
  double* sums = sum_buffer_.Get<double>(blocks * (d_ + d_v_));
  sums_ = sums;
  std::fill_n(sums, blocks * (d_ + d_v_), 0.0);
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t first = block * kSumBlock;
    const int count = static_cast<int>(std::min(kSumBlock, keys_ - first));
    sparse.add_rows(key(first), count, d_, sums);
    sparse.add_rows(value(first), count, d_v_, sums + d_);
    sums += d_ + d_v_;
  }
}

std::int64_t PackedHead::Bytes(const Inputs& inputs) {
  return inputs.key.shape[2] * (Padded(inputs.key) + Padded(inputs.value)) * 4;
}

}  // namespace elsa::cpu
