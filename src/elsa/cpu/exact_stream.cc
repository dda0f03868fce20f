// The way of a few queries: groups of rows that share a key head, times chunks of keys.
#include "elsa/cpu/exact_stream.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "elsa/cpu/buffer.h"
#include "elsa/cpu/exact_rows.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::cpu {
namespace {

// Keys of an item. Fixed, so that the result does not depend on how many threads there are.
constexpr std::int64_t kChunkKeys = 4096;

// The rows of some heads that share a key head: query after query, for each query head after head,
// so that with causal attention no row sees fewer keys than the one before.
struct Group {
  std::span<const HeadItem> heads;
  std::int64_t queries = 0;  // without padding
  std::int64_t keys = 0;     // that the last query may see
  std::int64_t first_part = 0;
  std::int64_t chunks = 0;

  int rows() const { return static_cast<int>(queries * static_cast<std::int64_t>(heads.size())); }
  const HeadItem& head(int row) const { return heads[row % heads.size()]; }
  std::int64_t query(int row) const { return row / static_cast<std::int64_t>(heads.size()); }
};

// The running softmax of a group's rows over one chunk.
struct Part {
  float* sums;
  float* largest;
  float* sum;
};

struct Scratch {
  Buffer queries;
  Buffer scores;
  Buffer addends;
};

struct Chunk {
  std::int64_t group;
  std::int64_t begin;
};

struct Plan {
  std::vector<Group> groups;
  std::vector<Chunk> chunks;
  Buffer parts;
};

class Stream {
 public:
  explicit Stream(const Call& call, Plan& plan)
      : call_(call),
        in_(call.inputs),
        kernels_(*call.kernels.exact),
        plan_(plan),
        d_(static_cast<int>(in_.query.shape[3])),
        d_v_(static_cast<int>(in_.value.shape[3])),
        sum_stride_(RoundUp(d_v_, kernels_.lanes)),
        part_floats_((sum_stride_ + 2) * kMostTileRows) {}

  void MakePlan(std::span<const HeadItem> heads);
  void Run();

 private:
  Part PartOf(const Group& group, std::int64_t chunk) const;
  void RunChunk(const Chunk& chunk) const;
  void RunBlock(const Group& group, std::int64_t first, const float* queries, Scratch& scratch,
                const Part& part) const;
  bool MakeAddends(const Group& group, std::int64_t first, const int* visible,
                   float* addends) const;
  void Finish(const Group& group) const;

  const Call& call_;
  const Inputs& in_;
  const ExactKernels& kernels_;
  Plan& plan_;
  const int d_;
  const int d_v_;
  const std::int64_t sum_stride_;
  const std::int64_t part_floats_;
  float* parts_ = nullptr;
};

void Stream::MakePlan(std::span<const HeadItem> heads) {
  plan_.groups.clear();
  plan_.chunks.clear();
  const std::int64_t queries = in_.query.shape[2];
  const std::int64_t most = kernels_.tile_rows / queries;
  std::int64_t parts = 0;
  for (std::size_t from = 0; from < heads.size();) {
    const HeadItem& head = heads[from];
    std::size_t to = from + 1;
    while (to < heads.size() && static_cast<std::int64_t>(to - from) < most &&
           heads[to].batch == head.batch && in_.kv_head(heads[to].head) == in_.kv_head(head.head)) {
      ++to;
    }
    Group group{heads.subspan(from, to - from), std::min(queries, in_.queries(head.batch))};
    if (group.queries > 0) {
      group.keys = std::max<std::int64_t>(in_.KeyEnd(head.batch, group.queries - 1), 0);
    }
    group.first_part = parts;
    group.chunks = std::max<std::int64_t>((group.keys + kChunkKeys - 1) / kChunkKeys, 1);
    parts += group.chunks;
    for (std::int64_t c = 0; c < group.chunks; ++c) {
      plan_.chunks.push_back({static_cast<std::int64_t>(plan_.groups.size()), c * kChunkKeys});
    }
    plan_.groups.push_back(group);
    from = to;
  }
  parts_ = plan_.parts.Get<float>(parts * part_floats_);
}

Part Stream::PartOf(const Group& group, std::int64_t chunk) const {
  float* at = parts_ + (group.first_part + chunk) * part_floats_;
  float* largest = at + sum_stride_ * kMostTileRows;
  return {at, largest, largest + kMostTileRows};
}

void Stream::RunChunk(const Chunk& chunk) const {
  thread_local Scratch scratch;
  const Group& group = plan_.groups[chunk.group];
  const int rows = group.rows();
  if (rows == 0) return;
  const Part part = PartOf(group, chunk.begin / kChunkKeys);
  std::fill(part.sums, part.sums + rows * sum_stride_, 0.0f);
  std::fill(part.largest, part.largest + rows, kNegativeInfinity);
  std::fill(part.sum, part.sum + rows, 0.0f);
  float* queries = scratch.queries.Get<float>(kMostTileRows * kernels_.query_stride);
  for (int i = 0; i < rows; ++i) {
    const HeadItem& head = group.head(i);
    kernels_.stream_queries(RowsOf(in_.query, head.batch, head.head, group.query(i)), 1, d_,
                            in_.scale * kLog2E, queries + i * kernels_.query_stride);
  }
  const std::int64_t end = std::min(chunk.begin + kChunkKeys, group.keys);
  for (std::int64_t first = chunk.begin; first < end; first += kBlockKeys) {
    RunBlock(group, first, queries, scratch, part);
  }
}

void Stream::RunBlock(const Group& group, std::int64_t first, const float* queries,
                      Scratch& scratch, const Part& part) const {
  const HeadItem& head = group.heads[0];
  const std::int64_t kv_head = in_.kv_head(head.head);
  const int rows = group.rows();
  int visible[kMostTileRows];
  for (int i = 0; i < rows; ++i) {
    const std::int64_t end = in_.KeyEnd(head.batch, group.query(i)) - first;
    visible[i] = static_cast<int>(std::clamp<std::int64_t>(end, 0, kBlockKeys));
  }
  float* scores = scratch.scores.Get<float>(kMostTileRows * kScoreStride);
  float* addends = nullptr;
  if (in_.mask || in_.bias) {
    addends = scratch.addends.Get<float>(kMostTileRows * kBlockKeys);
    if (!MakeAddends(group, first, visible, addends)) return;
  }
  kernels_.stream_scores(queries, rows, RowsOf(in_.key, head.batch, kv_head, first),
                         visible[rows - 1], d_, scores, kScoreStride);
  for (int i = 0; i < rows && addends != nullptr; ++i) {
    kernels_.add(addends + i * kBlockKeys, visible[i], scores + i * kScoreStride);
  }
  alignas(64) float correction[kMostTileRows + 16] = {};
  kernels_.softmax(scores, kScoreStride, rows, visible, false,
                   {part.largest, part.sum, correction});
  kernels_.stream_accumulate(scores, kScoreStride, addends, kBlockKeys,
                             RowsOf(in_.value, head.batch, kv_head, first), rows, visible, d_v_,
                             correction, part.sums, sum_stride_);
}

// Returns whether any row sees any key of the block.
bool Stream::MakeAddends(const Group& group, std::int64_t first, const int* visible,
                         float* addends) const {
  bool any = false;
  for (int i = 0; i < group.rows(); ++i) {
    if (visible[i] == 0) continue;
    const KeyBias of = KeyBiasOf(in_, group.head(i), group.query(i), first);
    any |= kernels_.make_addend(of, visible[i], reference::kMaskedBias, addends + i * kBlockKeys) !=
           Seen::kNothing;
  }
  return any;
}

// Merges the chunks' parts, the first one first, and writes the rows.
void Stream::Finish(const Group& group) const {
  for (int i = 0; i < group.rows(); ++i) {
    const Part total = PartOf(group, 0);
    float* sums = total.sums + i * sum_stride_;
    for (std::int64_t c = 1; c < group.chunks; ++c) {
      const Part part = PartOf(group, c);
      if (part.largest[i] == kNegativeInfinity && part.sum[i] == 0) continue;
      const float largest = std::max(total.largest[i], part.largest[i]);
      const float old_factor = std::exp2(total.largest[i] - largest);
      const float new_factor = std::exp2(part.largest[i] - largest);
      for (int k = 0; k < d_v_; ++k) {
        sums[k] = sums[k] * old_factor + part.sums[i * sum_stride_ + k] * new_factor;
      }
      total.sum[i] = total.sum[i] * old_factor + part.sum[i] * new_factor;
      total.largest[i] = largest;
    }
    WriteRow(call_, group.head(i), group.query(i), sums, total.largest[i], total.sum[i]);
  }
  for (const HeadItem& head : group.heads) {
    for (std::int64_t i = group.queries; i < in_.query.shape[2]; ++i) WriteZeros(call_, head, i);
  }
}

// Below this many bytes of keys and values, waking threads takes longer than the work.
constexpr std::int64_t kWorthThreads = 256 << 10;

void Stream::Run() {
  std::int64_t bytes = 0;
  for (const Group& group : plan_.groups) bytes += group.keys * (d_ + d_v_) * 4;
  const auto run = [&](std::int64_t i) { RunChunk(plan_.chunks[i]); };
  const auto count = static_cast<std::int64_t>(plan_.chunks.size());
  if (bytes >= kWorthThreads) {
    call_.executor.Run(count, run);
  } else {
    for (std::int64_t i = 0; i < count; ++i) run(i);
  }
  for (const Group& group : plan_.groups) Finish(group);
}

}  // namespace

void StreamAttention(const Call& call, std::span<const HeadItem> heads) {
  thread_local Plan kept;
  Plan plan = std::exchange(kept, {});
  Stream stream(call, plan);
  stream.MakePlan(heads);
  stream.Run();
  kept = std::move(plan);
}

}  // namespace elsa::cpu
