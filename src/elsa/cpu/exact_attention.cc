// Exact attention: heads, masks, blocks and threads around the kernels of kernels/exact.h.
//
// An item of work is a range of queries of one key head. It goes over the keys in super-blocks that
// stay in the second-level cache once packed; within one, tile after tile of queries passes over
// its blocks with a running softmax. What a row's result is made of depends on its position and the
// shapes alone: not on how queries are split into items, nor on which heads are listed together.
#include "elsa/cpu/exact_attention.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "elsa/cpu/buffer.h"
#include "elsa/cpu/exact_rows.h"
#include "elsa/cpu/exact_stream.h"
#include "elsa/cpu/kernels/exact.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::cpu {
namespace {

// Our choices, measured: bytes of packed keys and values of a super-block; queries per item.
constexpr std::int64_t kSuperBlockBytes = 512 << 10;
constexpr std::int64_t kItemRows = 1024;
constexpr std::int64_t kMostBlocks = 16;  // of a super-block

// Keys per super-block, a multiple of kBlockKeys.
std::int64_t SuperBlockKeys(const Inputs& in) {
  const std::int64_t bytes = (in.key.shape[3] + in.value.shape[3]) * 4;
  return std::clamp(kSuperBlockBytes / bytes / kBlockKeys, std::int64_t{1}, kMostBlocks) *
         kBlockKeys;
}

// Queries [begin, end) of some heads that share a key head.
struct Item {
  std::int64_t batch;
  std::span<const HeadItem> heads;
  std::int64_t begin;
  std::int64_t end;
  std::int64_t pairs;  // upper bound of what it computes
};

// Working memory of a thread.
struct Scratch {
  Buffer keys;
  Buffer values;
  Buffer queries;
  Buffer scores;
  Buffer sums;
  Buffer largest;
  Buffer sum;
  Buffer addends;
  std::vector<std::int64_t> not_finite;  // keys of the super-block with such values
  std::vector<bool> begun;               // tiles that have seen a block
};

Scratch& ThreadScratch() {
  thread_local Scratch scratch;
  return scratch;
}

// Tensors of fp16 keep their precision: they are not cut down to bfloat16.
const ExactKernels& TileKernels(const Call& call) {
  const ExactKernels& exact = *call.kernels.exact;
  const bool bf16 = call.bits16 && call.inputs.query.dtype != DType::kF16;
  return bf16 && exact.bf16 != nullptr ? *exact.bf16 : exact;
}

// One item of work on one thread.
class ItemRun {
 public:
  ItemRun(const Call& call, const Item& item, Scratch& scratch)
      : call_(call),
        in_(call.inputs),
        kernels_(TileKernels(call)),
        item_(item),
        scratch_(scratch),
        d_(static_cast<int>(in_.query.shape[3])),
        d_v_(static_cast<int>(in_.value.shape[3])),
        tiles_((item.end - item.begin + kernels_.tile_rows - 1) / kernels_.tile_rows),
        end_(std::min(item.end, in_.queries(item.batch))),
        sum_stride_(RoundUp(d_v_, kernels_.lanes)),
        has_addend_(in_.mask || in_.bias),
        shared_addend_(has_addend_ && (!in_.mask || in_.mask.stride[2] == 0) &&
                       (!in_.bias || in_.bias.stride[2] == 0)) {}

  void Run();

 private:
  // A tile of queries of one head.
  struct Tile {
    const HeadItem* head;
    std::int64_t index;  // among those of the item
    std::int64_t begin;  // first query
    int rows;
  };

  Tile TileOf(std::size_t head, std::int64_t index) const;
  std::int64_t KeyEnd(std::int64_t query) const { return in_.KeyEnd(item_.batch, query); }
  void PackSuperBlock(const HeadItem& head);
  void RunTile(const Tile& tile);
  void RunBlock(const Tile& tile, std::int64_t first, const int* visible);
  void MakeSharedAddend(const HeadItem& head);
  bool MakeAddends(const Tile& tile, std::int64_t first, const int* visible);
  void Add(const Tile& tile, std::int64_t first, const int* visible);
  void AddNotFinite(const Tile& tile, std::int64_t first, const int* visible);
  void Finish(const Tile& tile);

  float* SumsOf(const Tile& tile) const {
    return sums_ + tile.index * kernels_.tile_rows * sum_stride_;
  }

  const Call& call_;
  const Inputs& in_;
  const ExactKernels& kernels_;
  const Item& item_;
  Scratch& scratch_;
  const int d_;
  const int d_v_;
  const std::int64_t tiles_;  // of a head
  const std::int64_t end_;    // of the item's queries without padding
  const std::int64_t sum_stride_;
  const bool has_addend_;
  const bool shared_addend_;  // all queries of a head have the same
  // The tiles' sums of values, largest scores and sums of weights.
  float* sums_ = nullptr;
  float* largest_ = nullptr;
  float* sum_ = nullptr;
  // Packed: the super-block from key first_ on, and a tile's queries.
  std::int64_t first_ = 0;
  std::int64_t keys_ = 0;
  std::byte* packed_keys_ = nullptr;
  std::byte* packed_values_ = nullptr;
  std::byte* packed_queries_ = nullptr;
  // A tile's block.
  float* scores_ = nullptr;
  float* addends_ = nullptr;  // [tile_rows][kBlockKeys], or [1][super-block] if shared
  Seen shared_seen_[kMostBlocks] = {};
  Seen seen_[kMostTileRows] = {};
  alignas(64) float correction_[kMostTileRows + 16] = {};
};

ItemRun::Tile ItemRun::TileOf(std::size_t head, std::int64_t index) const {
  const std::int64_t begin = item_.begin + index * kernels_.tile_rows;
  const std::int64_t rows = std::min<std::int64_t>(kernels_.tile_rows, end_ - begin);
  return {&item_.heads[head], static_cast<std::int64_t>(head) * tiles_ + index, begin,
          static_cast<int>(std::max<std::int64_t>(rows, 0))};
}

void ItemRun::Run() {
  const std::int64_t key_end = end_ > item_.begin ? KeyEnd(end_ - 1) : 0;
  const std::int64_t step = std::min(SuperBlockKeys(in_), RoundUp(key_end, kernels_.panel_keys));
  const std::int64_t tiles = static_cast<std::int64_t>(item_.heads.size()) * tiles_;
  const std::int64_t rows = tiles * kernels_.tile_rows;
  sums_ = scratch_.sums.Get<float>(rows * sum_stride_);
  largest_ = scratch_.largest.Get<float>(rows);
  sum_ = scratch_.sum.Get<float>(rows);
  std::fill(largest_, largest_ + rows, kNegativeInfinity);
  std::fill(sum_, sum_ + rows, 0.0f);
  scratch_.begun.assign(tiles, false);
  packed_keys_ = scratch_.keys.Get<std::byte>(kernels_.key_bytes(step, d_));
  packed_values_ = scratch_.values.Get<std::byte>(kernels_.value_bytes(step, d_v_));
  packed_queries_ = scratch_.queries.Get<std::byte>(kernels_.query_bytes(d_));
  scores_ = scratch_.scores.Get<float>(kernels_.tile_rows * kScoreStride);
  if (has_addend_) {
    addends_ = scratch_.addends.Get<float>(shared_addend_ ? step : kernels_.tile_rows * kBlockKeys);
  }
  for (first_ = 0; first_ < key_end; first_ += step) {
    keys_ = std::min(step, key_end - first_);
    PackSuperBlock(item_.heads[0]);
    for (std::size_t h = 0; h < item_.heads.size(); ++h) {
      if (shared_addend_) MakeSharedAddend(item_.heads[h]);
      for (std::int64_t t = 0; t < tiles_; ++t) RunTile(TileOf(h, t));
    }
  }
  for (std::size_t h = 0; h < item_.heads.size(); ++h) {
    for (std::int64_t t = 0; t < tiles_; ++t) Finish(TileOf(h, t));
    for (std::int64_t i = std::max(item_.begin, end_); i < item_.end; ++i) {
      WriteZeros(call_, item_.heads[h], i);
    }
  }
}

void ItemRun::PackSuperBlock(const HeadItem& head) {
  const std::int64_t kv_head = in_.kv_head(head.head);
  const ElementRows values = RowsOf(in_.value, head.batch, kv_head, first_);
  kernels_.pack_keys(RowsOf(in_.key, head.batch, kv_head, first_), keys_, d_, packed_keys_);
  scratch_.not_finite.clear();
  if (kernels_.pack_values(values, keys_, d_v_, packed_values_)) return;
  for (std::int64_t j = 0; j < keys_; ++j) {
    for (int c = 0; c < d_v_; ++c) {
      if (std::isfinite(ElementAt(values.data + j * values.stride, in_.value.dtype, c))) continue;
      scratch_.not_finite.push_back(j);
      break;
    }
  }
}

void ItemRun::RunTile(const Tile& tile) {
  if (tile.rows == 0) return;
  const std::int64_t end = std::min(KeyEnd(tile.begin + tile.rows - 1) - first_, keys_);
  if (end <= 0) return;
  kernels_.pack_queries(RowsOf(in_.query, tile.head->batch, tile.head->head, tile.begin), tile.rows,
                        d_, in_.scale * kLog2E, packed_queries_);
  for (std::int64_t first = 0; first < end; first += kBlockKeys) {
    int visible[kMostTileRows];
    for (int i = 0; i < tile.rows; ++i) {
      const std::int64_t row_end = std::min(KeyEnd(tile.begin + i) - first_, keys_);
      visible[i] = static_cast<int>(std::clamp<std::int64_t>(row_end - first, 0, kBlockKeys));
    }
    RunBlock(tile, first, visible);
  }
}

// The keys from `first` of the super-block on, up to kBlockKeys; row i sees visible[i] of them.
void ItemRun::RunBlock(const Tile& tile, std::int64_t first, const int* visible) {
  if (has_addend_ && !MakeAddends(tile, first, visible)) return;
  const std::int64_t row = tile.index * kernels_.tile_rows;
  const bool begin = !scratch_.begun[tile.index];
  scratch_.begun[tile.index] = true;
  kernels_.scores(packed_queries_, packed_keys_, first, tile.rows, visible, d_, scores_,
                  kScoreStride);
  if (has_addend_) Add(tile, first, visible);
  kernels_.softmax(scores_, kScoreStride, tile.rows, visible, begin,
                   {largest_ + row, sum_ + row, correction_});
  kernels_.accumulate(scores_, kScoreStride, packed_values_, keys_, first, tile.rows, visible, d_v_,
                      begin, correction_, SumsOf(tile), sum_stride_);
  if (!scratch_.not_finite.empty()) AddNotFinite(tile, first, visible);
}

void ItemRun::MakeSharedAddend(const HeadItem& head) {
  for (std::int64_t first = 0; first < keys_; first += kBlockKeys) {
    shared_seen_[first / kBlockKeys] = kernels_.make_addend(
        KeyBiasOf(in_, head, item_.begin, first_ + first), std::min(kBlockKeys, keys_ - first),
        reference::kMaskedBias, addends_ + first);
  }
}

// Returns whether any query of the tile sees any key of the block.
bool ItemRun::MakeAddends(const Tile& tile, std::int64_t first, const int* visible) {
  if (shared_addend_) {
    std::fill(seen_, seen_ + tile.rows, shared_seen_[first / kBlockKeys]);
    return seen_[0] != Seen::kNothing;
  }
  bool any = false;
  for (int i = 0; i < tile.rows; ++i) {
    if (visible[i] <= 0) continue;
    const KeyBias of = KeyBiasOf(in_, *tile.head, tile.begin + i, first_ + first);
    seen_[i] =
        kernels_.make_addend(of, visible[i], reference::kMaskedBias, addends_ + i * kBlockKeys);
    any = any || seen_[i] != Seen::kNothing;
  }
  return any;
}

void ItemRun::Add(const Tile& tile, std::int64_t first, const int* visible) {
  for (int i = 0; i < tile.rows; ++i) {
    if (visible[i] <= 0 || seen_[i] == Seen::kAllUnbiased) continue;
    kernels_.add(addends_ + (shared_addend_ ? first : i * kBlockKeys), visible[i],
                 scores_ + i * kScoreStride);
  }
}

// Values that are not finite were packed as 0. They count for the queries that see them only: 0
// times infinity would be NaN for the others too.
void ItemRun::AddNotFinite(const Tile& tile, std::int64_t first, const int* visible) {
  const HeadItem& head = *tile.head;
  for (const std::int64_t j : scratch_.not_finite) {
    if (j < first) continue;
    const std::byte* value = in_.value.Row(head.batch, in_.kv_head(head.head), first_ + j);
    for (int i = 0; i < tile.rows; ++i) {
      if (j - first >= visible[i]) continue;
      if (!Unmasked(in_, head.batch, head.head, tile.begin + i, first_ + j)) continue;
      const float weight = kernels_.weight(scores_ + i * kScoreStride, j - first);
      float* sums = SumsOf(tile) + i * sum_stride_;
      for (int c = 0; c < d_v_; ++c) {
        const float x = ElementAt(value, in_.value.dtype, c);
        if (!std::isfinite(x)) sums[c] += weight * x;
      }
    }
  }
}

void ItemRun::Finish(const Tile& tile) {
  const std::int64_t row = tile.index * kernels_.tile_rows;
  for (int i = 0; i < tile.rows; ++i) {
    WriteRow(call_, *tile.head, tile.begin + i, SumsOf(tile) + i * sum_stride_, largest_[row + i],
             sum_[row + i]);
  }
}

// What a call consists of.
struct Schedule {
  std::vector<HeadItem> heads;
  std::vector<Item> items;
};

// Heads that share a key head lie together.
void GroupHeads(const Inputs& in, std::span<const HeadItem> heads, Schedule& schedule) {
  schedule.heads.assign(heads.begin(), heads.end());
  std::stable_sort(schedule.heads.begin(), schedule.heads.end(),
                   [&](const HeadItem& a, const HeadItem& b) {
                     if (a.batch != b.batch) return a.batch < b.batch;
                     return in.kv_head(a.head) < in.kv_head(b.head);
                   });
}

void MakeItems(const Inputs& in, int tile_rows, int threads, Schedule& schedule) {
  schedule.items.clear();
  const std::int64_t queries = in.query.shape[2];
  const auto count = static_cast<std::int64_t>(schedule.heads.size());
  // Enough items to balance, but not so few queries in one that packing the keys shows.
  const std::int64_t balanced = count * queries / (threads > 1 ? 4 * threads : 1);
  const std::int64_t item_rows = std::clamp(balanced, std::int64_t{8} * tile_rows, kItemRows);
  for (std::int64_t from = 0; from < count;) {
    const HeadItem& head = schedule.heads[from];
    std::int64_t to = from + 1;
    while (to < count && schedule.heads[to].batch == head.batch &&
           in.kv_head(schedule.heads[to].head) == in.kv_head(head.head)) {
      ++to;
    }
    const std::int64_t share =
        RoundUp(std::max(item_rows / (to - from), std::int64_t{1}), tile_rows);
    for (std::int64_t begin = 0; begin < queries; begin += share) {
      const std::int64_t end = std::min(begin + share, queries);
      const std::int64_t keys = std::max<std::int64_t>(in.KeyEnd(head.batch, end - 1), 0);
      schedule.items.push_back({head.batch, std::span(schedule.heads).subspan(from, to - from),
                                begin, end, (to - from) * (end - begin) * keys});
    }
    from = to;
  }
  std::stable_sort(schedule.items.begin(), schedule.items.end(),
                   [](const Item& a, const Item& b) { return a.pairs > b.pairs; });
}

// Below this many pairs times components, waking threads takes longer than the work.
constexpr std::int64_t kWorthThreads = std::int64_t{1} << 20;

}  // namespace

void ExactAttention(const Call& call, std::span<const HeadItem> heads) {
  const Inputs& in = call.inputs;
  if (heads.empty() || in.query.shape[2] == 0) return;
  // Taken from the thread and given back: an executor may run another call inside this one.
  thread_local Schedule kept;
  Schedule schedule = std::exchange(kept, {});
  GroupHeads(in, heads, schedule);
  if (in.query.shape[2] <= MostStreamQueries(in.key.shape[2])) {
    StreamAttention(call, schedule.heads);
    kept = std::move(schedule);
    return;
  }
  MakeItems(in, call.kernels.exact->tile_rows, call.executor.threads(), schedule);
  std::int64_t work = 0;
  for (const Item& item : schedule.items) work += item.pairs * in.query.shape[3];
  const auto run = [&](std::int64_t i) { ItemRun(call, schedule.items[i], ThreadScratch()).Run(); };
  const auto count = static_cast<std::int64_t>(schedule.items.size());
  if (work >= kWorthThreads) {
    call.executor.Run(count, run);
  } else {
    for (std::int64_t i = 0; i < count; ++i) run(i);
  }
  kept = std::move(schedule);
}

}  // namespace elsa::cpu
