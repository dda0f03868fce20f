// The log is read back by a second, short reader and checked against the spans.
#include "elsa/sim/kanata.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "elsa/sim/timeline_testing.h"

namespace elsa::sim {
namespace {

using Interval = std::pair<std::int64_t, std::int64_t>;

struct Row {
  std::int64_t number = 0, thread = 0, begin = 0, end = -1;
  std::string label, detail;
  int retired = -1;  // as what: 0 done, 1 the rest is missing
  std::int64_t retire_number = -1;
  std::map<std::string, Interval> stages;
  std::map<std::string, std::string> lanes;  // of the stages
};

// Throws if a line breaks a rule of the format.
std::vector<Row> Read(const std::string& log) {
  std::istringstream lines(log);
  std::string line;
  std::getline(lines, line);
  if (line != "Kanata\t0004") throw std::invalid_argument("header");
  std::vector<Row> rows;
  std::int64_t cycle = -1;
  while (std::getline(lines, line)) {
    std::vector<std::string> f;
    std::istringstream fields(line);
    for (std::string field; std::getline(fields, field, '\t');) f.push_back(field);
    if (f[0] == "C=" && cycle == -1) {
      cycle = std::stoll(f.at(1));
      continue;
    }
    if (f[0] == "C" && std::stoll(f.at(1)) > 0) {
      cycle += std::stoll(f[1]);
      continue;
    }
    const std::size_t id = std::stoull(f.at(1));
    if (f[0] == "I") {
      if (id != rows.size()) throw std::invalid_argument("ids do not count up");
      rows.push_back({});
      rows[id].number = std::stoll(f.at(2));
      rows[id].thread = std::stoll(f.at(3));
      rows[id].begin = cycle;
      continue;
    }
    Row& row = rows.at(id);
    if (row.retired != -1) throw std::invalid_argument("a line after the row's end");
    if (f[0] == "L") {
      (f.at(2) == "0" ? row.label : row.detail) += f.at(3);
    } else if (f[0] == "S") {
      for (const auto& [name, lane] : row.lanes) {
        if (lane == f.at(2) && row.stages[name].second == -1) {
          throw std::invalid_argument("stages of a lane overlap");
        }
      }
      if (!row.lanes.emplace(f.at(3), f[2]).second) throw std::invalid_argument("stage twice");
      row.stages[f[3]] = {cycle, -1};
    } else if (f[0] == "E") {
      if (row.lanes.at(f.at(3)) != f.at(2)) throw std::invalid_argument("lane");
      row.stages[f[3]].second = cycle;
    } else if (f[0] == "R") {
      row.end = cycle;
      row.retire_number = std::stoll(f.at(2));
      row.retired = std::stoi(f.at(3));
    } else {
      throw std::invalid_argument(line);
    }
  }
  return rows;
}

std::string StageAfter(std::int64_t cycles, const Latencies& l) {
  if (cycles < l.arbiter_cycles) return "Pk";
  if (cycles < l.arbiter_cycles + l.attention_read_cycles) return "Rd";
  if (cycles < l.arbiter_cycles + l.attention_read_cycles + l.attention_dot_cycles) return "Dt";
  return cycles < l.Attention() - l.attention_accumulate_cycles ? "Ex" : "Ac";
}

// The stages that the spans of a timeline make, by the label of their row.
std::map<std::string, std::map<std::string, Interval>> Expected(const Timeline& timeline,
                                                                const Config& config) {
  const Latencies latencies = LatenciesOf(config);
  std::set<std::pair<std::int64_t, std::int64_t>> held;
  for (const Span& span : timeline.spans) {
    if (span.kind == SpanKind::kHeld) held.insert({span.instance, span.begin_cycle});
  }
  std::map<std::string, std::map<std::string, Interval>> rows;
  const auto extend = [&rows](const std::string& row, const std::string& stage, const Span& span) {
    Interval& i = rows[row].try_emplace(stage, span.begin_cycle, span.end_cycle).first->second;
    i = {std::min(i.first, span.begin_cycle), std::max(i.second, span.end_cycle)};
  };
  for (const Span& span : timeline.spans) {
    const std::string query = "query " + std::to_string(span.query);
    const std::string key = "key " + std::to_string(span.key);
    const std::string candidate = "q" + std::to_string(span.query) +
                                  (span.key == -1 ? " mean row" : " k" + std::to_string(span.key)) +
                                  " bank " + std::to_string(span.instance);
    if (span.kind == SpanKind::kHashKey) extend(key, "H", span);
    if (span.kind == SpanKind::kNorm) extend(key, "N", span);
    if (span.kind == SpanKind::kHashQuery) extend(query, "H", span);
    if (span.kind == SpanKind::kScan) extend(query, "S", span);
    if (span.kind == SpanKind::kAttend) extend(query, "A", span);
    if (span.kind == SpanKind::kDivide) extend(query, "D", span);
    if (span.kind == SpanKind::kQueued) extend(candidate, "Q", span);
    if (span.kind != SpanKind::kAttend) continue;
    // Cycle by cycle: the stage is where all cycles but those held so far have brought it.
    std::int64_t moved = 0;
    for (std::int64_t cycle = span.begin_cycle; cycle < span.end_cycle; ++cycle) {
      const std::string stage = StageAfter(moved, latencies);
      extend(candidate, stage, {SpanKind::kAttend, 0, 0, -1, -1, cycle, cycle + 1});
      moved += held.count({span.instance, cycle}) > 0 ? 0 : 1;
    }
  }
  for (const Span& span : timeline.spans) {  // a candidate that is being picked waits no more
    if (span.kind != SpanKind::kAttend || span.key == -1) continue;
    auto& stages = rows.at("q" + std::to_string(span.query) + " k" + std::to_string(span.key) +
                           " bank " + std::to_string(span.instance));
    const auto queued = stages.find("Q");
    if (queued == stages.end()) continue;
    if (--queued->second.second == queued->second.first) stages.erase(queued);
  }
  return rows;
}

void ExpectEverySpanInItsRow(const Timeline& timeline, const Config& config = Config()) {
  const std::vector<Row> rows = Read(KanataLog(timeline, config));
  std::map<std::string, std::map<std::string, Interval>> got;
  std::int64_t last_begin = -1;
  for (const Row& row : rows) {
    EXPECT_TRUE(got.emplace(row.label, row.stages).second) << row.label << " twice";
    EXPECT_GE(row.begin, last_begin) << row.label;
    last_begin = row.begin;
    std::int64_t begin = row.end;
    std::int64_t end = row.begin;
    for (const auto& [name, stage] : row.stages) {
      begin = std::min(begin, stage.first);
      end = std::max(end, stage.second);
    }
    EXPECT_EQ(row.begin, begin) << row.label;
    EXPECT_EQ(row.end, end) << row.label;
    const std::string cycles = "cycles " + std::to_string(begin) + " to " + std::to_string(end);
    EXPECT_EQ(row.detail.substr(0, row.detail.find(',')), cycles);
  }
  const auto expected = Expected(timeline, config);
  EXPECT_EQ(got.size(), expected.size());
  for (const auto& [label, stages] : expected) EXPECT_EQ(got[label], stages) << label;
}

TEST(KanataLog, HasEverySpanInItsRowWithItsCycles) {
  ExpectEverySpanInItsRow(MadeTimeline(4, false));
}

TEST(KanataLog, ShowsOneBankAlone) { ExpectEverySpanInItsRow(MadeTimeline(1, false)); }

TEST(KanataLog, ShowsMeanRowsAfterTheLastCandidate) {
  ExpectEverySpanInItsRow(MadeTimeline(3, true));
  int mean_rows = 0;
  for (const Row& row : Read(KanataLog(MadeTimeline(3, true), Config()))) {
    if (row.label.find(" mean row bank 2") == std::string::npos) continue;
    EXPECT_EQ(row.stages.count("Q"), 0u);
    EXPECT_EQ(row.retired, 0);
    ++mean_rows;
  }
  EXPECT_EQ(mean_rows, kMadeQueries);
}

TEST(KanataLog, ShowsSimulatedHeads) {
  for (const SimulatedHead& head : SimulatedHeads()) {
    SCOPED_TRACE(head.name);
    ExpectEverySpanInItsRow(head.timeline, head.config);
    for (const std::int64_t from : {1, 90, 150}) {
      ExpectEverySpanInItsRow(Cut(head.timeline, from, from + 40), head.config);
    }
  }
}

TEST(KanataLog, StagesOfSimulatedCandidatesLastAsLongAsTheirLatencies) {
  bool held_ever = false;
  for (const SimulatedHead& head : SimulatedHeads()) {
    const Latencies l = LatenciesOf(head.config);
    std::set<Interval> held;  // bank and cycle
    for (const Span& span : head.timeline.spans) {
      if (span.kind == SpanKind::kHeld) held.insert({span.instance, span.begin_cycle});
    }
    held_ever = held_ever || !held.empty();
    int candidates = 0;
    for (const Row& row : Read(KanataLog(head.timeline, head.config))) {
      if (row.thread >= head.config.banks) continue;
      ++candidates;
      const auto worked = [&](const std::string& stage) {
        const auto [begin, end] = row.stages.at(stage);
        std::int64_t cycles = end - begin;
        for (std::int64_t c = begin; c < end; ++c) cycles -= held.count({row.thread, c});
        return cycles;
      };
      EXPECT_EQ(worked("Pk"), l.arbiter_cycles) << row.label;
      EXPECT_EQ(worked("Rd"), l.attention_read_cycles) << row.label;
      EXPECT_EQ(worked("Dt"), l.attention_dot_cycles) << row.label;
      EXPECT_EQ(worked("Ex"), l.attention_exp_cycles) << row.label;
      EXPECT_EQ(worked("Ac"), l.attention_accumulate_cycles) << row.label;
    }
    EXPECT_GE(candidates, 20) << head.name;
  }
  EXPECT_TRUE(held_ever);
}

TEST(KanataLog, OfAnEmptyWindowHasNoRows) {
  Timeline timeline;
  timeline.from_cycle = 70;
  timeline.to_cycle = 90;
  EXPECT_EQ(KanataLog(timeline, Config()), "Kanata\t0004\nC=\t70\n");
}

TEST(KanataLog, CutByTheWindowGreysRowsWhoseRestIsMissing) {
  const Timeline all = MadeTimeline(2, true);
  std::set<std::pair<std::string, int>> kinds;
  for (std::int64_t from = 0; from < 130; ++from) {
    SCOPED_TRACE(from);
    const Timeline cut = Cut(all, from, from + 6);
    ExpectEverySpanInItsRow(cut);
    for (const Row& row : Read(KanataLog(cut, Config()))) {
      const bool query = row.label[0] == 'q' && row.label[1] == 'u';
      const bool key = row.label[0] == 'k';
      const bool whole = key || row.stages.count(query ? "D" : "Ac") > 0;
      EXPECT_EQ(row.retired, whole ? 0 : 1) << row.label;
      kinds.insert({query ? "query" : key ? "key" : "candidate", row.retired});
    }
  }
  const std::set<std::pair<std::string, int>> all_but_a_cut_key{
      {"query", 0}, {"query", 1}, {"key", 0}, {"candidate", 0}, {"candidate", 1}};
  EXPECT_EQ(kinds, all_but_a_cut_key);
}

TEST(KanataLog, ThreadsAreBanksThenQueriesThenKeys) {
  const std::int64_t banks = Config().banks;
  std::set<std::int64_t> seen;
  for (const Row& row : Read(KanataLog(MadeTimeline(4, false), Config()))) {
    const std::size_t bank = row.label.find("bank ");
    if (bank != std::string::npos) {
      EXPECT_EQ(row.thread, std::stoll(row.label.substr(bank + 5)));
    } else {
      EXPECT_EQ(row.thread, row.label[0] == 'q' ? banks : banks + 1) << row.label;
    }
    seen.insert(row.thread);
  }
  EXPECT_EQ(seen, (std::set<std::int64_t>{0, 1, 2, 3, 4, 5}));
}

TEST(KanataLog, CountsRetiredRowsInTheOrderOfTheirEnds) {
  std::vector<Row> rows = Read(KanataLog(MadeTimeline(2, false), Config()));
  std::sort(rows.begin(), rows.end(),
            [](const Row& a, const Row& b) { return a.retire_number < b.retire_number; });
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].retire_number, static_cast<std::int64_t>(i));
    if (i > 0) {
      EXPECT_GE(rows[i].end, rows[i - 1].end);
    }
  }
}

TEST(KanataLog, LeavesOutStagesOfNoCycles) {
  Timeline timeline;
  timeline.to_cycle = 50;
  timeline.spans = {{SpanKind::kQueued, 0, 0, 0, 1, 5, 5},
                    {SpanKind::kAttend, 0, 0, 0, 1, 5, 8},
                    {SpanKind::kQueued, 0, 0, 0, 2, 6, 6}};
  const std::vector<Row> rows = Read(KanataLog(timeline, Config()));
  ASSERT_EQ(rows.size(), 2u);  // query 0 and the candidate; nothing is known of the other
  EXPECT_EQ(rows[1].label, "q0 k1 bank 0");
  const std::map<std::string, Interval> stages{{"Pk", {5, 6}}, {"Rd", {6, 7}}, {"Dt", {7, 8}}};
  EXPECT_EQ(rows[1].stages, stages);
}

}  // namespace
}  // namespace elsa::sim
