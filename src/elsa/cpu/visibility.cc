#include "elsa/cpu/visibility.h"

#include <bit>

#include "elsa/cpu/kernels/select.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::cpu {

Visibility::Visibility(const Inputs& inputs, std::int64_t batch, std::int64_t head,
                       const KernelSet& kernels)
    : inputs_(inputs),
      kernels_(kernels),
      batch_(batch),
      head_(head),
      queries_(inputs.queries(batch)),
      keys_(inputs.keys(batch)),
      words_((keys_ + 511) / 512 * 8),
      masked_(inputs.mask || inputs.bias) {
  const bool same = (!inputs.mask || inputs.mask.stride[2] == 0 || queries_ == 1) &&
                    (!inputs.bias || inputs.bias.stride[2] == 0 || queries_ == 1);
  if (!masked_ || !same || queries_ == 0 || keys_ == 0) return;
  std::vector<float> scratch(keys_);
  std::vector<std::uint64_t> words(words_);
  ReadMask(0, scratch.data(), words.data());
  shared_ = std::move(words);
}

void Visibility::MaskWords(std::int64_t query, float* scratch, std::uint64_t* to) const {
  if (shared_.empty()) {
    ReadMask(query, scratch, to);
  } else {
    std::copy(shared_.begin(), shared_.end(), to);
  }
}

void Visibility::ReadMask(std::int64_t query, float* scratch, std::uint64_t* to) const {
  const SelectKernels& select = *kernels_.select;
  std::fill(to, to + words_, 0);
  const std::int64_t used = (keys_ + 63) / 64;
  if (inputs_.bias) {
    const float* bias = BiasRow(query, keys_, scratch);
    select.above_bits(bias, reference::kMaskedBias, keys_, to);
  }
  if (!inputs_.mask) return;
  const View<const std::uint8_t, 4>& mask = inputs_.mask;
  const std::uint8_t* row =
      mask.data + batch_ * mask.stride[0] + head_ * mask.stride[1] + query * mask.stride[2];
  constexpr std::int64_t kPart = 512;
  for (std::int64_t first = 0; first < keys_; first += kPart) {
    const std::int64_t count = std::min(kPart, keys_ - first);
    std::uint64_t bits[kPart / 64];
    if (mask.stride[3] == 1) {
      select.mask_bits(row + first, count, bits);
    } else {
      std::uint8_t part[kPart];
      for (std::int64_t j = 0; j < count; ++j) part[j] = row[(first + j) * mask.stride[3]];
      select.mask_bits(part, count, bits);
    }
    for (std::int64_t w = 0; w < (count + 63) / 64; ++w) {
      std::uint64_t& word = to[first / 64 + w];
      word = inputs_.bias ? word & bits[w] : bits[w];
    }
  }
  std::fill(to + used, to + words_, 0);
}

const float* Visibility::BiasRow(std::int64_t query, std::int64_t count, float* scratch) const {
  const Tensor& bias = inputs_.bias;
  const std::byte* row = bias.Row(batch_, head_, query);
  if (bias.stride[3] == 1) {
    if (bias.dtype == DType::kF32) return reinterpret_cast<const float*>(row);
    kernels_.select->widen_row(row, static_cast<int>(bias.dtype), count, scratch);
    return scratch;
  }
  for (std::int64_t j = 0; j < count; ++j) {
    scratch[j] = ElementAt(row, bias.dtype, j * bias.stride[3]);
  }
  return scratch;
}

std::vector<float> Visibility::MeanKey() const {
  const std::int64_t d = inputs_.key.shape[3];
  std::vector<std::uint64_t> seen(words_, masked_ || queries_ == 0 ? 0 : ~std::uint64_t{0});
  if (masked_) {
    std::vector<float> scratch(keys_);
    std::vector<std::uint64_t> words(words_);
    const std::int64_t rows = per_query() ? queries_ : std::min<std::int64_t>(queries_, 1);
    for (std::int64_t i = 0; i < rows; ++i) {
      MaskWords(i, scratch.data(), words.data());
      for (std::int64_t w = 0; w < words_; ++w) seen[w] |= words[w];
    }
  }
  // The sums of reference::SimilarityEstimator: double, key after key.
  std::vector<double> sum(d, 0.0);
  std::vector<float> row(d);
  std::int64_t count = 0;
  const std::int64_t kv_head = inputs_.kv_head(head_);
  for (std::int64_t j = 0; j < keys_; ++j) {
    if (((seen[j / 64] >> (j % 64)) & 1) == 0) continue;
    ++count;
    kernels_.select->widen_row(inputs_.key.Row(batch_, kv_head, j),
                               static_cast<int>(inputs_.key.dtype), d, row.data());
    for (std::int64_t c = 0; c < d; ++c) sum[c] += row[c];
  }
  std::vector<float> mean(d, 0.0f);
  for (std::int64_t c = 0; c < d && count > 0; ++c) {
    mean[c] = static_cast<float>(sum[c] / static_cast<double>(count));
  }
  return mean;
}

}  // namespace elsa::cpu
