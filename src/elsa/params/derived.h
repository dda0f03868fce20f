// What follows from a configuration by arithmetic alone: operations, multipliers, the pipeline's
// cycle bounds and memory sizes. Source: Sec. IV-C, IV-D and V-C. Not a simulation: cycles here are
// the paper's closed forms; stalls and overlaps are counted by the simulator.
#ifndef ELSA_PARAMS_DERIVED_H_
#define ELSA_PARAMS_DERIVED_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "elsa/params/config.h"

namespace elsa {

// Units end the names. Formulas and sources are in DerivedFields().
struct Derived {
  std::int64_t operations_per_cycle = 0;
  std::int64_t division_adders = 0;
  std::int64_t peak_ops_per_s = 0;
  std::int64_t total_peak_ops_per_s = 0;
  std::int64_t ideal_multipliers = 0;

  std::int64_t hash_multiplications = 0;
  std::int64_t hash_registers = 0;
  std::int64_t hash_cycles = 0;
  std::int64_t preprocess_cycles = 0;
  std::int64_t scan_cycles = 0;
  std::int64_t division_cycles = 0;
  std::int64_t query_min_cycles = 0;
  std::int64_t exact_query_cycles = 0;
  double max_speedup = 0;
  std::int64_t full_speedup_min_n = 0;
  std::int64_t exact_execute_cycles = 0;
  double ideal_cycles = 0;
  double exact_over_ideal = 0;

  std::int64_t keys_per_bank = 0;
  std::int64_t selectors = 0;
  std::int64_t cosine_table_entries = 0;
  std::int64_t qkv_bits = 0;
  std::int64_t float_bits = 0;
  std::int64_t key_hash_bytes = 0;
  std::int64_t key_norm_bytes = 0;
  std::int64_t matrix_bytes = 0;
};

// One row of the table of derived values.
struct DerivedField {
  std::string_view name;  // the C++ member's
  std::variant<std::int64_t Derived::*, double Derived::*> member;
  std::string_view unit;
  std::string_view formula;  // in the paper's symbols
  std::string_view section;
  std::string_view doc;
};

// Every member of Derived, in order.
std::span<const DerivedField> DerivedFields();

// Computes all derived values for inputs of the machine's full size n.
// Errors: kInvalidArgument as ValidateConfig.
Derived Derive(const Config& config);

// The value in full, "1539"; a fraction to eight digits, "1.03125".
std::string ValueText(const Derived& derived, const DerivedField& field);

}  // namespace elsa

#endif  // ELSA_PARAMS_DERIVED_H_
