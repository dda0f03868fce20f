#include "elsa/cpu/sparse_rows.h"

#include <algorithm>
#include <cmath>

#include "elsa/base/integer_math.h"

namespace elsa::cpu {
namespace {

// At 64 the rounding of a typical value is 2e-3 of it.
constexpr float kOutlier = 64;
// The same for keys in 8 bits: at 8 the rounding of a typical component is 2e-2 of it.
constexpr float kOutlier8 = 8;

bool HasOutlier(const SparseExtent& extent, std::int64_t elements, float limit) {
  const float most = limit * limit * extent.total;
  return extent.largest * extent.largest * static_cast<float>(elements) > most;
}

int Padded(const Tensor& tensor) { return PaddedComponents(static_cast<int>(tensor.shape[3])); }

SparseRows RowsOf(const Tensor& tensor, std::int64_t batch, std::int64_t kv_head,
                  std::int64_t count, int padded) {
  return {.from = tensor.Row(batch, kv_head, 0),
          .stride = tensor.stride[2] * SizeOf(tensor.dtype),
          .element = ElementOf(tensor.dtype),
          .count = static_cast<int>(count),
          .d = static_cast<int>(tensor.shape[3]),
          .padded = padded,
          .scale = 1};
}

// Whether rows can be read where they are: packed, padded and aligned to the widest vectors.
bool InPlace(const SparseRows& rows) {
  return rows.element == Element::kF32 && rows.d == rows.padded && rows.stride == 4 * rows.padded &&
         reinterpret_cast<std::uintptr_t>(rows.from) % 64 == 0;
}

}  // namespace

void PackedHead::Prepare(const Inputs& inputs, std::int64_t batch, std::int64_t kv_head,
                         const KernelSet& kernels, const Options& options) {
  kernels_ = kernels.sparse;
  const std::int64_t count = inputs.keys(batch);
  int padded_values = Padded(inputs.value);
  if (options.bits16) {
    const int multiple = kernels_->value_multiple16;
    padded_values = static_cast<int>(CeilDiv(padded_values, multiple)) * multiple;
  }
  keys_ = RowsOf(inputs.key, batch, kv_head, count, Padded(inputs.key));
  values_ = RowsOf(inputs.value, batch, kv_head, count, padded_values);
  bits8_ = false;
  bits16_ = options.bits16 && ChooseScales(options);
  float* packed_keys = nullptr;
  float* packed_values = nullptr;
  if (bits16_) {
    if (bits8_) key8_ = key_buffer_.Get<std::uint8_t>(count * d8());
    if (!bits8_) key16_ = key_buffer_.Get<std::int16_t>(count * d());
    value16_ = value_buffer_.Get<std::int16_t>(count * d_v());
  } else {
    if (!InPlace(keys_)) packed_keys = key_buffer_.Get<float>(count * d());
    if (!InPlace(values_)) packed_values = value_buffer_.Get<float>(count * d_v());
    key_ = packed_keys ? packed_keys : reinterpret_cast<const float*>(keys_.from);
    value_ = packed_values ? packed_values : reinterpret_cast<const float*>(values_.from);
  }
  sums_ = nullptr;
  if (options.sums) {
    const std::int64_t all = CeilDiv(count, kSumBlock) * (d() + d_v());
    sums_ = sum_buffer_.Get<double>(all);
    std::fill_n(sums_, all, 0.0);
  }
  for (std::int64_t first = 0; first < count; first += kSumBlock) {
    PrepareBlock(static_cast<int>(first), static_cast<int>(std::min(kSumBlock, count - first)),
                 packed_keys, packed_values);
  }
}

void PackedHead::PrepareBlock(int first, int count, float* packed_keys, float* packed_values) {
  const SparseRows keys = keys_.Part(first, count);
  const SparseRows values = values_.Part(first, count);
  const std::ptrdiff_t key = static_cast<std::ptrdiff_t>(first) * d();
  const std::ptrdiff_t value = static_cast<std::ptrdiff_t>(first) * d_v();
  if (bits16_) {
    if (bits8_) {
      kernels_->quantize_keys8(keys, d8(), key8_ + static_cast<std::ptrdiff_t>(first) * d8());
    } else {
      kernels_->quantize_rows(keys, key16_ + key);
    }
    kernels_->quantize_values(values, value16_ + value);
  }
  if (packed_keys != nullptr) kernels_->pack(keys, packed_keys + key);
  if (packed_values != nullptr) kernels_->pack(values, packed_values + value);
  if (sums_ == nullptr) return;
  double* sums = sums_ + first / kSumBlock * (d() + d_v());
  kernels_->add_rows(keys, sums);
  kernels_->add_rows(values, sums + d());
}

void PackedHead::AddTo(std::int64_t key, double* sums) const {
  kernels_->add_rows(keys_.Part(static_cast<int>(key), 1), sums);
  kernels_->add_rows(values_.Part(static_cast<int>(key), 1), sums + d());
}

// Whether one scale each can hold keys and values; sets them. Rows of zeros, or almost, keep 1.
bool PackedHead::ChooseScales(const Options& options) {
  if (!ChooseKeyScale(options)) return false;
  const SparseExtent extent = kernels_->extent(values_);
  if (!std::isfinite(extent.total)) return false;
  if (HasOutlier(extent, keys() * values_.d, kOutlier)) return false;
  if (extent.largest > 1e-30f) values_.scale = kValueLargest / extent.largest;
  return true;
}

// False if a key is not finite. Chooses 8 bits too.
bool PackedHead::ChooseKeyScale(const Options& options) {
  float norm = 0;
  if (options.key_norms != nullptr) {
    for (std::int64_t i = 0; i < keys(); ++i) {
      if (!std::isfinite(options.key_norms[i])) return false;
      norm = std::max(norm, options.key_norms[i]);
    }
  }
  const bool bits8 = options.bits8 && kernels_->scores8 != nullptr;
  if (bits8 || options.key_norms == nullptr) {
    const SparseExtent extent = kernels_->extent(keys_);
    if (!std::isfinite(extent.total)) return false;
    norm = std::sqrt(extent.largest_square);
    bits8_ = bits8 && !HasOutlier(extent, keys() * keys_.d, kOutlier8);
    if (bits8_) {
      if (extent.largest > 1e-30f) keys_.scale = kKey8Largest / extent.largest;
      return true;
    }
  }
  if (norm > 1e-30f) keys_.scale = kKeyNorm / norm;
  return true;
}

std::int64_t PackedHead::Bytes(const Inputs& inputs) {
  return inputs.key.shape[2] * (Padded(inputs.key) + Padded(inputs.value)) * 4;
}

}  // namespace elsa::cpu
