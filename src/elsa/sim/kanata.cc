#include "elsa/sim/kanata.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "elsa/params/latency.h"

namespace elsa::sim {
namespace {

struct Stage {
  std::int64_t begin_cycle;
  std::int64_t end_cycle;
  std::string_view name;
  int lane;  // stages of one lane do not overlap; the viewer draws lane 1 over lane 0
};

// What the viewer shows in one line, with one colour per thread.
struct Row {
  std::string label;
  std::string detail;  // on mouse-over, behind the cycles
  std::int64_t thread = 0;
  std::int64_t number = 0;  // the query, or the key of a key's row
  bool complete = false;    // it reached its last stage within the window
  std::vector<Stage> stages;

  void Add(std::string_view name, int lane, std::int64_t begin, std::int64_t end) {
    if (begin < end) stages.push_back({begin, end, name, lane});
  }
  // Of several spans of one kind, from the first begin to the last end: a query is scanned and
  // attended in every bank.
  void Extend(std::string_view name, int lane, std::int64_t begin, std::int64_t end) {
    for (Stage& stage : stages) {
      if (stage.name != name) continue;
      stage.begin_cycle = std::min(stage.begin_cycle, begin);
      stage.end_cycle = std::max(stage.end_cycle, end);
      return;
    }
    Add(name, lane, begin, end);
  }
  std::int64_t Begin() const {
    return std::min_element(
               stages.begin(), stages.end(),
               [](const Stage& a, const Stage& b) { return a.begin_cycle < b.begin_cycle; })
        ->begin_cycle;
  }
  std::int64_t End() const {
    return std::max_element(
               stages.begin(), stages.end(),
               [](const Stage& a, const Stage& b) { return a.end_cycle < b.end_cycle; })
        ->end_cycle;
  }
};

enum class RowKind { kKey, kQuery, kCandidate };  // the order of rows that begin together

class Rows {
 public:
  Rows(const Timeline& timeline, const Config& config)
      : banks_(config.banks), latencies_(LatenciesOf(config)) {
    for (const Span& span : timeline.spans) {
      if (span.kind == SpanKind::kHeld) held_.insert({span.instance, span.begin_cycle});
    }
    for (const Span& span : timeline.spans) Add(span);
  }

  // In the order of their begins.
  std::vector<Row> Take() {
    std::vector<Row> rows;
    for (auto& [id, row] : rows_) {
      if (!row.stages.empty()) rows.push_back(std::move(row));
    }
    std::stable_sort(rows.begin(), rows.end(),
                     [](const Row& a, const Row& b) { return a.Begin() < b.Begin(); });
    return rows;
  }

 private:
  void Add(const Span& span) {
    const std::int64_t begin = span.begin_cycle;
    const std::int64_t end = span.end_cycle;
    switch (span.kind) {
      case SpanKind::kHashKey:
        return Key(span.key).Add("H", 0, begin, end);
      case SpanKind::kNorm:
        return Key(span.key).Add("N", 1, begin, end);
      case SpanKind::kHashQuery:
        return Query(span.query).Add("H", 0, begin, end);
      case SpanKind::kScan:
        return Query(span.query).Extend("S", 0, begin, end);
      case SpanKind::kDivide:
        Query(span.query).complete = true;
        return Query(span.query).Add("D", 0, begin, end);
      case SpanKind::kQueued: {
        Row& row = Candidate(span);
        row.detail = ", selector " + std::to_string(span.selector);
        return row.Add("Q", 0, begin, end);
      }
      case SpanKind::kAttend:
        Query(span.query).Extend("A", 1, begin, end);
        return AddAttention(span);
      case SpanKind::kPhase:
      case SpanKind::kStall:
      case SpanKind::kHeld:
        return;
    }
  }

  Row& Key(std::int32_t key) {
    Row& row = rows_[{RowKind::kKey, 0, key, 0}];
    row.label = "key " + std::to_string(key);
    row.thread = banks_ + 1;
    row.number = key;
    row.complete = true;
    return row;
  }
  Row& Query(std::int32_t query) {
    Row& row = rows_[{RowKind::kQuery, query, 0, 0}];
    row.label = "query " + std::to_string(query);
    row.thread = banks_;
    row.number = query;
    return row;
  }
  Row& Candidate(const Span& span) {
    Row& row = rows_[{RowKind::kCandidate, span.query, span.key, span.instance}];
    row.label = "q" + std::to_string(span.query) +
                (span.key < 0 ? " mean row" : " k" + std::to_string(span.key)) + " bank " +
                std::to_string(span.instance);
    row.thread = span.instance;
    row.number = span.query;
    return row;
  }

  void AddAttention(const Span& span) {
    Row& row = Candidate(span);
    // The pop itself belongs to both: the queue still holds what the arbiter is picking.
    for (Stage& stage : row.stages) stage.end_cycle = std::min(stage.end_cycle, span.begin_cycle);
    std::erase_if(row.stages, [](const Stage& s) { return s.begin_cycle >= s.end_cycle; });
    const std::array<std::pair<std::string_view, std::int64_t>, 4> stages{
        {{"Pk", latencies_.arbiter_cycles},
         {"Rd", latencies_.attention_read_cycles},
         {"Dt", latencies_.attention_dot_cycles},
         {"Ex", latencies_.attention_exp_cycles}}};
    std::int64_t begin = span.begin_cycle;
    for (const auto& [name, cycles] : stages) {
      const std::int64_t end = std::min(span.end_cycle, Moved(span.instance, begin, cycles));
      row.Add(name, 0, begin, end);
      begin = end;
    }
    row.Add("Ac", 0, begin, span.end_cycle);
    row.complete = true;
  }
  // The cycle by which the bank's attention unit has moved on by so many stages.
  std::int64_t Moved(std::int32_t bank, std::int64_t cycle, std::int64_t stages) const {
    for (; stages > 0; ++cycle) {
      if (held_.count({bank, cycle}) == 0) --stages;
    }
    return cycle;
  }

  std::int64_t banks_;
  Latencies latencies_;
  std::set<std::pair<std::int32_t, std::int64_t>> held_;  // banks and cycles
  // By kind, query, key, bank.
  std::map<std::tuple<RowKind, std::int32_t, std::int32_t, std::int32_t>, Row> rows_;
};

// Lines of one cycle: stages end, rows end, rows begin, stages begin.
enum class Order { kStageEnd, kRetire, kRow, kStageBegin };
struct Command {
  std::int64_t cycle;
  Order order;
  std::size_t row;
  const Stage* stage;
};

std::vector<Command> CommandsOf(const std::vector<Row>& rows) {
  std::vector<Command> commands;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    commands.push_back({rows[i].Begin(), Order::kRow, i, nullptr});
    for (const Stage& stage : rows[i].stages) {
      commands.push_back({stage.begin_cycle, Order::kStageBegin, i, &stage});
      commands.push_back({stage.end_cycle, Order::kStageEnd, i, &stage});
    }
    commands.push_back({rows[i].End(), Order::kRetire, i, nullptr});
  }
  std::stable_sort(commands.begin(), commands.end(), [](const Command& a, const Command& b) {
    return std::tie(a.cycle, a.order) < std::tie(b.cycle, b.order);
  });
  return commands;
}

}  // namespace

std::string KanataLog(const Timeline& timeline, const Config& config) {
  const std::vector<Row> rows = Rows(timeline, config).Take();
  const std::vector<Command> commands = CommandsOf(rows);

  std::string text = "Kanata\t0004\n";
  const auto line = [&text](const auto&... fields) {
    ((text += fields, text += '\t'), ...);
    text.back() = '\n';
  };
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  std::int64_t cycle = commands.empty() ? timeline.from_cycle : commands.front().cycle;
  line("C=", number(cycle));
  std::int64_t retired = 0;
  for (const Command& command : commands) {
    if (command.cycle != cycle) line("C", number(command.cycle - cycle));
    cycle = command.cycle;
    const Row& row = rows[command.row];
    const std::string id = number(command.row);
    switch (command.order) {
      case Order::kRow:
        line("I", id, number(row.number), number(row.thread));
        line("L", id, "0", row.label);
        // The machine's cycles: the viewer leaves out C= and counts from the log's first cycle.
        line("L", id, "1",
             "cycles " + number(row.Begin()) + " to " + number(row.End()) + row.detail);
        break;
      case Order::kStageBegin:
        line("S", id, number(command.stage->lane), command.stage->name);
        break;
      case Order::kStageEnd:
        line("E", id, number(command.stage->lane), command.stage->name);
        break;
      case Order::kRetire:
        // 1, which the viewer greys out, says that the rest lies outside the window.
        line("R", id, number(retired), row.complete ? "0" : "1");
        if (row.complete) ++retired;
        break;
    }
  }
  return text;
}

}  // namespace elsa::sim
