// What the ways of exact attention share: rows of tensors for kernels, masks, and results.
// Internal.
#ifndef ELSA_CPU_EXACT_ROWS_H_
#define ELSA_CPU_EXACT_ROWS_H_

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "elsa/cpu/exact_attention.h"
#include "elsa/cpu/kernels/exact.h"

namespace elsa::cpu {

static_assert(static_cast<int>(Element::kF32) == static_cast<int>(DType::kF32));
static_assert(static_cast<int>(Element::kF16) == static_cast<int>(DType::kF16));
static_assert(static_cast<int>(Element::kBf16) == static_cast<int>(DType::kBf16));

inline constexpr float kNegativeInfinity = -std::numeric_limits<float>::infinity();
inline constexpr double kLog2E = 1.44269504088896340736;

// Our choices, measured: keys per block of the running softmax; floats from row to row of its
// scores, off the power of two so that rows do not meet in the same sets of the cache.
inline constexpr std::int64_t kBlockKeys = 256;
inline constexpr std::int64_t kScoreStride = kBlockKeys + 16;
inline constexpr int kMostTileRows = 32;

inline std::int64_t RoundUp(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

inline ElementRows RowsOf(const Tensor& t, std::int64_t a, std::int64_t b, std::int64_t c) {
  return {t.Row(a, b, c), t.stride[2] * SizeOf(t.dtype), static_cast<Element>(t.dtype)};
}

// Mask and bias of a query from a key on.
inline KeyBias KeyBiasOf(const Inputs& in, const HeadItem& head, std::int64_t query,
                         std::int64_t key) {
  KeyBias of{};
  if (in.mask) {
    of.mask = &in.mask(head.batch, head.head, query, key);
    of.mask_stride = in.mask.stride[3];
  }
  if (in.bias) {
    of.bias_stride = in.bias.stride[3];
    of.bias =
        in.bias.Row(head.batch, head.head, query) + key * of.bias_stride * SizeOf(in.bias.dtype);
    of.element = static_cast<Element>(in.bias.dtype);
  }
  return of;
}

inline void WriteZeros(const Call& call, const HeadItem& head, std::int64_t query) {
  const MutableTensor& out = call.output.out;
  std::memset(out.Row(head.batch, head.head, query), 0, out.shape[3] * SizeOf(out.dtype));
  if (!call.output.log_sum_exp) return;
  call.output.log_sum_exp(head.batch, head.head, query) = kNegativeInfinity;
}

// The row of a query: sums / sum, and its log-sum-exp (`largest` is in units of log2).
inline void WriteRow(const Call& call, const HeadItem& head, std::int64_t query, float* sums,
                     float largest, float sum) {
  constexpr double kLn2 = 0.69314718055994530942;
  const MutableTensor& out = call.output.out;
  const auto d_v = static_cast<int>(out.shape[3]);
  if (sum == 0) {
    if (VisibleKeys(call.inputs, head.batch, head.head, query) == 0) {
      return WriteZeros(call, head, query);
    }
    // Every score is -infinity: their softmax is not a number.
    sum = std::numeric_limits<float>::quiet_NaN();
    std::fill(sums, sums + d_v, 0.0f);
  }
  call.kernels.exact->write_row(sums, d_v, sum, static_cast<Element>(out.dtype),
                                out.Row(head.batch, head.head, query));
  if (!call.output.log_sum_exp) return;
  const double log2 = largest + std::log2(static_cast<double>(sum));
  call.output.log_sum_exp(head.batch, head.head, query) = static_cast<float>(log2 * kLn2);
}

}  // namespace elsa::cpu

#endif  // ELSA_CPU_EXACT_ROWS_H_
