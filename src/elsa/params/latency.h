// How many clock cycles each stage of the accelerator takes: the one table that the simulator and
// the SystemVerilog obey. Source: the modules of Sec. IV-C; the paper gives throughputs only, so
// every latency is our choice: work that fits between two registers at 1 GHz in a 40 nm process.
// Not configurable: what a stage costs follows from the machine's sizes.
#ifndef ELSA_PARAMS_LATENCY_H_
#define ELSA_PARAMS_LATENCY_H_

#include <cstdint>
#include <span>
#include <string_view>

#include "elsa/params/config.h"

namespace elsa {

// Cycles, each from one register to the next. Meanings are in LatencyFields().
struct Latencies {
  std::int64_t command_cycles = 0;

  std::int64_t query_read_cycles = 0;
  std::int64_t hash_read_cycles = 0;
  std::int64_t hash_compute_cycles = 0;
  std::int64_t hash_write_cycles = 0;

  std::int64_t norm_multiply_cycles = 0;
  std::int64_t norm_sqrt_cycles = 0;
  std::int64_t norm_threshold_cycles = 0;
  std::int64_t mean_row_cycles = 0;

  std::int64_t select_read_cycles = 0;
  std::int64_t select_distance_cycles = 0;
  std::int64_t select_similarity_cycles = 0;
  std::int64_t select_compare_cycles = 0;

  std::int64_t arbiter_cycles = 0;
  std::int64_t attention_read_cycles = 0;
  std::int64_t attention_dot_cycles = 0;
  std::int64_t attention_exp_cycles = 0;
  std::int64_t attention_accumulate_cycles = 0;

  std::int64_t division_merge_cycles = 0;
  std::int64_t division_reciprocal_cycles = 0;
  std::int64_t division_multiply_cycles = 0;
  std::int64_t division_write_cycles = 0;

  // From the read of a row until its hash can be used.
  std::int64_t Hash() const { return hash_read_cycles + hash_compute_cycles + hash_write_cycles; }
  // From the read of the last key until the threshold can be used.
  std::int64_t Norm() const {
    return hash_read_cycles + norm_multiply_cycles + norm_sqrt_cycles + norm_threshold_cycles;
  }
  // From the read of a key's hash until the key can be popped from its queue.
  std::int64_t Select() const {
    return select_read_cycles + select_distance_cycles + select_similarity_cycles +
           select_compare_cycles;
  }
  // From the cycle in which a candidate is picked until it is part of the bank's sums.
  std::int64_t Attention() const {
    return arbiter_cycles + attention_read_cycles + attention_dot_cycles + attention_exp_cycles +
           attention_accumulate_cycles;
  }
  // From the cycle in which the divider reads sums until their quotients are in the output memory.
  std::int64_t Division() const {
    return division_merge_cycles + division_reciprocal_cycles + division_multiply_cycles +
           division_write_cycles;
  }
};

// One row of the table.
struct LatencyField {
  std::string_view name;  // the C++ member's
  std::int64_t Latencies::*member;
  std::string_view module;   // the block it belongs to
  std::string_view formula;  // "" for a constant
  std::string_view doc;      // what happens in each of its cycles
};
std::span<const LatencyField> LatencyFields();

// The latencies of a machine. Errors: kInvalidArgument as ValidateConfig.
Latencies LatenciesOf(const Config& config);

}  // namespace elsa

#endif  // ELSA_PARAMS_LATENCY_H_
