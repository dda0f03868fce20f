#include "elsa/cpu/sparse_tile.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "elsa/base/integer_math.h"

namespace elsa::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// Rows that take no more stay in the L2 cache. Our choice: half of the smallest in use.
constexpr std::int64_t kNearBytes = 256 << 10;

// What a thread works in.
struct Scratch {
  Buffer masks;
  Buffer counts;
  Buffer query;
  Buffer quantized;
  Buffer factor;
  Buffer query_offset;
  Buffer offset;
  Buffer list;
  Buffer start;
  Buffer score;
  Buffer weights;
  Buffer largest;
  Buffer sum;
  Buffer out;
};

class Tile {
 public:
  Tile(const Call& call, const SparseHead& head, std::int64_t first, std::int64_t count,
       Scratch& scratch)
      : call_(call),
        in_(call.inputs),
        kernels_(*call.kernels.sparse),
        head_(head),
        rows_(*head.rows),
        first_(first),
        // Padding has nothing to decide or to compute.
        count_(std::clamp<std::int64_t>(in_.queries(head.item.batch) - first, 0, count)),
        scratch_(scratch) {}

  reference::HeadStats Run(std::int64_t rows) {
    words_ = head_.selection->words();
    masks_ = scratch_.masks.Get<std::uint64_t>(count_ * words_);
    counts_ = scratch_.counts.Get<QueryCount>(count_);
    if (count_ > 0) head_.selection->Decide(first_, count_, masks_, counts_);
    if (count_ > 0) Compute();
    for (std::int64_t i = 0; i < count_; ++i) Finish(i);
    for (std::int64_t i = count_; i < rows; ++i) WriteZeros(i);
    return Count();
  }

 private:
  // The keys that no query of the tile sees beyond.
  std::int64_t KeyEnd() const {
    return std::max<std::int64_t>(in_.KeyEnd(head_.item.batch, first_ + count_ - 1), 0);
  }

  void Compute() {
    const std::int64_t end = KeyEnd();
    const std::int64_t super_block = std::min(head_.shape.super_block, (end + 63) / 64 * 64);
    Reserve(super_block);
    PackQueries();
    if (rows_.bits16()) QuantizeQueries();
    Begin();
    for (std::int64_t key = 0; key < end; key += super_block) {
      tile_.words = static_cast<int>((std::min(super_block, end - key) + 63) / 64);
      ListCandidates(key);
      if (rows_.bits16()) {
        tile_.value16 = rows_.value16(key);
        if (rows_.bits8()) {
          tile_.key8 = rows_.key8(key);
          kernels_.scores8(tile_);
        } else {
          tile_.key16 = rows_.key16(key);
          kernels_.scores16(tile_);
        }
        if (in_.bias) AddBias(key);
        kernels_.softmax16(tile_);
        kernels_.values16(tile_);
      } else {
        tile_.key = rows_.key(key);
        tile_.value = rows_.value(key);
        kernels_.scores(tile_);
        if (in_.bias) AddBias(key);
        kernels_.softmax(tile_);
        kernels_.values(tile_);
      }
    }
  }

  // What a list of `kept` takes: groups are read and written whole, and zeros follow.
  static std::int64_t Room(std::int64_t kept) {
    return CeilDiv(kept + kSparseGroup, kSparseGroup) * kSparseGroup;
  }

  void ListCandidates(std::int64_t first_key) {
    std::int64_t offset = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      tile_.offset[i] = offset;
      offset += Room(kernels_.list(masks_ + i * words_ + first_key / 64, tile_.words,
                                   tile_.list + offset, tile_.start + i * (tile_.words + 1)));
    }
  }

  void Reserve(std::int64_t super_block) {
    tile_.queries = static_cast<int>(count_);
    tile_.d = rows_.d();
    tile_.d_v = rows_.d_v();
    tile_.key_block = head_.shape.key_block;
    tile_.value_block = head_.shape.value_block;
    tile_.prefetch = rows_.Bytes() > kNearBytes;
    std::int64_t room = 0;
    for (std::int64_t i = 0; i < count_; ++i) {
      room += Room(std::min<std::int64_t>(counts_[i].kept, super_block));
    }
    tile_.offset = scratch_.offset.Get<std::ptrdiff_t>(count_);
    tile_.list = scratch_.list.Get<std::uint16_t>(room);
    tile_.start = scratch_.start.Get<std::uint16_t>(count_ * (super_block / 64 + 1));
    tile_.score = scratch_.score.Get<float>(room);
    tile_.weights = scratch_.weights.Get<float>(count_);
    tile_.largest = scratch_.largest.Get<float>(count_);
    tile_.sum = scratch_.sum.Get<float>(count_);
    tile_.out = scratch_.out.Get<float>(count_ * tile_.d_v);
  }

  void PackQueries() {
    float* query = scratch_.query.Get<float>(count_ * tile_.d);
    tile_.query = query;
    kernels_.pack({.from = in_.query.Row(head_.item.batch, head_.item.head, first_),
                   .stride = in_.query.stride[2] * SizeOf(in_.query.dtype),
                   .element = ElementOf(in_.query.dtype),
                   .count = static_cast<int>(count_),
                   .d = static_cast<int>(in_.query.shape[3]),
                   .padded = tile_.d,
                   .scale = static_cast<float>(in_.scale * std::numbers::log2e)},
                  query);
  }

  void QuantizeQueries() {
    float* factor = scratch_.factor.Get<float>(count_);
    if (rows_.bits8()) {
      tile_.d8 = rows_.d8();
      std::int8_t* query = scratch_.quantized.Get<std::int8_t>(count_ * tile_.d8);
      float* offset = scratch_.query_offset.Get<float>(count_);
      kernels_.quantize_queries8(tile_.query, tile_.queries, tile_.d, tile_.d8, query, factor,
                                 offset);
      tile_.query8 = query;
      tile_.query_offset = offset;
    } else {
      std::int16_t* query = scratch_.quantized.Get<std::int16_t>(count_ * tile_.d);
      kernels_.quantize_queries(tile_.query, tile_.queries, tile_.d, query, factor);
      tile_.query16 = query;
    }
    for (std::int64_t i = 0; i < count_; ++i) factor[i] /= rows_.key_scale();
    tile_.query_factor = factor;
  }

  // The softmax of a query starts with its copies of the mean row, or with nothing.
  void Begin() {
    std::fill_n(tile_.largest, count_, -kInfinity);
    std::fill_n(tile_.sum, count_, 0.0f);
    std::fill_n(tile_.out, count_ * tile_.d_v, 0.0f);
    if (head_.mean == nullptr) return;
    MeanCursor mean(*head_.mean);
    for (std::int64_t i = 0; i < count_; ++i) {
      const int dropped = counts_[i].visible - counts_[i].kept;
      if (dropped == 0) continue;
      mean.Seek(first_ + i);
      const float score = kernels_.dot(tile_.query + i * tile_.d, mean.key(), tile_.d) +
                          static_cast<float>(mean.bias() * std::numbers::log2e);
      tile_.largest[i] = score;
      // As if the score had been subtracted from itself: infinity shows.
      tile_.sum[i] = score == kInfinity ? kInfinity - score : static_cast<float>(dropped);
      kernels_.scale_row(mean.value(), static_cast<float>(dropped) * OutUnit(), tile_.d_v,
                         tile_.out + i * tile_.d_v);
    }
  }

  // What weighted sums of values are multiplied by.
  float OutUnit() const { return rows_.bits16() ? kWeightOne * rows_.value_scale() : 1; }

  void AddBias(std::int64_t first_key) {
    const std::int64_t stride = in_.bias.stride[3];
    for (std::int64_t i = 0; i < count_; ++i) {
      const std::byte* bias = in_.bias.Row(head_.item.batch, head_.item.head, first_ + i);
      const std::uint16_t* list = tile_.list + tile_.offset[i];
      float* score = tile_.score + tile_.offset[i];
      const int kept = tile_.start[i * (tile_.words + 1) + tile_.words];
      for (int j = 0; j < kept; ++j) {
        score[j] += std::numbers::log2e_v<float> *
                    ElementAt(bias, in_.bias.dtype, (first_key + list[j]) * stride);
      }
    }
  }

  void Finish(std::int64_t i) {
    if (counts_[i].kept == 0) return WriteZeros(i);
    const float factor = 1 / (tile_.sum[i] * OutUnit());
    const float* from = tile_.out + i * tile_.d_v;
    const MutableTensor& out = call_.output.out;
    const int d_v = static_cast<int>(out.shape[3]);
    kernels_.store_row(from, factor, d_v, ElementOf(out.dtype),
                       out.Row(head_.item.batch, head_.item.head, first_ + i));
    if (!call_.output.log_sum_exp) return;
    // In double: the logarithm of a large score keeps its digits.
    const double log2 =
        static_cast<double>(tile_.largest[i]) + std::log2(static_cast<double>(tile_.sum[i]));
    WriteLogSumExp(i, static_cast<float>(log2 * std::numbers::ln2));
  }

  void WriteZeros(std::int64_t i) {
    const MutableTensor& out = call_.output.out;
    std::memset(out.Row(head_.item.batch, head_.item.head, first_ + i), 0,
                static_cast<std::size_t>(out.shape[3] * SizeOf(out.dtype)));
    WriteLogSumExp(i, -kInfinity);
  }

  void WriteLogSumExp(std::int64_t i, float value) {
    const View<float, 3>& to = call_.output.log_sum_exp;
    if (to) to(head_.item.batch, head_.item.head, first_ + i) = value;
  }

  reference::HeadStats Count() const {
    reference::HeadStats stats;
    stats.queries = count_;
    for (std::int64_t i = 0; i < count_; ++i) {
      const QueryCount& count = counts_[i];
      stats.empty_queries += count.visible == 0 ? 1 : 0;
      stats.exact_queries += count.exact && count.visible > 0 ? 1 : 0;
      stats.fallback_queries += count.fallback ? 1 : 0;
      stats.pairs += count.visible;
      stats.kept += count.kept;
    }
    return stats;
  }

  const Call& call_;
  const Inputs& in_;
  const SparseKernels& kernels_;
  const SparseHead& head_;
  const PackedHead& rows_;
  std::int64_t first_;
  std::int64_t count_;
  Scratch& scratch_;
  std::int64_t words_ = 0;
  std::uint64_t* masks_ = nullptr;
  QueryCount* counts_ = nullptr;
  SparseTile tile_{};
};

}  // namespace

reference::HeadStats AttendTile(const Call& call, const SparseHead& head, std::int64_t first,
                                std::int64_t count) {
  static thread_local Scratch scratch;
  return Tile(call, head, first, count, scratch).Run(count);
}

}  // namespace elsa::cpu
