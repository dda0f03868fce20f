// The trace is read back by a second, short reader of the wire format and checked against the
// spans. tests/cli/timeline_test.py reads traces with Perfetto's own descriptors.
#include "elsa/sim/perfetto.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "elsa/sim/timeline_testing.h"

namespace elsa::sim {
namespace {

// Any message: its fields by number, as integers or bytes.
struct Fields {
  std::multimap<int, std::uint64_t> numbers;
  std::multimap<int, std::string> bytes;

  static std::uint64_t Varint(std::string_view* text) {
    std::uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(text->at(0));
      text->remove_prefix(1);
      value += std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
  }
  explicit Fields(std::string_view text) {
    while (!text.empty()) {
      const std::uint64_t tag = Varint(&text);
      const int field = static_cast<int>(tag / 8);
      if (tag % 8 == 0) {
        numbers.emplace(field, Varint(&text));
      } else if (tag % 8 == 1) {
        std::uint64_t value = 0;
        for (int i = 7; i >= 0; --i) value = value * 256 + static_cast<unsigned char>(text.at(i));
        text.remove_prefix(8);
        numbers.emplace(field, value);
      } else if (tag % 8 == 2) {
        const std::uint64_t size = Varint(&text);
        if (size > text.size()) throw std::out_of_range("a message longer than its parent");
        bytes.emplace(field, text.substr(0, size));
        text.remove_prefix(size);
      } else {
        throw std::invalid_argument("wire type");
      }
    }
  }
  bool Has(int field) const { return numbers.count(field) + bytes.count(field) > 0; }
  std::int64_t Int(int field) const {
    return static_cast<std::int64_t>(numbers.find(field)->second);
  }
  std::string Text(int field) const { return bytes.find(field)->second; }
};

struct Slice {
  std::string track, name, category;  // track with those above it: "ELSA/bank 0/queues/selector 1"
  std::int64_t begin = 0, end = -1;
  std::map<std::string, std::int64_t> notes;
  std::set<std::uint64_t> flows, ends_flows;
};

// What a viewer makes of a trace. Throws if it breaks a rule of the format.
struct Trace {
  std::vector<Slice> slices;
  std::map<std::string, std::vector<std::pair<std::int64_t, std::int64_t>>> counters;

  explicit Trace(const std::string& file) {
    const auto packets = Fields(file).bytes;
    std::map<int, std::map<std::int64_t, std::string>> strings;
    std::map<std::int64_t, std::string> tracks{{0, ""}};
    std::map<std::int64_t, std::vector<std::size_t>> open;
    std::int64_t now = 0;
    bool first = true;
    for (const auto& [field, body] : packets) {
      const Fields packet(body);
      // Sequence 1; state cleared in the first packet, needed by all.
      if (field != 1 || packet.Int(10) != 1 || packet.Int(13) != (first ? 3 : 2)) {
        throw std::logic_error("sequence");
      }
      first = false;
      if (packet.Has(12)) {
        for (const auto& [table, entry] : Fields(packet.Text(12)).bytes) {
          strings[table][Fields(entry).Int(1)] = Fields(entry).Text(2);
        }
      }
      if (packet.Has(60)) {
        const Fields track(packet.Text(60));
        const std::string above = tracks.at(track.Has(5) ? track.Int(5) : 0);
        tracks[track.Int(1)] = above.empty() ? track.Text(2) : above + "/" + track.Text(2);
      }
      if (!packet.Has(11)) continue;
      if (packet.Int(8) < now) throw std::logic_error("time runs backwards");
      now = packet.Int(8);
      const Fields event(packet.Text(11));
      const std::int64_t track = event.Int(11);
      if (event.Int(9) == 1) {
        Slice slice;
        slice.track = tracks.at(track);
        slice.name = strings[2].at(event.Int(10));
        slice.category = strings[1].at(event.Int(3));
        slice.begin = now;
        for (auto [at, end] = event.bytes.equal_range(4); at != end; ++at) {
          const Fields note(at->second);
          if (note.Has(4)) slice.notes[strings[3].at(note.Int(1))] = note.Int(4);
        }
        for (auto [at, end] = event.numbers.equal_range(47); at != end; ++at) {
          slice.flows.insert(at->second);
        }
        for (auto [at, end] = event.numbers.equal_range(48); at != end; ++at) {
          slice.ends_flows.insert(at->second);
        }
        if (!open[track].empty()) throw std::logic_error("overlap");
        open[track].push_back(slices.size());
        slices.push_back(slice);
      } else if (event.Int(9) == 2) {
        slices.at(open[track].at(0)).end = now;
        open[track].pop_back();
      } else if (event.Int(9) == 4) {
        counters[tracks.at(track)].emplace_back(now, event.Int(30));
      } else {
        throw std::logic_error("type of event");
      }
    }
    for (const auto& [track, slices_of] : open) {
      if (!slices_of.empty()) throw std::logic_error("a slice does not end");
    }
  }

  std::vector<Slice> Of(const std::string& category) const {
    std::vector<Slice> found;
    for (const Slice& slice : slices) {
      if (slice.category == category) found.push_back(slice);
    }
    return found;
  }
};

// A span's category, track and name, written down a second time.
std::tuple<std::string, std::string, std::string> Expected(const Span& span) {
  const std::string bank = "ELSA/bank " + std::to_string(span.instance) + "/";
  const std::string query = "query " + std::to_string(span.query);
  const std::string key = "key " + std::to_string(span.key);
  const std::string pair = "q" + std::to_string(span.query) +
                           (span.key == -1 ? " mean row" : " k" + std::to_string(span.key));
  const std::vector<std::string> phases{"command", "copy in", "preprocess", "execute", "copy out"};
  switch (span.kind) {
    case SpanKind::kPhase:
      return {"phase", "ELSA/controller", phases.at(span.key)};
    case SpanKind::kHashKey:
      return {"hash_key", "ELSA/hash unit", key};
    case SpanKind::kHashQuery:
      return {"hash_query", "ELSA/hash unit", query};
    case SpanKind::kNorm:
      return {"norm", "ELSA/norm unit", key};
    case SpanKind::kScan:
      return {"scan", bank + "selectors: scan", query};
    case SpanKind::kStall:
      return {"stall", bank + "selectors: stall", "queue full"};
    case SpanKind::kQueued:
      return {"queued", bank + "queues/selector " + std::to_string(span.selector), pair};
    case SpanKind::kAttend:
      return {"attend", bank + "attention unit", pair};
    case SpanKind::kHeld:
      return {"held", bank + "attention unit: held", "sums not taken"};
    case SpanKind::kDivide:
      return {"divide", "ELSA/output divider", query};
  }
  return {};
}

void ExpectEverySpanOnce(const Timeline& timeline) {
  const Trace trace(PerfettoTrace(timeline, Config()));
  using Key =
      std::tuple<std::tuple<std::string, std::string, std::string>, std::int64_t, std::int64_t>;
  std::multiset<Key> expected;
  std::multiset<Key> got;
  for (const Span& span : timeline.spans) {
    expected.insert({Expected(span), span.begin_cycle, span.end_cycle});
  }
  for (const Slice& slice : trace.slices) {
    if (slice.category == "window") continue;
    const bool wait = slice.category == "stall" || slice.category == "held";  // recorded by cycle
    for (std::int64_t at = slice.begin; at < slice.end || at == slice.begin;) {
      const std::int64_t end = wait ? at + 1 : slice.end;
      got.insert({{slice.category, slice.track, slice.name}, at, end});
      at = std::max(end, at + 1);
    }
  }
  EXPECT_EQ(got, expected);

  std::map<std::string, std::vector<std::pair<std::int64_t, std::int64_t>>> counters;
  for (const QueueSample& sample : timeline.samples) {
    counters["ELSA/bank " + std::to_string(sample.bank) + "/queued candidates"].emplace_back(
        sample.cycle, sample.queued);
  }
  EXPECT_EQ(trace.counters, counters);
}

TEST(PerfettoTrace, ShowsEverySpanAndSampleOnceAndNoSlicesOverlap) {
  ExpectEverySpanOnce(MadeTimeline(4, false));
}

TEST(PerfettoTrace, ShowsOneBankAlone) { ExpectEverySpanOnce(MadeTimeline(1, false)); }

TEST(PerfettoTrace, ShowsSpansThatReachOverTheWindowWhole) {
  for (const std::int64_t from : {0, 37, 61, 75, 399}) {
    SCOPED_TRACE(from);
    ExpectEverySpanOnce(Cut(MadeTimeline(2, true), from, from + 20));
  }
}

TEST(PerfettoTrace, ShowsSimulatedHeads) {
  for (const SimulatedHead& head : SimulatedHeads()) {
    SCOPED_TRACE(head.name);
    ExpectEverySpanOnce(head.timeline);
    for (const std::int64_t from : {1, 90, 150}) {
      ExpectEverySpanOnce(Cut(head.timeline, from, from + 40));
    }
  }
}

TEST(PerfettoTrace, OfAnEmptyWindowHasOnlyTheWindow) {
  Timeline timeline;
  timeline.from_cycle = 70;
  timeline.to_cycle = 90;
  const Trace trace(PerfettoTrace(timeline, Config()));
  ASSERT_EQ(trace.slices.size(), 1u);
  EXPECT_EQ(trace.slices[0].name, "recorded window");
  EXPECT_EQ(trace.slices[0].begin, 70);
  EXPECT_TRUE(trace.counters.empty());
}

TEST(PerfettoTrace, WindowEndsWithTheHead) {
  Timeline timeline = MadeTimeline(2, false);
  timeline.to_cycle = 1'000'000'000;
  EXPECT_EQ(Trace(PerfettoTrace(timeline, Config())).Of("window").at(0).end, 300);
  EXPECT_EQ(Trace(PerfettoTrace(Cut(timeline, 50, 60), Config())).Of("window").at(0).end, 60);
}

TEST(PerfettoTrace, SpansOfNoCyclesBreakNoSliceBesideThem) {
  Timeline timeline;
  timeline.to_cycle = 30;
  timeline.spans = {{SpanKind::kQueued, 0, 0, 0, 1, 3, 5},
                    {SpanKind::kQueued, 0, 0, 0, 2, 5, 5},
                    {SpanKind::kQueued, 0, 0, 0, 4, 5, 5},
                    {SpanKind::kQueued, 0, 0, 0, 3, 5, 9}};
  ExpectEverySpanOnce(timeline);
}

TEST(PerfettoTrace, NotesSayQueryKeyBankAndSelector) {
  const Trace trace(PerfettoTrace(MadeTimeline(2, true), Config()));
  std::size_t mean_rows = 0;
  for (const Slice& slice : trace.Of("attend")) {
    const auto query = std::to_string(slice.notes.at("query"));
    const std::string bank = "/bank " + std::to_string(slice.notes.at("bank")) + "/";
    EXPECT_NE(slice.track.find(bank), std::string::npos) << slice.track;
    if (slice.notes.count("key") == 0) {
      EXPECT_EQ(slice.name, "q" + query + " mean row");
      ++mean_rows;
    } else {
      EXPECT_EQ(slice.name, "q" + query + " k" + std::to_string(slice.notes.at("key")));
    }
  }
  EXPECT_EQ(mean_rows, std::size_t{kMadeQueries});
  for (const Slice& slice : trace.Of("queued")) {
    const std::string selector = "/selector " + std::to_string(slice.notes.at("selector"));
    EXPECT_NE(slice.track.find(selector), std::string::npos) << slice.track;
  }
}

TEST(PerfettoTrace, FlowsLeadEachQueryThroughEachBankFromHashToDivision) {
  constexpr int kBanks = 3;
  const Trace trace(PerfettoTrace(MadeTimeline(kBanks, true), Config()));
  std::map<std::uint64_t, std::vector<const Slice*>> flows;  // in the order of time
  for (const Slice& slice : trace.slices) {
    for (const std::uint64_t id : slice.flows) flows[id].push_back(&slice);
    for (const std::uint64_t id : slice.ends_flows) flows[id].push_back(&slice);
  }
  ASSERT_EQ(flows.size(), std::size_t{kMadeQueries * kBanks});
  std::set<std::pair<std::int64_t, std::int64_t>> pairs;
  for (const auto& [id, path] : flows) {
    ASSERT_EQ(path.size(), 5u);
    const std::vector<std::string> categories{"hash_query", "scan", "attend", "attend", "divide"};
    const std::int64_t query = path[1]->notes.at("query");
    const std::int64_t bank = path[1]->notes.at("bank");
    for (std::size_t i = 0; i < path.size(); ++i) {
      EXPECT_EQ(path[i]->category, categories[i]);
      EXPECT_EQ(path[i]->notes.at("query"), query);
      if (path[i]->notes.count("bank") > 0) {
        EXPECT_EQ(path[i]->notes.at("bank"), bank);
      }
      EXPECT_EQ(path[i]->ends_flows.count(id), i == 4 ? 1u : 0u);
      if (i > 0) {
        EXPECT_LT(path[i - 1]->begin, path[i]->begin);
      }
    }
    for (const Slice& slice : trace.Of("attend")) {  // nothing before the first, after the last
      if (slice.notes.at("query") != query || slice.notes.at("bank") != bank) continue;
      EXPECT_GE(slice.begin, path[2]->begin);
      EXPECT_LE(slice.begin, path[3]->begin);
    }
    pairs.insert({query, bank});
  }
  EXPECT_EQ(pairs.size(), flows.size());
}

TEST(PerfettoTrace, FlowsOfSimulatedHeadsTouchEveryStageOfEveryQuery) {
  for (const SimulatedHead& head : SimulatedHeads()) {
    SCOPED_TRACE(head.name);
    const Trace trace(PerfettoTrace(head.timeline, head.config));
    std::map<std::uint64_t, std::vector<const Slice*>> flows;
    for (const Slice& slice : trace.slices) {
      for (const std::uint64_t id : slice.flows) flows[id].push_back(&slice);
      for (const std::uint64_t id : slice.ends_flows) flows[id].push_back(&slice);
    }
    std::map<std::int64_t, std::set<std::string>> touched;
    for (const auto& [id, path] : flows) {
      EXPECT_EQ(path.front()->category, "hash_query");
      EXPECT_EQ(path.back()->category, "divide");
      for (std::size_t i = 1; i < path.size(); ++i) {
        EXPECT_LT(path[i - 1]->begin, path[i]->begin);
        EXPECT_EQ(path[i - 1]->notes.at("query"), path[i]->notes.at("query"));
      }
      for (const Slice* slice : path) touched[slice->notes.at("query")].insert(slice->category);
    }
    std::set<std::string> stages{"attend", "divide", "hash_query", "scan"};
    if (head.name == "exact") stages.erase("scan");
    EXPECT_EQ(touched.size(), 20u);
    for (const auto& [query, categories] : touched) EXPECT_EQ(categories, stages) << query;
  }
}

TEST(PerfettoTrace, JoinsCyclesOfWaitingThatFollowEachOther) {
  const Trace trace(PerfettoTrace(MadeTimeline(4, false), Config()));
  const std::vector<Slice> held = trace.Of("held");
  EXPECT_EQ(held.size(), std::size_t{4 * kMadeQueries});
  for (const Slice& slice : held) EXPECT_EQ(slice.end - slice.begin, 2);
  const std::vector<Slice> stalls = trace.Of("stall");
  EXPECT_EQ(stalls.size(), std::size_t{3 * kMadeQueries});  // none in bank 0
  for (const Slice& slice : stalls) EXPECT_EQ(slice.end - slice.begin, slice.notes.at("bank"));

  Timeline apart;  // another query's stall is another slice
  apart.to_cycle = 9;
  apart.spans = {{SpanKind::kStall, 0, 0, 1, -1, 3, 4},
                 {SpanKind::kStall, 0, 0, 2, -1, 4, 5},
                 {SpanKind::kStall, 0, 0, 2, -1, 6, 7}};
  EXPECT_EQ(Trace(PerfettoTrace(apart, Config())).Of("stall").size(), 3u);
}

TEST(PerfettoTrace, NamesTheMachine) {
  Config config;
  config.queue_depth = 7;
  const std::string file = PerfettoTrace(MadeTimeline(1, false), config);
  EXPECT_NE(file.find(Digest(config)), std::string::npos);
  EXPECT_EQ(file.find(Digest(Config())), std::string::npos);
}

}  // namespace
}  // namespace elsa::sim
