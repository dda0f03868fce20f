#include "elsa/sim/machine_a3.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numeric>
#include <queue>
#include <string>

#include "elsa/base/error.h"
#include "elsa/base/portable_math.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {
namespace {

// The products of one query with all columns, from one end: the largest first or the smallest
// first.
class ProductQueue {
 public:
  ProductQueue(const fixed::Job& job, const std::vector<std::int32_t>& columns, std::int64_t query,
               bool largest_first)
      : job_(job),
        columns_(columns),
        query_(job.query.data() + query * job.d),
        visible_(job.Visible(query)),
        sign_(largest_first ? 1 : -1),
        walked_(job.d, 0) {
    for (std::int64_t c = 0; c < job.d; ++c) Push(c);
  }

  struct Entry {
    std::int64_t rank;  // the product, or its negative if the smallest come first
    std::int64_t component;
    std::int64_t key;
    bool operator<(const Entry& other) const {  // comes out later
      return rank != other.rank ? rank < other.rank : component > other.component;
    }
  };
  bool empty() const { return heap_.empty(); }
  // The next product and its key.
  Entry Pop() {
    Entry entry = heap_.top();
    heap_.pop();
    Push(entry.component);
    entry.rank *= sign_;
    return entry;
  }

 private:
  void Push(std::int64_t c) {
    const bool from_top = sign_ * query_[c] >= 0;
    while (walked_[c] < job_.keys) {
      const std::int64_t at = from_top ? job_.keys - 1 - walked_[c] : walked_[c];
      ++walked_[c];
      const std::int64_t key = columns_[c * job_.keys + at];
      if (key >= visible_) continue;
      heap_.push({sign_ * query_[c] * job_.key[key * job_.d + c], c, key});
      return;
    }
  }

  const fixed::Job& job_;
  const std::vector<std::int32_t>& columns_;
  const std::int16_t* query_;
  std::int64_t visible_;
  std::int64_t sign_;
  std::vector<std::int64_t> walked_;  // values of each column that were looked at
  std::priority_queue<Entry> heap_;
};

// When each stage finishes its last query, if a stage passes a query on when done with it and then
// takes the next.
class StagePipeline {
 public:
  void Add(const std::array<std::int64_t, 4>& cycles) {
    std::int64_t ready = 0;
    for (std::size_t s = 0; s < done_.size(); ++s) {
      done_[s] = std::max(done_[s], ready) + cycles[s];
      ready = done_[s];
    }
  }
  std::int64_t Done() const { return done_.back(); }

 private:
  std::array<std::int64_t, 4> done_{};
};

struct QueryWork {
  std::int64_t search = 0;  // iterations
  std::int64_t scored = 0;
  std::vector<std::int64_t> kept;  // keys
  bool fallback = false;
};

void CheckRange(const char* what, double value, double low, double high) {
  if (!(value >= low && value <= high)) {
    throw Error(ErrorCode::kInvalidArgument,
                "a3: " + std::string(what) + ": expected " + std::to_string(low) + " to " +
                    std::to_string(high) + ", got " + std::to_string(value));
  }
}

void Check(const A3Options& options) {
  CheckRange("units", static_cast<double>(options.units), 1, 65536);
  CheckRange("sorters", static_cast<double>(options.sorters), 0, 65536);
  if (!options.approximate) return;
  CheckRange("iterations_per_key", options.iterations_per_key, 0, 65536);
  CheckRange("weight_threshold", options.weight_threshold, 0, 1);
}

// Post-scoring selection: candidates whose weight is at least T times the largest candidate's.
QueryWork Select(const fixed::Job& job, const A3Options& options,
                 const std::vector<std::int32_t>& columns, std::int64_t query) {
  const std::int64_t visible = job.Visible(query);
  const auto iterations = static_cast<std::int64_t>(
      std::ceil(options.iterations_per_key * static_cast<double>(visible)));
  QueryWork work;
  const std::vector<std::int64_t> greedy =
      GreedyScores(job, columns, query, iterations, options.skip_small_when_negative, &work.search);
  std::vector<std::int64_t> candidates;
  for (std::int64_t j = 0; j < visible; ++j) {
    if (greedy[j] > 0) candidates.push_back(j);
  }
  work.fallback = candidates.empty();
  if (work.fallback) {
    candidates = {std::max_element(greedy.begin(), greedy.end()) - greedy.begin()};
  }
  work.scored = static_cast<std::int64_t>(candidates.size());

  std::vector<std::int64_t> all;
  IntegerScores(job, query, &all);
  std::vector<std::int64_t> scores;
  for (const std::int64_t key : candidates) scores.push_back(all[key]);
  std::vector<double> weights;
  SoftmaxWeights(scores, ScoreScale(job), &weights);  // the largest is 1
  for (std::size_t c = 0; c < candidates.size(); ++c) {
    if (weights[c] >= options.weight_threshold) work.kept.push_back(candidates[c]);
  }
  return work;
}

std::vector<std::string> Notes(const A3Options& options, std::int64_t sorters) {
  std::vector<std::string> notes = {
      "A unit takes one key per cycle into each of dot product, exponent and output stage; each "
      "stage works on another query.",
      std::to_string(options.units) + " unit(s) of 2 d multipliers; ELSA has P_a of them."};
  if (!options.approximate) return notes;
  notes.push_back("The search takes one iteration, two products, per cycle.");
  notes.push_back(
      "Collecting positive greedy scores and the test after scoring take no time of their own.");
  notes.push_back("Sorting: " + std::to_string(sorters) +
                  " merge sorter(s), one value per cycle each; the A3 paper leaves it to a host.");
  return notes;
}

}  // namespace

std::vector<std::int32_t> SortColumns(const fixed::Job& job) {
  std::vector<std::int32_t> columns(job.d * job.keys);
  for (std::int64_t c = 0; c < job.d; ++c) {
    const auto begin = columns.begin() + c * job.keys;
    std::iota(begin, begin + job.keys, 0);
    std::stable_sort(begin, begin + job.keys, [&](std::int32_t a, std::int32_t b) {
      return job.key[a * job.d + c] < job.key[b * job.d + c];
    });
  }
  return columns;
}

std::vector<std::int64_t> GreedyScores(const fixed::Job& job,
                                       const std::vector<std::int32_t>& columns, std::int64_t query,
                                       std::int64_t iterations, bool skip_small_when_negative,
                                       std::int64_t* taken) {
  ProductQueue large(job, columns, query, true);
  ProductQueue small(job, columns, query, false);
  std::vector<std::int64_t> greedy(job.Visible(query), 0);
  std::int64_t sum = 0;
  std::int64_t made = 0;
  while (made < iterations && !(large.empty() && small.empty())) {
    ++made;
    if (!large.empty()) {
      const ProductQueue::Entry entry = large.Pop();
      if (entry.rank > 0) {
        greedy[entry.key] += entry.rank;
        sum += entry.rank;
      }
    }
    if (skip_small_when_negative && sum < 0) {
      // With the large end used up nothing can change any more.
      if (large.empty()) break;
      continue;
    }
    if (!small.empty()) {
      const ProductQueue::Entry entry = small.Pop();
      if (entry.rank < 0) {
        greedy[entry.key] += entry.rank;
        sum += entry.rank;
      }
    }
  }
  *taken = made;
  return greedy;
}

std::int64_t SortCycles(std::int64_t keys, std::int64_t d, std::int64_t sorters) {
  const auto passes = std::bit_width(static_cast<std::uint64_t>(keys) - 1);  // ceil(log2 keys)
  return CeilDiv(d, sorters) * keys * static_cast<std::int64_t>(passes);
}

MachineResult RunA3(const Config& config, const fixed::Job& job, const A3Options& options,
                    fixed::Candidates* kept) {
  Check(options);
  const std::int64_t sorters = options.sorters == 0 ? config.banks : options.sorters;
  MachineResult result;
  result.machine = "a3";
  result.model = MachineModel::kSimulated;
  result.heads = 1;
  result.pairs = VisiblePairs(job);
  if (kept != nullptr) *kept = NoCandidates(job.queries, job.keys);

  std::vector<std::int32_t> columns;
  if (options.approximate) {
    columns = SortColumns(job);
    result.preprocess_cycles = static_cast<double>(SortCycles(job.keys, job.d, sorters));
  }
  std::vector<StagePipeline> units(options.units);
  for (std::int64_t i = 0; i < job.queries; ++i) {
    QueryWork work;
    if (options.approximate) {
      work = Select(job, options, columns, i);
    } else {
      work.scored = job.Visible(i);
      work.kept.resize(work.scored);
      std::iota(work.kept.begin(), work.kept.end(), 0);
    }
    const auto count = static_cast<std::int64_t>(work.kept.size());
    units[i % options.units].Add({work.search, work.scored, count, count});
    result.selection_cycles += static_cast<double>(work.search);
    result.scored_pairs += work.scored;
    result.kept_pairs += count;
    if (kept == nullptr) continue;
    if (work.fallback) {
      kept->fallback[i] = static_cast<std::int32_t>(work.kept.front());
    } else {
      for (const std::int64_t key : work.kept) Keep(kept, i, key);
    }
  }
  std::int64_t last = 0;
  for (const StagePipeline& unit : units) last = std::max(last, unit.Done());
  result.cycles = result.preprocess_cycles + static_cast<double>(last);
  SetTimes(config, &result);
  result.notes = Notes(options, sorters);
  return result;
}

}  // namespace elsa::sim
