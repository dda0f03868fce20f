#include "elsa/cpu/kv_sums.h"

#include <algorithm>
#include <cmath>

#include "elsa/cpu/tensor.h"

namespace elsa::cpu {
namespace {

// The largest magnitude; NaN if one is.
double Largest(const std::vector<double>& values) {
  double largest = 0;
  for (double value : values) {
    const double magnitude = std::abs(value);
    if (!(magnitude <= largest)) largest = magnitude;
    if (magnitude != magnitude) return magnitude;
  }
  return largest;
}

}  // namespace

void KvSums::Clear() {
  std::fill(sums_.begin(), sums_.end(), 0.0);
  error_ = 0;
  removed_ = false;
}

bool KvSums::Good() const {
  // Sums that nothing was taken from are as good as they get.
  return !removed_ || error_ <= 0x1p-26 * Largest(sums_);
}

void KvSums::Update(const DecodeRows& rows, std::int64_t first, std::int64_t count, double sign) {
  const auto dtype = static_cast<DType>(rows.dtype);
  const auto components = static_cast<std::int64_t>(sums_.size());
  double* sums = sums_.data();
  for (std::int64_t j = first; j < first + count; ++j) {
    const std::byte* row = rows.data + j * rows.row_bytes;
    double largest = 0;
    const auto add = [&](const auto& element) {
      for (std::int64_t c = 0; c < components; ++c) {
        sums[c] += sign * element(c);
        const double magnitude = std::abs(sums[c]);
        largest = magnitude > largest ? magnitude : largest;
      }
    };
    if (dtype == DType::kF32) {
      const auto* values = reinterpret_cast<const float*>(row);
      add([&](std::int64_t c) { return static_cast<double>(values[c]); });
    } else {
      add([&](std::int64_t c) { return static_cast<double>(ElementAt(row, dtype, c)); });
    }
    error_ += 0x1p-53 * largest;
  }
  // Infinity stays in a sum; NaN fails every comparison in Good.
  if (sign < 0 && count > 0) removed_ = true;
}

}  // namespace elsa::cpu
