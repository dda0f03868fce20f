#include "elsa/cpu/sparse_attention.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "elsa/base/integer_math.h"
#include "elsa/cpu/selection.h"
#include "elsa/cpu/sparse_tile.h"

namespace elsa::cpu {
namespace {

// Rows that are prepared at once, at most. Our choice: two batches of a BERT layer.
constexpr std::int64_t kWaveBytes = std::int64_t{32} << 20;

// One (batch, kv head) and what its query heads share.
struct Group {
  std::int64_t batch = 0;
  std::int64_t kv_head = 0;
  std::vector<HeadItem> heads;
  std::shared_ptr<const KeySketch> sketch;
};

// One head of a wave.
struct Member {
  SparseHead head;
  std::unique_ptr<HeadSelection> selection;
  std::unique_ptr<MeanRows> mean;
};

struct Item {
  std::size_t member;
  std::int64_t first;  // query
};

std::vector<Group> GroupHeads(const Inputs& inputs, std::span<const HeadItem> heads) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<HeadItem>> by_group;
  for (const HeadItem& item : heads) {
    by_group[{item.batch, inputs.kv_head(item.head)}].push_back(item);
  }
  std::vector<Group> groups;
  for (auto& [key, items] : by_group) {
    groups.push_back({key.first, key.second, std::move(items), nullptr});
  }
  return groups;
}

class Wave {
 public:
  Wave(const Call& call, const Plan& plan, std::int64_t layer,
       std::shared_ptr<const HashProgram> hash, std::span<Group> groups, std::span<PackedHead> rows,
       std::span<HeadReport> reports)
      : call_(call),
        plan_(plan),
        layer_(layer),
        hash_(std::move(hash)),
        groups_(groups),
        rows_(rows),
        reports_(reports) {}

  void Run() {
    PrepareKeys();
    PrepareHeads();
    AttendTiles();
  }

 private:
  bool with_mean() const { return plan_.remainder == Remainder::kMean; }

  void PrepareKeys() {
    call_.executor.Run(static_cast<std::int64_t>(groups_.size()), [&](std::int64_t g) {
      Group& group = groups_[g];
      rows_[g].Prepare(call_.inputs, group.batch, group.kv_head, call_.kernels, with_mean());
      group.sketch =
          MakeKeySketch(call_.inputs, plan_, hash_, group.batch, group.kv_head, call_.kernels);
    });
  }

  void PrepareHeads() {
    std::vector<std::size_t> group_of;
    for (std::size_t g = 0; g < groups_.size(); ++g) {
      for (const HeadItem& item : groups_[g].heads) {
        Member& member = members_.emplace_back();
        member.head.item = item;
        member.head.rows = &rows_[g];
        group_of.push_back(g);
      }
    }
    call_.executor.Run(static_cast<std::int64_t>(members_.size()), [&](std::int64_t m) {
      Member& member = members_[m];
      const HeadItem& item = member.head.item;
      member.selection =
          std::make_unique<HeadSelection>(call_.inputs, plan_, layer_, item.batch, item.head,
                                          groups_[group_of[m]].sketch, call_.kernels);
      member.head.selection = member.selection.get();
      if (!with_mean()) return;
      member.mean = std::make_unique<MeanRows>(call_.inputs, item.batch, item.head,
                                               *member.head.rows, *call_.kernels.sparse);
      member.head.mean = member.mean.get();
    });
  }

  void AttendTiles() {
    const std::int64_t queries = call_.inputs.query.shape[2];
    std::vector<Item> items;
    for (std::size_t m = 0; m < members_.size(); ++m) {
      for (std::int64_t first = 0; first < queries; first += members_[m].head.shape.queries) {
        items.push_back({m, first});
      }
    }
    std::vector<reference::HeadStats> stats(items.size());
    call_.executor.Run(static_cast<std::int64_t>(items.size()), [&](std::int64_t i) {
      const SparseHead& head = members_[items[i].member].head;
      const std::int64_t count = std::min(head.shape.queries, queries - items[i].first);
      stats[i] = AttendTile(call_, head, items[i].first, count);
    });
    for (std::size_t i = 0; i < items.size(); ++i) {
      reports_[members_[items[i].member].head.item.head].stats += stats[i];
    }
    for (const Member& member : members_) {
      ++reports_[member.head.item.head].heads_by_path[static_cast<int>(Path::kSelected)];
    }
  }

  const Call& call_;
  const Plan& plan_;
  std::int64_t layer_;
  std::shared_ptr<const HashProgram> hash_;
  std::span<Group> groups_;
  std::span<PackedHead> rows_;
  std::span<HeadReport> reports_;
  std::vector<Member> members_;
};

}  // namespace

std::vector<HeadItem> SparseAttention(const Call& call, const Plan& plan, std::int64_t layer,
                                      std::span<const HeadItem> heads, Precision, Select,
                                      std::span<HeadReport> reports) {
  std::vector<Group> groups = GroupHeads(call.inputs, heads);
  const std::shared_ptr<const HashProgram> hash =
      MakeHashProgram(plan.hash, call.inputs.query.shape[3]);
  const std::int64_t most =
      std::max<std::int64_t>(kWaveBytes / std::max<std::int64_t>(PackedHead::Bytes(call.inputs), 1),
                             call.executor.threads());
  // Kept from call to call. Taken out while in use: an executor may start another call of ours on
  // this thread while it waits.
  static thread_local std::vector<PackedHead> kept_rows;
  std::vector<PackedHead> rows = std::move(kept_rows);
  const std::size_t wave = std::min(groups.size(), static_cast<std::size_t>(most));
  if (rows.size() < wave) rows.resize(wave);
  for (std::size_t first = 0; first < groups.size(); first += wave) {
    const std::size_t count = std::min(wave, groups.size() - first);
    Wave(call, plan, layer, hash, std::span(groups).subspan(first, count),
         std::span(rows).first(count), reports)
        .Run();
    for (std::size_t g = first; g < first + count; ++g) groups[g].sketch.reset();
  }
  kept_rows = std::move(rows);
  return {};
}

}  // namespace elsa::cpu
