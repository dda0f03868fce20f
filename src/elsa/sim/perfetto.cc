#include "elsa/sim/perfetto.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "elsa/sim/perfetto_writer.h"

namespace elsa::sim {
namespace {

// Where the spans of a kind are drawn, and the category by which a search finds them.
struct Place {
  std::string_view track;
  bool per_bank;
  std::int64_t rank;  // among the tracks beside it, from above
  std::string_view category;
};
constexpr std::int64_t kBanksRank = 10;
constexpr std::int64_t kLastRank = 1 << 30;

Place PlaceOf(SpanKind kind) {
  switch (kind) {
    case SpanKind::kPhase:
      return {"controller", false, 1, "phase"};
    case SpanKind::kHashKey:
      return {"hash unit", false, 2, "hash_key"};
    case SpanKind::kHashQuery:
      return {"hash unit", false, 2, "hash_query"};
    case SpanKind::kNorm:
      return {"norm unit", false, 3, "norm"};
    case SpanKind::kScan:
      return {"selectors: scan", true, 1, "scan"};
    case SpanKind::kStall:
      return {"selectors: stall", true, 2, "stall"};
    case SpanKind::kQueued:
      return {"queues", true, 4, "queued"};
    case SpanKind::kAttend:
      return {"attention unit", true, 5, "attend"};
    case SpanKind::kHeld:
      return {"attention unit: held", true, 6, "held"};
    case SpanKind::kDivide:
      return {"output divider", false, kLastRank, "divide"};
  }
  return {};
}

std::string NameOf(const Span& span) {
  constexpr std::array<std::string_view, 5> kPhases{"command", "copy in", "preprocess", "execute",
                                                    "copy out"};
  switch (span.kind) {
    case SpanKind::kPhase:
      return std::string(kPhases.at(span.key));
    case SpanKind::kHashKey:
    case SpanKind::kNorm:
      return "key " + std::to_string(span.key);
    case SpanKind::kStall:
      return "queue full";
    case SpanKind::kHeld:
      return "sums not taken";
    case SpanKind::kQueued:
    case SpanKind::kAttend:
      return "q" + std::to_string(span.query) +
             (span.key < 0 ? " mean row" : " k" + std::to_string(span.key));
    default:
      return "query " + std::to_string(span.query);
  }
}

// The tree of tracks; each is added when something is to be drawn on it.
class Tracks {
 public:
  explicit Tracks(PerfettoWriter* writer)
      : writer_(writer), root_(writer->AddGroup(0, "ELSA", 0)) {}

  std::uint64_t Window() { return writer_->AddTrack(root_, "window", 0); }

  std::uint64_t QueuedCandidates(std::int32_t bank) {
    std::uint64_t& counter = counters_[bank];
    if (counter == 0) {
      counter = writer_->AddCounter(Bank(bank), "queued candidates", 3, "candidates");
    }
    return counter;
  }

  // The lane for this span: a pipeline and a queue hold spans that overlap without nesting, which
  // slices of one track may not. Spans come in the order of their begins.
  std::uint64_t LaneOf(const Span& span) {
    const Place place = PlaceOf(span.kind);
    std::uint64_t parent = place.per_bank ? Bank(span.instance) : root_;
    std::string name(place.track);
    std::int64_t rank = place.rank;
    if (span.kind == SpanKind::kQueued) {
      parent = Group(parent, name, rank);
      name = "selector " + std::to_string(span.selector);
      rank = span.selector;
    }
    std::vector<Lane>& lanes = lanes_[{parent, name}];
    for (Lane& lane : lanes) {
      if (lane.end_cycle > span.begin_cycle) continue;
      lane.end_cycle = span.end_cycle;
      return lane.track;
    }
    lanes.push_back({writer_->AddTrack(parent, name, rank), span.end_cycle});
    return lanes.back().track;
  }

 private:
  struct Lane {
    std::uint64_t track;
    std::int64_t end_cycle;
  };

  std::uint64_t Group(std::uint64_t parent, const std::string& name, std::int64_t rank) {
    std::uint64_t& group = groups_[{parent, name}];
    if (group == 0) group = writer_->AddGroup(parent, name, rank);
    return group;
  }
  std::uint64_t Bank(std::int32_t bank) {
    return Group(root_, "bank " + std::to_string(bank), kBanksRank + bank);
  }

  PerfettoWriter* writer_;
  std::uint64_t root_;
  std::map<std::pair<std::uint64_t, std::string>, std::uint64_t> groups_;
  std::map<std::pair<std::uint64_t, std::string>, std::vector<Lane>> lanes_;
  std::map<std::int32_t, std::uint64_t> counters_;
};

// Arrows that follow a query through each bank: hash, scan, first and last candidate, division.
// Arrows through every candidate would hide the picture.
class Flows {
 public:
  // `spans` in the order of their begins; they must outlive this.
  explicit Flows(const std::vector<Span>& spans) {
    for (const Span& span : spans) {
      if (span.kind != SpanKind::kScan && span.kind != SpanKind::kAttend) continue;
      const std::uint64_t next = flows_.size() + 1;
      Flow& flow = flows_.try_emplace({span.query, span.instance}, Flow{next}).first->second;
      if (span.kind == SpanKind::kScan) continue;
      if (flow.first_attend == nullptr) flow.first_attend = &span;
      flow.last_attend = &span;
    }
  }

  void AddTo(const Span& span, PerfettoWriter::Details* details) const {
    if (span.kind == SpanKind::kHashQuery || span.kind == SpanKind::kDivide) {
      for (auto it = flows_.lower_bound({span.query, 0});
           it != flows_.end() && it->first.first == span.query; ++it) {
        details->Flow(it->second.id, span.kind == SpanKind::kDivide);
      }
    } else if (span.kind == SpanKind::kScan || span.kind == SpanKind::kAttend) {
      const Flow& flow = flows_.at({span.query, span.instance});
      if (span.kind == SpanKind::kScan || &span == flow.first_attend || &span == flow.last_attend) {
        details->Flow(flow.id, false);
      }
    }
  }

 private:
  struct Flow {
    std::uint64_t id;
    const Span* first_attend = nullptr;
    const Span* last_attend = nullptr;
  };
  std::map<std::pair<std::int32_t, std::int32_t>, Flow> flows_;  // by query and bank
};

PerfettoWriter::Details DetailsOf(const Span& span, PerfettoWriter* writer) {
  const Place place = PlaceOf(span.kind);
  PerfettoWriter::Details details(writer, NameOf(span), place.category);
  if (span.kind == SpanKind::kPhase) return details;
  if (span.query >= 0) {
    details.Note("query", span.query);
    details.Correlate(static_cast<std::uint64_t>(span.query) + 1);
  }
  if (span.key >= 0) details.Note("key", span.key);
  if (place.per_bank) details.Note("bank", span.instance);
  if (span.kind == SpanKind::kQueued) details.Note("selector", span.selector);
  return details;
}

// The spans by their begins. Cycles in which a module waits are recorded one by one; those that
// follow each other for the same reason become one span.
std::vector<Span> InOrder(std::vector<Span> spans) {
  std::stable_sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::tie(a.begin_cycle, a.end_cycle) < std::tie(b.begin_cycle, b.end_cycle);
  });
  std::vector<Span> merged;
  std::map<std::pair<SpanKind, std::int32_t>, std::size_t> last_wait;
  for (const Span& span : spans) {
    if (span.kind == SpanKind::kStall || span.kind == SpanKind::kHeld) {
      const auto [it, first] = last_wait.try_emplace({span.kind, span.instance}, merged.size());
      if (!first) {
        Span& last = merged[it->second];
        if (last.end_cycle == span.begin_cycle && last.query == span.query) {
          last.end_cycle = span.end_cycle;
          continue;
        }
        it->second = merged.size();
      }
    }
    merged.push_back(span);
  }
  return merged;
}

}  // namespace

std::string PerfettoTrace(const Timeline& timeline, const Config& config) {
  const std::vector<Span> spans = InOrder(timeline.spans);
  PerfettoWriter writer;
  Tracks tracks(&writer);
  // The window has a slice: outside it, only spans that reach into it are recorded. It ends with
  // the head, however long it was asked to be.
  std::int64_t last = timeline.from_cycle;
  for (const Span& span : spans) last = std::max(last, span.end_cycle);
  PerfettoWriter::Details window(&writer, "recorded window", "window");
  window.Note("config_digest", Digest(config));
  window.Note("clock_hz", config.clock_hz);
  writer.AddSlice(tracks.Window(), timeline.from_cycle, std::min(timeline.to_cycle, last), window);

  const Flows flows(spans);
  for (const Span& span : spans) {
    PerfettoWriter::Details details = DetailsOf(span, &writer);
    flows.AddTo(span, &details);
    writer.AddSlice(tracks.LaneOf(span), span.begin_cycle, span.end_cycle, details);
  }
  for (const QueueSample& sample : timeline.samples) {
    writer.AddCount(tracks.QueuedCandidates(sample.bank), sample.cycle, sample.queued);
  }
  return writer.Take();
}

}  // namespace elsa::sim
