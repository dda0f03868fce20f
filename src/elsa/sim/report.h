// What a simulation reports: cycles with their causes, per module and for the whole machine, and
// the counted events that energy is computed from. Plain data; sums over heads by +=.
#ifndef ELSA_SIM_REPORT_H_
#define ELSA_SIM_REPORT_H_

#include <array>
#include <cstdint>
#include <string_view>

namespace elsa::sim {

// What a module did in a cycle: work, or wait for what.
enum class Cause {
  kBusy,         // work
  kFill,         // the pipeline fills or drains at the start or end of a phase
  kPhase,        // another phase: this module has no part in it
  kHash,         // the hash unit: the next hash (exact mode: the query's vector) is not there yet
  kQueryBuffer,  // all query buffers are taken by queries not yet attended
  kQueueFull,    // a selector's queue is full
  kSelection,    // no candidate: selectors are still scanning, or found too few to keep up
  kOtherBanks,   // another bank is not as far
  kDivision,     // the output divider has not taken the last sums
  kSums,         // the sums to divide are not there yet
  kDone,         // no work left in this head
};
inline constexpr std::size_t kCauses = 11;
std::string_view Name(Cause cause);  // "busy" "fill" "phase" "hash" ...

enum class Module {
  kController,
  kHashUnit,
  kNormUnit,
  kCandidateSelector,  // per bank: its P_c selectors work in step
  kAttentionUnit,      // per bank
  kOutputDivider,
};
inline constexpr std::size_t kModules = 6;
std::string_view Name(Module module);  // "controller" "hash_unit" ...

// Cycles by cause; for a module of several instances, cycles of all of them.
using CauseCycles = std::array<std::int64_t, kCauses>;
std::int64_t Sum(const CauseCycles& cycles);

// Counted events. Rows are of d components. They determine the energy (elsa/cost).
struct Counters {
  std::int64_t hashes = 0;             // keys and queries
  std::int64_t norms = 0;              // keys
  std::int64_t key_tests = 0;          // (query, key) pairs that a selector tested
  std::int64_t scan_rows = 0;          // reads of hash and norm memory, P_c keys of a bank at once
  std::int64_t candidates = 0;         // issued to attention modules, fallback included
  std::int64_t mean_rows = 0;          // mean rows issued to attention modules
  std::int64_t fallback_queries = 0;   // queries whose test kept nothing
  std::int64_t key_row_reads = 0;      // key memory, preprocessing included
  std::int64_t value_row_reads = 0;    // value memory
  std::int64_t query_row_reads = 0;    // query memory
  std::int64_t output_row_writes = 0;  // output memory
  std::int64_t key_hash_writes = 0;    // key hash memory; as many norms are written
  std::int64_t divided_rows = 0;       // output rows that the divider made
  std::int64_t copied_bytes = 0;       // between host and machine
  std::int64_t queries = 0;
  std::int64_t pairs = 0;  // (query, visible key)
  Counters& operator+=(const Counters& other);
};

struct Report {
  std::int64_t heads = 0;  // attention operations summed up here
  std::int64_t cycles = 0;
  // Phases; they sum to `cycles`.
  std::int64_t command_cycles = 0;
  std::int64_t copy_cycles = 0;
  std::int64_t preprocess_cycles = 0;
  std::int64_t execute_cycles = 0;
  // The whole machine, cycle by cycle, seen from the bank that is furthest behind: busy if every
  // bank issues a candidate, kOtherBanks if that bank does and another does not, else what holds up
  // that bank. Outside execution: kPhase. Sums to `cycles`.
  CauseCycles machine{};
  // By module; each sums to `cycles` times its instances.
  std::array<CauseCycles, kModules> modules{};
  std::array<std::int64_t, kModules> instances{};
  Counters counters;
  std::int64_t longest_queue = 0;  // most candidates that one selector's queue held

  Report& operator+=(const Report& other);
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_REPORT_H_
