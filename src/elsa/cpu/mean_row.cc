#include "elsa/cpu/mean_row.h"

#include <algorithm>
#include <bit>

namespace elsa::cpu {
namespace {

std::int64_t Words(std::int64_t keys) { return (keys + 63) / 64; }

}  // namespace

MeanRows::MeanRows(const Inputs& inputs, std::int64_t batch, std::int64_t head,
                   const PackedHead& rows, const SparseKernels& kernels)
    : inputs_(inputs),
      batch_(batch),
      head_(head),
      rows_(rows),
      kernels_(kernels),
      masked_(inputs.mask || inputs.bias),
      shared_((!inputs.mask || inputs.mask.stride[2] == 0) &&
              (!inputs.bias || inputs.bias.stride[2] == 0)) {
  if (!masked_ || !shared_) return;
  words_.resize(Words(rows.keys()));
  if (inputs.bias) bias_.resize(rows.keys());
  See(0, rows.keys(), words_.data(), bias_.data());
}

void MeanRows::See(std::int64_t query, std::int64_t end, std::uint64_t* words, float* bias) const {
  std::fill_n(words, Words(end), 0);
  const std::byte* bias_row = inputs_.bias ? inputs_.bias.Row(batch_, head_, query) : nullptr;
  for (std::int64_t key = 0; key < end; ++key) {
    if (inputs_.mask && inputs_.mask(batch_, head_, query, key) == 0) continue;
    if (bias_row != nullptr) {
      bias[key] = ElementAt(bias_row, inputs_.bias.dtype, key * inputs_.bias.stride[3]);
      if (bias[key] <= reference::kMaskedBias) continue;  // a NaN stays
    }
    words[key / 64] |= std::uint64_t{1} << (key % 64);
  }
}

MeanCursor::MeanCursor(const MeanRows& rows)
    : rows_(rows), sums_(rows.rows_.d() + rows.rows_.d_v()), mean_(sums_.size()) {
  Restart();
  if (!rows.masked_) return;
  if (rows.shared_) {
    words_ = rows.words_.data();
    bias_ = rows.bias_.empty() ? nullptr : rows.bias_.data();
    return;
  }
  own_words_.resize(Words(rows.rows_.keys()));
  words_ = own_words_.data();
  if (!rows.inputs_.bias) return;
  own_bias_.resize(rows.rows_.keys());
  bias_ = own_bias_.data();
}

void MeanCursor::Restart() {
  std::fill(sums_.begin(), sums_.end(), 0.0);
  end_ = 0;
  count_ = 0;
  bias_sum_ = 0;
  mean_of_ = -1;
}

void MeanCursor::Seek(std::int64_t query) {
  const std::int64_t end = rows_.inputs_.KeyEnd(rows_.batch_, query);
  if (!rows_.shared_) rows_.See(query, end, own_words_.data(), own_bias_.data());
  if (!rows_.shared_ || end < end_) Restart();
  Extend(end);
  if (mean_of_ == count_) return;
  mean_of_ = count_;
  const double factor = 1 / static_cast<double>(count_);
  rows_.kernels_.scale_sums(sums_.data(), factor, static_cast<int>(sums_.size()), mean_.data());
  mean_bias_ = bias_sum_ * factor;
}

void MeanCursor::Extend(std::int64_t end) {
  while (end_ < end) {
    const std::int64_t word = end_ / 64;
    const std::int64_t next = std::min(end, (word + 1) * 64);
    std::uint64_t seen = words_ != nullptr ? words_[word] : ~std::uint64_t{0};
    seen &= ~std::uint64_t{0} << (end_ % 64);
    if (next % 64 != 0) seen &= (std::uint64_t{1} << (next % 64)) - 1;
    // A block's sum is over all its keys below the length.
    if (std::popcount(seen) == std::min<std::int64_t>(64, rows_.rows_.keys() - word * 64)) {
      const double* block = rows_.rows_.BlockSum(word);
      for (std::size_t c = 0; c < sums_.size(); ++c) sums_[c] += block[c];
      count_ += std::popcount(seen);
    } else {
      for (std::uint64_t left = seen; left != 0; left &= left - 1) {
        Add(word * 64 + std::countr_zero(left));
      }
    }
    for (std::uint64_t left = bias_ != nullptr ? seen : 0; left != 0; left &= left - 1) {
      bias_sum_ += static_cast<double>(bias_[word * 64 + std::countr_zero(left)]);
    }
    end_ = next;
  }
}

void MeanCursor::Add(std::int64_t key) {
  const PackedHead& rows = rows_.rows_;
  rows_.kernels_.add_rows(rows.key(key), 1, rows.d(), sums_.data());
  rows_.kernels_.add_rows(rows.value(key), 1, rows.d_v(), sums_.data() + rows.d());
  ++count_;
}

}  // namespace elsa::cpu
