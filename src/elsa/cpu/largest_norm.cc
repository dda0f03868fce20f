#include "elsa/cpu/largest_norm.h"

#include <algorithm>
#include <cmath>

namespace elsa::cpu {

LargestNorm::LargestNorm(const Sketch& keys, const Visibility& visibility) : norms_(keys.norms()) {
  const std::int64_t count = keys.count();
  if (visibility.per_query()) {
    for (std::int64_t j = 0; j < count; ++j) {
      if (std::isfinite(norms_[j])) falling_.push_back(static_cast<std::int32_t>(j));
    }
    std::sort(falling_.begin(), falling_.end(), [&](std::int32_t a, std::int32_t b) {
      return norms_[a] != norms_[b] ? norms_[a] > norms_[b] : a < b;
    });
    return;
  }
  std::vector<std::uint64_t> shared;
  if (visibility.masked()) {
    shared.resize(visibility.words());
    visibility.MaskWords(0, nullptr, shared.data());
  }
  before_.resize(count + 1);
  float most = 0;
  for (std::int64_t j = 0; j < count; ++j) {
    const bool seen = shared.empty() || ((shared[j / 64] >> (j % 64)) & 1) != 0;
    if (seen && std::isfinite(norms_[j]) && norms_[j] > most) most = norms_[j];
    before_[j + 1] = most;
  }
}

float LargestNorm::Of(std::int64_t end, const std::uint64_t* visible) const {
  if (!before_.empty()) return before_[end];
  for (std::int32_t j : falling_) {
    if (j < end && (visible == nullptr || ((visible[j / 64] >> (j % 64)) & 1) != 0)) {
      return norms_[j];
    }
  }
  return 0;
}

std::int64_t LargestNorm::FirstEndOf(float norm) const {
  return std::lower_bound(before_.begin(), before_.end(), norm) - before_.begin();
}

}  // namespace elsa::cpu
