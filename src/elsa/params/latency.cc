#include "elsa/params/latency.h"

#include <algorithm>
#include <array>

#include "elsa/base/integer_math.h"
#include "elsa/params/derived.h"
#include "elsa/params/hash_shape.h"

namespace elsa {
namespace {

// A cycle at 1 GHz in 40 nm holds one 9 x 9 multiplication, two levels of wide adders, three levels
// of the counters that add up single bits, one table, or one memory access (Our choice; measured
// with open libraries: the 64-bit count does not fit one cycle, docs/reference/accelerator.md).
constexpr std::int64_t kAdderLevels = 2;
constexpr std::int64_t kCounterLevels = 3;

constexpr std::array kFields{
    LatencyField{"command_cycles", &Latencies::command_cycles, "controller", "",
                 "Decode a command; the same again to report its completion."},
    LatencyField{"query_read_cycles", &Latencies::query_read_cycles, "controller", "",
                 "Exact mode: read a query's vector into its buffer, which the next cycle uses."},
    LatencyField{"hash_read_cycles", &Latencies::hash_read_cycles, "hash_unit", "",
                 "Read a row of K or Q; the norm unit takes the same read."},
    LatencyField{"hash_compute_cycles", &Latencies::hash_compute_cycles, "hash_unit",
                 "max(W / m_h, factors)",
                 "Apply the factors; no two of them in one cycle. The next row follows after W / "
                 "m_h."},
    LatencyField{"hash_write_cycles", &Latencies::hash_write_cycles, "hash_unit", "",
                 "Write the sign bits to key hash memory or query buffer."},
    LatencyField{"norm_multiply_cycles", &Latencies::norm_multiply_cycles, "norm_unit",
                 "1 + ceil(log2(d) / 2)",
                 "Multiply the key with itself and add up, on an attention module's multipliers "
                 "and tree."},
    LatencyField{"norm_sqrt_cycles", &Latencies::norm_sqrt_cycles, "norm_unit", "",
                 "Square root: normalise; table; multiply; round and write to the norm memory."},
    LatencyField{"norm_threshold_cycles", &Latencies::norm_threshold_cycles, "norm_unit", "",
                 "Update the largest norm; multiply it by t."},
    LatencyField{"mean_row_cycles", &Latencies::mean_row_cycles, "norm_unit", "0 without mean row",
                 "After the last key was read: add; multiply the sums by 1/n; round."},
    LatencyField{"select_read_cycles", &Latencies::select_read_cycles, "candidate_selector", "",
                 "Read hashes and norms of P_c keys of the bank."},
    LatencyField{"select_distance_cycles", &Latencies::select_distance_cycles, "candidate_selector",
                 "ceil(log2(k) / 3)", "Hamming distance: exclusive or, then count."},
    LatencyField{"select_similarity_cycles", &Latencies::select_similarity_cycles,
                 "candidate_selector", "", "Cosine table; multiply by the norm."},
    LatencyField{"select_compare_cycles", &Latencies::select_compare_cycles, "candidate_selector",
                 "", "Compare with the threshold and push into the queue."},
    LatencyField{"arbiter_cycles", &Latencies::arbiter_cycles, "candidate_arbiter", "",
                 "Pick the longest queue; exact mode: the next key."},
    LatencyField{"attention_read_cycles", &Latencies::attention_read_cycles, "attention_unit", "",
                 "Read the key."},
    LatencyField{"attention_dot_cycles", &Latencies::attention_dot_cycles, "attention_unit",
                 "1 + ceil(log2(d) / 2)", "Multiply with the query; add up."},
    LatencyField{"attention_exp_cycles", &Latencies::attention_exp_cycles, "attention_unit",
                 "3, and 1 with the mean row",
                 "Multiply by the constant; shift and clamp; table of powers of two; with the "
                 "mean row, multiply by the number of dropped keys."},
    LatencyField{"attention_accumulate_cycles", &Latencies::attention_accumulate_cycles,
                 "attention_unit", "",
                 "Compare exponents, and read the value; multiply it by the weight; align the "
                 "product; add it to the sums."},
    LatencyField{"division_merge_cycles", &Latencies::division_merge_cycles, "output_divider",
                 "2 + ceil(log2(P_a) / 2)",
                 "Find the largest exponent of the banks; align; add the banks' sums."},
    LatencyField{"division_reciprocal_cycles", &Latencies::division_reciprocal_cycles,
                 "output_divider", "", "Normalise the sum of exponentials; table of reciprocals."},
    LatencyField{"division_multiply_cycles", &Latencies::division_multiply_cycles, "output_divider",
                 "", "Multiply; round and saturate."},
    LatencyField{"division_write_cycles", &Latencies::division_write_cycles, "output_divider", "",
                 "Write m_o components to the output memory."},
};

}  // namespace

std::span<const LatencyField> LatencyFields() { return kFields; }

Latencies LatenciesOf(const Config& config) {
  const Derived derived = Derive(config);
  const auto shapes = HashShapes(config.hash, config.d, config.k);
  const auto factors = static_cast<std::int64_t>(shapes[0].factors.size());
  const bool mean_row = config.remainder == Remainder::kMean;
  const std::int64_t dot = 1 + CeilDiv(CeilLog2(config.d), kAdderLevels);

  Latencies l;
  l.command_cycles = 1;
  l.query_read_cycles = 2;
  l.hash_read_cycles = 1;
  l.hash_compute_cycles = std::max(derived.hash_cycles, factors);
  l.hash_write_cycles = 1;
  l.norm_multiply_cycles = dot;
  l.norm_sqrt_cycles = 4;
  l.norm_threshold_cycles = 2;
  l.mean_row_cycles = mean_row ? 3 : 0;
  l.select_read_cycles = 1;
  l.select_distance_cycles = std::max<std::int64_t>(1, CeilDiv(CeilLog2(config.k), kCounterLevels));
  l.select_similarity_cycles = 2;
  l.select_compare_cycles = 1;
  l.arbiter_cycles = 1;
  l.attention_read_cycles = 1;
  l.attention_dot_cycles = dot;
  l.attention_exp_cycles = mean_row ? 4 : 3;
  l.attention_accumulate_cycles = 4;
  l.division_merge_cycles = 2 + CeilDiv(CeilLog2(config.banks), kAdderLevels);
  l.division_reciprocal_cycles = 2;
  l.division_multiply_cycles = 2;
  l.division_write_cycles = 1;
  return l;
}

}  // namespace elsa
