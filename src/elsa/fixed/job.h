// One attention operation of one head as the host hands it to an accelerator: integers in the
// machine's formats, and the constants that it loads. Source: Sec. IV-B (the host's command), Sec.
// IV-E (formats). How floating-point tensors and a plan become jobs: elsa/fixed/host.h.
#ifndef ELSA_FIXED_JOB_H_
#define ELSA_FIXED_JOB_H_

#include <cstdint>
#include <vector>

namespace elsa::fixed {

// The factors of one batch of hash bits as integers, first factor first, each row-major.
struct HashFactor {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<std::int32_t> values;  // value * 2^hash_fraction_bits
};
struct HashRegisters {
  std::vector<std::vector<HashFactor>> batches;
  std::vector<std::int64_t> bits;  // of each batch
};

// A positive constant c = mantissa * 2^exponent that the machine multiplies by: an integer of a few
// significant bits, and a shift.
struct ScoreConstant {
  std::int64_t mantissa = 0;
  std::int64_t exponent = 0;
};

struct Job {
  std::int64_t queries = 0;  // real ones; padding never reaches the machine
  std::int64_t keys = 0;
  // Components of a query and key. Exact: at most the machine's; otherwise the machine's, the host
  // having spread shorter vectors over the hash's columns (InputPositions).
  std::int64_t d = 0;
  std::int64_t d_v = 0;          // components of a value
  bool causal = false;           // query i sees keys 0 to i
  bool exact = false;            // no preprocessing, no selection: every visible key
  std::int64_t exact_below = 0;  // queries that see fewer keys than this keep all they see

  // Rows in the format of Q, K and V: value * 2^(qkv_fraction_bits + shift), shift 0 if the host
  // does not scale. Shapes: query [queries, d], key [keys, d], value [keys, d_v].
  std::vector<std::int16_t> query;
  std::vector<std::int16_t> key;
  std::vector<std::int16_t> value;
  std::int64_t query_shift = 0;
  std::int64_t key_shift = 0;
  std::int64_t value_shift = 0;
  // A stored norm is |key| (of the scaled key) * 2^norm_shift, rounded and saturated.
  std::int64_t norm_shift = 0;

  // y = dot product of integers * constant is the score times log2(e); score_constant_bits
  // significant bits.
  ScoreConstant score_constant;
  std::int64_t threshold = 0;         // t * 2^threshold_fraction_bits
  std::vector<std::int32_t> cosines;  // k + 1 entries * 2^cosine_fraction_bits
  HashRegisters hash;
  // A query that drops keys also attends to the mean row (docs/reference/mean-row.md). Never with
  // `causal` or `exact`. The constant is 1 / keys.
  bool mean_row = false;
  ScoreConstant mean_constant;

  // Keys that query i sees: the first ones.
  std::int64_t Visible(std::int64_t query_index) const {
    return causal && query_index + 1 < keys ? query_index + 1 : keys;
  }
};

// Which keys each query keeps: the outcome of selection, whatever the time it took.
struct Candidates {
  std::int64_t words = 0;  // per query: ceil(keys / 64)
  // Bit key % 64 of word key / 64 is 1 if the test keeps the key. Shape [queries, words].
  std::vector<std::uint64_t> bits;
  // The key that a query keeps for want of any that the test keeps, or -1. Not in `bits`.
  std::vector<std::int32_t> fallback;

  bool Kept(std::int64_t query, std::int64_t key) const {
    return (bits[query * words + key / 64] >> (key % 64) & 1) != 0;
  }
};

// The order in which each bank's attention module takes its candidates. Sums are rounded, so
// that order shows in the last bits. Fallback keys are included, the mean row is not (it always
// comes last, in the last bank).
struct IssueOrder {
  std::vector<std::int32_t> keys;
  std::vector<std::int64_t> begin;  // [queries * banks + 1]: bank b of query i owns
                                    // keys[begin[i * banks + b]] to keys[begin[i * banks + b + 1]]
};

// Where the key lies: banks are interleaved, so that short inputs fill them evenly (Our choice; the
// paper says only that each bank has n/P_a keys).
inline std::int64_t BankOf(std::int64_t key, std::int64_t banks) { return key % banks; }
inline std::int64_t RowOf(std::int64_t key, std::int64_t banks) { return key / banks; }
// Keys of `bank` among the first `keys`.
inline std::int64_t RowsOf(std::int64_t bank, std::int64_t keys, std::int64_t banks) {
  return (keys - bank + banks - 1) / banks;
}

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_JOB_H_
