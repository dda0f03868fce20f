#include "elsa/params/derived.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "elsa/base/integer_math.h"
#include "elsa/params/hash_shape.h"

namespace elsa {
namespace {

// W is the number of multiplications of one hash; the sections are the paper's.
constexpr std::array kDerivedFields{
    DerivedField{"operations_per_cycle", &Derived::operations_per_cycle, "operations",
                 "P_a (2d + 2d) + m_o + (P_a - 1) m_o", "V-C",
                 "Multiplications and additions per cycle at full load: attention modules, "
                 "division and the adders that merge the banks."},
    DerivedField{"division_adders", &Derived::division_adders, "adders", "(P_a - 1) m_o", "IV-D",
                 "Adders that merge the banks' partial outputs."},
    DerivedField{"peak_ops_per_s", &Derived::peak_ops_per_s, "operations/s",
                 "operations_per_cycle x clock", "V-C", "Peak throughput of one accelerator."},
    DerivedField{"total_peak_ops_per_s", &Derived::total_peak_ops_per_s, "operations/s",
                 "peak_ops_per_s x accelerators", "V-C", "Peak throughput of all accelerators."},
    DerivedField{"ideal_multipliers", &Derived::ideal_multipliers, "multipliers", "P_a 2d + m_o",
                 "V-C", "Multipliers of the ideal accelerator that ELSA is compared with."},
    DerivedField{"hash_multiplications", &Derived::hash_multiplications, "multiplications",
                 "W = 3 d^(4/3) for three square factors", "III-C",
                 "Multiplications to hash one vector, counted from the factors' shapes."},
    DerivedField{"hash_registers", &Derived::hash_registers, "registers",
                 "3 d^(2/3) for three square factors", "IV-C",
                 "Values of the hash factors, each held in a register."},
    DerivedField{"hash_cycles", &Derived::hash_cycles, "cycles", "W / m_h", "IV-C",
                 "Cycles to hash one vector."},
    DerivedField{"preprocess_cycles", &Derived::preprocess_cycles, "cycles", "(n + 1) W / m_h",
                 "IV-D", "Cycles to hash all keys and the first query."},
    DerivedField{"scan_cycles", &Derived::scan_cycles, "cycles", "ceil(n / (P_a P_c))", "IV-D",
                 "Cycles to test all keys of a bank for one query."},
    DerivedField{"division_cycles", &Derived::division_cycles, "cycles", "d / m_o", "IV-C",
                 "Cycles to divide one output row."},
    DerivedField{"query_min_cycles", &Derived::query_min_cycles, "cycles",
                 "max(W / m_h, ceil(n / (P_a P_c)), d / m_o)", "IV-D",
                 "Fewest cycles per query, however few candidates there are."},
    DerivedField{"exact_query_cycles", &Derived::exact_query_cycles, "cycles",
                 "max(n / P_a, d / m_o)", "IV-D",
                 "Cycles per query when every key is a candidate (p = 0, no hash)."},
    DerivedField{"max_speedup", &Derived::max_speedup, "x", "exact_query_cycles / query_min_cycles",
                 "IV-D", "Largest gain of approximation in the execution phase."},
    DerivedField{"full_speedup_min_n", &Derived::full_speedup_min_n, "rows",
                 "P_a P_c max(W / m_h, d / m_o)", "IV-D",
                 "Shortest input at which the scan is the slowest stage, so that the gain can "
                 "reach P_c."},
    DerivedField{"exact_execute_cycles", &Derived::exact_execute_cycles, "cycles",
                 "n exact_query_cycles", "V-C", "Execution phase of the exact mode."},
    DerivedField{"ideal_cycles", &Derived::ideal_cycles, "cycles", "2 n^2 d / (P_a 2d + m_o)",
                 "V-C", "The ideal accelerator: every multiplier busy in every cycle."},
    DerivedField{"exact_over_ideal", &Derived::exact_over_ideal, "x",
                 "exact_execute_cycles / ideal_cycles", "V-C",
                 "The exact mode beside the ideal accelerator, without preprocessing."},
    DerivedField{"keys_per_bank", &Derived::keys_per_bank, "keys", "n / P_a", "IV-D",
                 "Keys, values, hashes and norms in one bank."},
    DerivedField{"selectors", &Derived::selectors, "modules", "P_a P_c", "V-D",
                 "Candidate selection modules of one accelerator."},
    DerivedField{"cosine_table_entries", &Derived::cosine_table_entries, "entries", "k + 1", "IV-C",
                 "Entries of a selector's cosine table, one per Hamming distance."},
    DerivedField{"qkv_bits", &Derived::qkv_bits, "bits", "1 + integer + fraction", "IV-C",
                 "Bits of one component of a query, key, value or output."},
    DerivedField{"float_bits", &Derived::float_bits, "bits", "1 + exponent + fraction", "IV-E",
                 "Bits of a floating-point value."},
    DerivedField{"key_hash_bytes", &Derived::key_hash_bytes, "bytes", "n k / 8", "IV-C",
                 "Key hash memory of all banks."},
    DerivedField{"key_norm_bytes", &Derived::key_norm_bytes, "bytes", "n norm_bits / 8", "IV-C",
                 "Key norm memory of all banks."},
    DerivedField{"matrix_bytes", &Derived::matrix_bytes, "bytes", "n d qkv_bits / 8", "IV-C",
                 "Memory of each of the query, key, value and output matrices."},
};

}  // namespace

std::span<const DerivedField> DerivedFields() { return kDerivedFields; }

Derived Derive(const Config& c) {
  ValidateConfig(c);  // from here on m_h divides W, m_o divides d, P_a divides n
  const auto shapes = HashShapes(c.hash, c.d, c.k);
  Derived v;
  // An attention module has d multipliers and an adder tree for the score, d of each for the
  // weighted sum; the paper counts 2d operations for either.
  v.division_adders = (c.banks - 1) * c.division_multipliers;
  v.operations_per_cycle =
      c.banks * (2 * c.d + 2 * c.d) + c.division_multipliers + v.division_adders;
  v.peak_ops_per_s = v.operations_per_cycle * c.clock_hz;
  v.total_peak_ops_per_s = v.peak_ops_per_s * c.accelerators;
  v.ideal_multipliers = c.banks * 2 * c.d + c.division_multipliers;

  v.keys_per_bank = c.n / c.banks;
  v.selectors = c.banks * c.selectors_per_bank;
  v.hash_multiplications = Multiplications(shapes);
  v.hash_registers = MatrixValues(shapes);
  v.hash_cycles = v.hash_multiplications / c.hash_multipliers;
  v.preprocess_cycles = (c.n + 1) * v.hash_cycles;
  v.scan_cycles = CeilDiv(v.keys_per_bank, c.selectors_per_bank);
  v.division_cycles = c.d / c.division_multipliers;
  v.query_min_cycles = std::max({v.hash_cycles, v.scan_cycles, v.division_cycles});
  v.exact_query_cycles = std::max(v.keys_per_bank, v.division_cycles);
  v.max_speedup =
      static_cast<double>(v.exact_query_cycles) / static_cast<double>(v.query_min_cycles);
  v.full_speedup_min_n = v.selectors * std::max(v.hash_cycles, v.division_cycles);
  v.exact_execute_cycles = c.n * v.exact_query_cycles;
  v.ideal_cycles =
      2.0 * static_cast<double>(c.n * c.n * c.d) / static_cast<double>(v.ideal_multipliers);
  v.exact_over_ideal = static_cast<double>(v.exact_execute_cycles) / v.ideal_cycles;

  v.cosine_table_entries = c.k + 1;
  v.qkv_bits = 1 + c.qkv_integer_bits + c.qkv_fraction_bits;
  v.float_bits = 1 + c.float_exponent_bits + c.float_fraction_bits;
  v.key_hash_bytes = CeilDiv(c.n * c.k, 8);
  v.key_norm_bytes = CeilDiv(c.n * c.norm_bits, 8);
  v.matrix_bytes = CeilDiv(c.n * c.d * v.qkv_bits, 8);
  return v;
}

std::string ValueText(const Derived& derived, const DerivedField& field) {
  if (const auto* integer = std::get_if<std::int64_t Derived::*>(&field.member)) {
    return std::to_string(derived.**integer);
  }
  // Not printf: its decimal point follows the locale.
  char text[32];
  const double value = derived.*std::get<double Derived::*>(field.member);
  const auto end = std::to_chars(text, text + sizeof(text), value, std::chars_format::general, 8);
  return std::string(text, end.ptr);
}

}  // namespace elsa
