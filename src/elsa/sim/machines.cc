#include "elsa/sim/machines.h"

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/sim/machine_ideal.h"
#include "elsa/sim/machine_published.h"
#include "elsa/sim/machine_scores.h"
#include "elsa/sim/machine_top_k.h"

namespace elsa::sim {
namespace {

struct Request {
  std::string_view name;
  const Config& config;
  const fixed::Job& job;
  const fixed::Candidates* candidates;
  const MachineOptions& options;
  fixed::Candidates* kept;  // null if not wanted
};

void KeepAllVisible(const fixed::Job& job, fixed::Candidates* kept) {
  if (kept == nullptr) return;
  *kept = NoCandidates(job.queries, job.keys);
  for (std::int64_t i = 0; i < job.queries; ++i) {
    for (std::int64_t j = 0; j < job.Visible(i); ++j) Keep(kept, i, j);
  }
}

const PaperFigures& Published(const Request& r) {
  if (r.options.published == nullptr) {
    throw Error(ErrorCode::kInvalidArgument,
                "machine " + std::string(r.name) + ": published figures: expected some, got none");
  }
  return *r.options.published;
}

std::int64_t PaddedN(const Request& r) {
  return r.options.padded_n == 0 ? std::max(r.job.queries, r.job.keys) : r.options.padded_n;
}

MachineResult Elsewhere(const Request& r) {
  throw Error(ErrorCode::kInvalidArgument,
              "machine " + std::string(r.name) +
                  (r.name == "cpu" ? ": measured by the caller, not run here"
                                   : ": simulated by sim::Simulate, not run here"));
}

MachineResult Ideal(const Request& r) {
  KeepAllVisible(r.job, r.kept);
  return RunIdeal(r.config, r.job);
}

MachineResult A3(const Request& r, const A3Options& options) {
  MachineResult result = RunA3(r.config, r.job, options, r.kept);
  result.machine = r.name;
  return result;
}
MachineResult A3Chosen(const Request& r) { return A3(r, r.options.a3); }
MachineResult A3AggressiveSetting(const Request& r) { return A3(r, kA3Aggressive); }
MachineResult A3BaseSetting(const Request& r) { return A3(r, kA3Base); }

MachineResult TopK(const Request& r) {
  return RunTopK(r.config, r.job, r.candidates, TopKGoal::kEqualMass, r.kept);
}

MachineResult TopKCount(const Request& r) {
  return RunTopK(r.config, r.job, r.candidates, TopKGoal::kEqualCount, r.kept);
}

MachineResult Sanger(const Request& r) {
  return RunSanger(r.config, r.job, r.options.sanger, r.kept);
}

MachineResult Spatten(const Request& r) {
  return RunSpatten(r.config, r.job, r.options.spatten, r.options.spatten_tokens, r.kept);
}

MachineResult V100Peak(const Request& r) {
  KeepAllVisible(r.job, r.kept);
  return RunAtPeak(r.name, Published(r).Value("v100_throughput.fp32"), PaddedN(r), r.job);
}

MachineResult V100Published(const Request& r) {
  KeepAllVisible(r.job, r.kept);
  return RunAtRatio(r.name, GpuOverBase(Published(r)), r.config, r.job);
}

MachineResult TpuPeak(const Request& r) {
  KeepAllVisible(r.job, r.kept);
  return RunAtPeak(r.name, Published(r).Value("tpu_throughput.fp32"), PaddedN(r), r.job);
}

MachineResult TpuPublished(const Request& r) {
  KeepAllVisible(r.job, r.kept);
  MachineResult result = RunAtRatio(r.name, TpuOverBase(Published(r)), r.config, r.job);
  result.notes.push_back("At equal peak operations per second, not a whole TPUv2.");
  return result;
}

struct Machine {
  std::string_view name;
  MachineResult (*run)(const Request&);
};
constexpr std::array kMachines{
    Machine{"elsa", Elsewhere},
    Machine{"base", Elsewhere},
    Machine{"ideal", Ideal},
    Machine{"a3", A3Chosen},
    Machine{"a3-aggressive", A3AggressiveSetting},
    Machine{"a3-base", A3BaseSetting},
    Machine{"top-k", TopK},
    Machine{"top-k-count", TopKCount},
    Machine{"sanger", Sanger},
    Machine{"spatten", Spatten},
    Machine{"v100-peak", V100Peak},
    Machine{"v100-published", V100Published},
    Machine{"tpuv2-peak", TpuPeak},
    Machine{"tpuv2-published", TpuPublished},
    Machine{"cpu", Elsewhere},
};

const Machine& Find(std::string_view name) {
  const auto found = std::find_if(kMachines.begin(), kMachines.end(),
                                  [&](const Machine& m) { return m.name == name; });
  if (found != kMachines.end()) return *found;
  std::string names;
  for (const Machine& machine : kMachines) {
    names += (names.empty() ? "" : ", ") + std::string(machine.name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              "machine: expected one of " + names + ", got '" + std::string(name) + "'");
}

void CheckAtMost(const char* what, std::int64_t value, std::int64_t limit) {
  if (value < 1 || value > limit) {
    throw Error(ErrorCode::kMismatch, "job: " + std::string(what) + ": expected 1 to " +
                                          std::to_string(limit) + ", got " + std::to_string(value));
  }
}

void CheckSize(const char* what, std::size_t value, std::int64_t expected) {
  if (value != static_cast<std::size_t>(expected)) {
    throw Error(ErrorCode::kMismatch, std::string(what) + ": expected " + std::to_string(expected) +
                                          " values, got " + std::to_string(value));
  }
}

void Check(const Config& config, const fixed::Job& job, const fixed::Candidates* candidates) {
  CheckAtMost("queries", job.queries, config.n);
  CheckAtMost("keys", job.keys, config.n);
  CheckAtMost("d", job.d, config.d);
  CheckAtMost("d_v", job.d_v, config.d);
  CheckSize("job: query", job.query.size(), job.queries * job.d);
  CheckSize("job: key", job.key.size(), job.keys * job.d);
  if (candidates == nullptr) return;
  CheckSize("candidates: words", candidates->words, CeilDiv(job.keys, 64));
  CheckSize("candidates: bits", candidates->bits.size(), job.queries * candidates->words);
  CheckSize("candidates: fallback", candidates->fallback.size(), job.queries);
}

// The matrix without some of its columns; rows have `d` components.
std::vector<std::int16_t> Columns(const std::vector<std::int16_t>& matrix, std::int64_t d,
                                  const std::vector<std::int64_t>& columns) {
  std::vector<std::int16_t> result;
  result.reserve(matrix.size() / d * columns.size());
  for (std::size_t row = 0; row < matrix.size(); row += d) {
    for (const std::int64_t c : columns) result.push_back(matrix[row + c]);
  }
  return result;
}

bool IsZero(const std::vector<std::int16_t>& matrix, std::int64_t d, std::int64_t column) {
  for (std::size_t at = column; at < matrix.size(); at += d) {
    if (matrix[at] != 0) return false;
  }
  return true;
}

// The columns to multiply: those that are not zeros and, to make up options.d, some that are.
std::vector<std::int64_t> ColumnsOf(const fixed::Job& job, std::int64_t d) {
  std::vector<std::int64_t> columns, zeros;
  for (std::int64_t c = 0; c < job.d; ++c) {
    const bool zero = IsZero(job.query, job.d, c) && IsZero(job.key, job.d, c);
    (zero ? zeros : columns).push_back(c);
  }
  const auto used = static_cast<std::int64_t>(columns.size());
  if (d == 0) d = used == 0 ? job.d : used;
  if (d < used || d > job.d) {
    throw Error(ErrorCode::kMismatch, "options: d: expected " + std::to_string(used) +
                                          " (the job's columns that are "
                                          "not zeros) to " +
                                          std::to_string(job.d) + ", got " + std::to_string(d));
  }
  columns.insert(columns.end(), zeros.begin(), zeros.begin() + (d - used));
  std::sort(columns.begin(), columns.end());
  return columns;
}

void AddMass(const fixed::Job& job, const fixed::Candidates& kept, MachineResult* result) {
  for (std::int64_t i = 0; i < job.queries; ++i) {
    ++result->mass_queries;  // every query sees a key
    result->mass_sum += MassKept(job, kept, i);
  }
}

}  // namespace

std::vector<std::string_view> MachineNames() {
  std::vector<std::string_view> names;
  for (const Machine& machine : kMachines) names.push_back(machine.name);
  return names;
}

MachineResult RunMachine(std::string_view name, const Config& config, const fixed::Job& job,
                         const fixed::Candidates* candidates, const MachineOptions& options,
                         fixed::Candidates* kept) {
  const Machine& machine = Find(name);
  ValidateConfig(config);
  Check(config, job, candidates);
  const std::vector<std::int64_t> columns = ColumnsOf(job, options.d);
  fixed::Job own;
  const bool spread = static_cast<std::int64_t>(columns.size()) < job.d;
  if (spread) {
    own = job;
    own.d = static_cast<std::int64_t>(columns.size());
    own.query = Columns(job.query, job.d, columns);
    own.key = Columns(job.key, job.d, columns);
  }
  const fixed::Job& seen = spread ? own : job;
  fixed::Candidates local;
  if (kept == nullptr && options.mass) kept = &local;
  MachineResult result = machine.run({machine.name, config, seen, candidates, options, kept});
  if (options.mass) AddMass(seen, *kept, &result);
  return result;
}

}  // namespace elsa::sim
