#include "elsa/cpu/mean_row.h"

#include <algorithm>
#include <bit>

namespace elsa::cpu {

MeanRows::MeanRows(const Inputs& inputs, std::int64_t batch, std::int64_t head,
                   const PackedHead& rows, const KernelSet& kernels)
    : visibility_(inputs, batch, head, kernels),
      rows_(rows),
      kernels_(*kernels.sparse),
      has_bias_(inputs.bias),
      shared_((!inputs.mask || inputs.mask.stride[2] == 0) &&
              (!inputs.bias || inputs.bias.stride[2] == 0)) {}

MeanCursor::MeanCursor(const MeanRows& rows)
    : rows_(rows), sums_(rows.rows_.d() + rows.rows_.d_v()), mean_(sums_.size()) {
  Restart();
  if (!rows.visibility_.masked()) return;
  mask_.resize(rows.visibility_.words());
  scratch_.resize(rows.visibility_.keys());
  if (rows.shared_ && rows.visibility_.queries() > 0) Look(0);
}

void MeanCursor::Look(std::int64_t query) {
  const Visibility& visibility = rows_.visibility_;
  visibility.MaskWords(query, scratch_.data(), mask_.data());
  words_ = mask_.data();
  bias_ = rows_.has_bias_ ? visibility.BiasRow(query, visibility.keys(), scratch_.data()) : nullptr;
}

void MeanCursor::Restart() {
  std::fill(sums_.begin(), sums_.end(), 0.0);
  end_ = 0;
  count_ = 0;
  bias_sum_ = 0;
  mean_of_ = -1;
}

void MeanCursor::Seek(std::int64_t query) {
  const std::int64_t end = rows_.visibility_.KeyEnd(query);
  if (!rows_.shared_) Look(query);
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
  rows_.rows_.AddTo(key, sums_.data());
  ++count_;
}

}  // namespace elsa::cpu
