#include "elsa/cpu/sparse_rows.h"

#include <algorithm>
#include <cmath>

#include "elsa/base/integer_math.h"

namespace elsa::cpu {
namespace {

// At 64 the rounding of a typical value is 2e-3 of it.
constexpr float kOutlier = 64;

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
                .element = ElementOf(tensor.dtype),
                .count = static_cast<int>(keys_),
                .d = static_cast<int>(tensor.shape[3]),
                .padded = padded,
                .scale = 1,
                .to = to});
  return to;
}

void PackedHead::Prepare(const Inputs& inputs, std::int64_t batch, std::int64_t kv_head,
                         const KernelSet& kernels, const Options& options) {
  const SparseKernels& sparse = *kernels.sparse;
  keys_ = inputs.keys(batch);
  d_ = Padded(inputs.key);
  d_v_ = Padded(inputs.value);
  if (options.bits16) {
    d_v_ = static_cast<int>(CeilDiv(d_v_, sparse.value_multiple16)) * sparse.value_multiple16;
  }
  key_ = Pack(inputs.key, batch, kv_head, d_, sparse, key_buffer_);
  value_ = Pack(inputs.value, batch, kv_head, d_v_, sparse, value_buffer_);
  bits16_ = false;
  if (options.bits16) Quantize(sparse);
  if (!options.sums) return;
  const std::int64_t blocks = CeilDiv(keys_, kSumBlock);
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

void PackedHead::Quantize(const SparseKernels& kernels) {
  const int count = static_cast<int>(keys_);
  const SparseExtent keys = kernels.extent(key_, count, d_);
  const SparseExtent values = kernels.extent(value_, count, d_v_);
  if (!std::isfinite(keys.total) || !std::isfinite(values.total)) return;
  const auto elements = static_cast<float>(keys_ * d_v_);
  if (values.largest * values.largest * elements > kOutlier * kOutlier * values.total) return;
  bits16_ = true;
  // Rows of zeros, or almost, keep a scale of 1.
  key_scale_ = keys.largest > 1e-30f
                   ? std::min(kRowNorm / std::sqrt(keys.largest_square), kRowLargest / keys.largest)
                   : 1;
  value_scale_ = values.largest > 1e-30f ? kValueLargest / values.largest : 1;
  std::int16_t* key16 = key16_buffer_.Get<std::int16_t>(keys_ * d_);
  std::int16_t* value16 = value16_buffer_.Get<std::int16_t>(keys_ * d_v_);
  kernels.quantize_rows(key_, count, d_, key_scale_, key16);
  kernels.quantize_values(value_, count, d_v_, value_scale_, value16);
  key16_ = key16;
  value16_ = value16;
}

std::int64_t PackedHead::Bytes(const Inputs& inputs) {
  return inputs.key.shape[2] * (Padded(inputs.key) + Padded(inputs.value)) * 4;
}

}  // namespace elsa::cpu
