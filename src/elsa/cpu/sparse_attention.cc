#include "elsa/cpu/sparse_attention.h"

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "elsa/base/integer_math.h"
#include "elsa/cpu/key_sketch.h"
#include "elsa/cpu/selection.h"
#include "elsa/cpu/sparse_rule.h"
#include "elsa/cpu/sparse_tile.h"

namespace elsa::cpu {
namespace {

// Rows that are prepared at once, at most. Our choice: two batches of a BERT layer.
constexpr std::int64_t kWaveBytes = std::int64_t{32} << 20;

// How all heads of a call are computed.
struct Job {
  const Call& call;
  const Plan& plan;
  std::int64_t layer;
  std::shared_ptr<const HashProgram> hash;
  bool bits16;
  bool bits8;
  Select select;
};

// One (batch, kv head) and what its query heads share.
struct Group {
  std::int64_t batch = 0;
  std::int64_t kv_head = 0;
  std::vector<HeadItem> heads;
};

// One head.
struct Member {
  SparseHead head;
  std::size_t group = 0;
  std::optional<Path> exact;  // why it is not selected
  std::unique_ptr<HeadSelection> selection;
  std::unique_ptr<MeanRows> mean;
};

// One tile of a member.
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
  for (auto& [key, items] : by_group) groups.push_back({key.first, key.second, std::move(items)});
  return groups;
}

// Some groups at once: what is prepared of them is in memory together.
class Wave {
 public:
  Wave(const Job& job, std::span<const Group> groups, std::span<PackedHead> rows)
      : job_(job), inputs_(job.call.inputs), groups_(groups), rows_(rows) {
    for (std::size_t g = 0; g < groups.size(); ++g) {
      for (const HeadItem& item : groups[g].heads) {
        Member& member = members_.emplace_back();
        member.head.item = item;
        member.group = g;
      }
    }
  }

  // Adds what was counted to `reports` and the heads to be computed exactly to `left`.
  void Run(std::span<HeadReport> reports, std::vector<HeadItem>& left) {
    job_.call.executor.Run(static_cast<std::int64_t>(groups_.size()),
                           [&](std::int64_t group) { Prepare(group); });
    AttendTiles(reports);
    for (const Member& member : members_) {
      const Path path = member.exact.value_or(Path::kSelected);
      ++reports[member.head.item.head].heads_by_path[static_cast<int>(path)];
      if (member.exact) left.push_back(member.head.item);
    }
  }

 private:
  bool with_mean() const { return job_.plan.remainder == Remainder::kMean; }

  // Sketches the keys of a group, decides which of its heads are selected, and packs the rows that
  // they need: one after the other, while the keys are in the caches.
  void Prepare(std::int64_t group) {
    const Call& call = job_.call;
    const Group& of = groups_[group];
    const std::shared_ptr<const KeySketch> sketch =
        MakeKeySketch(inputs_, job_.plan, job_.hash, of.batch, of.kv_head, call.kernels);
    bool wanted = false;
    for (Member& member : members_) {
      if (static_cast<std::int64_t>(member.group) != group) continue;
      const HeadItem& item = member.head.item;
      member.selection = std::make_unique<HeadSelection>(inputs_, job_.plan, job_.layer, item.batch,
                                                         item.head, sketch, call.kernels);
      member.head.selection = member.selection.get();
      const double observed = member.selection->SampleKeptFraction();
      if (job_.select == Select::kAuto) {
        member.exact = ExactAfter(RuleCaseOf(inputs_, job_.plan, item, job_.bits16), observed);
      }
      member.head.shape = ShapeFor(job_.bits16, observed);
      wanted = wanted || !member.exact;
    }
    if (!wanted) return;
    rows_[group].Prepare(
        inputs_, of.batch, of.kv_head, call.kernels,
        {.sums = with_mean(),
         .bits16 = job_.bits16,
         .bits8 = job_.bits8,
         .key_norms = sketch->plain != nullptr ? sketch->plain->norms() : nullptr});
    for (Member& member : members_) {
      if (static_cast<std::int64_t>(member.group) != group || member.exact) continue;
      member.head.rows = &rows_[group];
      if (!with_mean()) continue;
      member.mean = std::make_unique<MeanRows>(
          inputs_, member.head.item.batch, member.head.item.head, *member.head.rows, call.kernels);
      member.head.mean = member.mean.get();
    }
  }

  void AttendTiles(std::span<HeadReport> reports) {
    const std::int64_t queries = inputs_.query.shape[2];
    std::vector<Item> items;
    for (std::size_t m = 0; m < members_.size(); ++m) {
      if (members_[m].exact) continue;
      for (std::int64_t first = 0; first < queries; first += members_[m].head.shape.queries) {
        items.push_back({m, first});
      }
    }
    // With a causal limit the last queries see most: they go first, so that no thread ends late.
    if (inputs_.causal) std::reverse(items.begin(), items.end());
    std::vector<reference::HeadStats> stats(items.size());
    job_.call.executor.Run(static_cast<std::int64_t>(items.size()), [&](std::int64_t i) {
      const SparseHead& head = members_[items[i].member].head;
      const std::int64_t count = std::min(head.shape.queries, queries - items[i].first);
      stats[i] = AttendTile(job_.call, head, items[i].first, count);
    });
    for (std::size_t i = 0; i < items.size(); ++i) {
      reports[members_[items[i].member].head.item.head].stats += stats[i];
    }
  }

  const Job& job_;
  const Inputs& inputs_;
  std::span<const Group> groups_;
  std::span<PackedHead> rows_;
  std::vector<Member> members_;
};

// Moves the heads that are not worth preparing anything for to `left`.
std::vector<HeadItem> WorthPreparing(const Call& call, const Plan& plan, std::int64_t layer,
                                     std::span<const HeadItem> heads, bool bits16,
                                     std::span<HeadReport> reports, std::vector<HeadItem>& left) {
  std::vector<HeadItem> worth;
  for (const HeadItem& item : heads) {
    const double expected =
        plan.calibration.empty() ? 0 : plan.calibration[layer][item.head].kept_fraction;
    const std::optional<Path> exact =
        ExactBefore(RuleCaseOf(call.inputs, plan, item, bits16), expected);
    if (exact) ++reports[item.head].heads_by_path[static_cast<int>(*exact)];
    (exact ? left : worth).push_back(item);
  }
  return worth;
}

}  // namespace

std::vector<HeadItem> SparseAttention(const Call& call, const Plan& plan, std::int64_t layer,
                                      std::span<const HeadItem> heads, Precision precision,
                                      Select select, std::span<HeadReport> reports) {
  const bool bits16 = precision != Precision::kFloat32;
  std::vector<HeadItem> left;
  std::vector<HeadItem> worth;
  if (select == Select::kAuto) {
    worth = WorthPreparing(call, plan, layer, heads, bits16, reports, left);
    heads = worth;
  }
  if (heads.empty()) return left;
  const std::vector<Group> groups = GroupHeads(call.inputs, heads);
  const Job job{call,   plan,
                layer,  MakeHashProgram(plan.hash, call.inputs.query.shape[3]),
                bits16, precision == Precision::kInt8,
                select};
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
    Wave(job, std::span(groups).subspan(first, count), std::span(rows).first(count))
        .Run(reports, left);
  }
  kept_rows = std::move(rows);
  return left;
}

}  // namespace elsa::cpu
