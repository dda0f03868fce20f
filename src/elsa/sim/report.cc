#include "elsa/sim/report.h"

#include <algorithm>
#include <numeric>

namespace elsa::sim {

std::string_view Name(Cause cause) {
  constexpr std::array<std::string_view, kCauses> kNames{
      "busy",      "fill",        "phase",    "hash", "query_buffer", "queue_full",
      "selection", "other_banks", "division", "sums", "done"};
  return kNames[static_cast<std::size_t>(cause)];
}

std::string_view Name(Module module) {
  constexpr std::array<std::string_view, kModules> kNames{"controller",     "hash_unit",
                                                          "norm_unit",      "candidate_selector",
                                                          "attention_unit", "output_divider"};
  return kNames[static_cast<std::size_t>(module)];
}

std::int64_t Sum(const CauseCycles& cycles) {
  return std::accumulate(cycles.begin(), cycles.end(), std::int64_t{0});
}

namespace {

void Add(const CauseCycles& from, CauseCycles& to) {
  for (std::size_t i = 0; i < from.size(); ++i) to[i] += from[i];
}

}  // namespace

Counters& Counters::operator+=(const Counters& other) {
  hashes += other.hashes;
  norms += other.norms;
  key_tests += other.key_tests;
  scan_rows += other.scan_rows;
  candidates += other.candidates;
  mean_rows += other.mean_rows;
  fallback_queries += other.fallback_queries;
  key_row_reads += other.key_row_reads;
  value_row_reads += other.value_row_reads;
  query_row_reads += other.query_row_reads;
  output_row_writes += other.output_row_writes;
  key_hash_writes += other.key_hash_writes;
  divided_rows += other.divided_rows;
  copied_bytes += other.copied_bytes;
  queries += other.queries;
  pairs += other.pairs;
  return *this;
}

Report& Report::operator+=(const Report& other) {
  heads += other.heads;
  cycles += other.cycles;
  command_cycles += other.command_cycles;
  copy_cycles += other.copy_cycles;
  preprocess_cycles += other.preprocess_cycles;
  execute_cycles += other.execute_cycles;
  Add(other.machine, machine);
  for (std::size_t i = 0; i < modules.size(); ++i) {
    Add(other.modules[i], modules[i]);
    instances[i] = std::max(instances[i], other.instances[i]);
  }
  counters += other.counters;
  longest_queue = std::max(longest_queue, other.longest_queue);
  return *this;
}

}  // namespace elsa::sim
