// Kernels of selection: hashes and norms of rows, cut-offs, and filters. Every one gives the bits
// of elsa/reference: binary32, each operation rounded, sums in the reference's order. Source: Sec.
// III-B to III-D.
#ifndef ELSA_CPU_KERNELS_SELECT_H_
#define ELSA_CPU_KERNELS_SELECT_H_

#include <cstddef>
#include <cstdint>

namespace elsa::cpu {

// A factor of a hash, row-major; for a Hadamard hash one row of signs.
struct HashFactor {
  const float* values;
  std::int64_t rows;
  std::int64_t cols;
};

struct HashBatchView {
  std::int64_t bits;
  const HashFactor* factors;
  std::int64_t factor_count;
};

// A hash of `d` components into k bits, taken of rows of `components` <= d values: component c is
// component positions[c] (null: c) of what is hashed, the rest is zero.
struct HashView {
  bool hadamard;
  std::int64_t d;
  std::int64_t k;
  std::int64_t components;
  const std::int32_t* positions;
  const HashBatchView* batches;
  std::int64_t batch_count;

  // Words of one hash. Always inline: kernels of every target use it.
  __attribute__((always_inline)) std::int64_t words() const { return (k + 63) / 64; }
};

// Rows of a tensor: values adjacent, rows `stride` elements apart.
struct RowsView {
  const std::byte* data;
  int dtype;  // static_cast<int>(DType)
  std::int64_t stride;
  std::int64_t count;
};

struct SelectKernels {
  // Floats of scratch that hash_rows needs, aligned to 64 bytes.
  std::int64_t (*hash_scratch)(const HashView& hash);

  // Hashes and norms (null: not wanted) of rows, each minus `origin` [components] unless null. A
  // call has the cost of a few dozen rows or more: give it all rows at hand at once, as the queries
  // of several heads. Shapes: bits [count, words()], bit i of a hash is bit i % 64 of word i / 64;
  // norms [count].
  void (*hash_rows)(const HashView& hash, const RowsView& rows, const float* origin, float* scratch,
                    std::uint64_t* bits, float* norms);

  // For each key the largest h with norm * cosines[h] > cut, -1 if none; k if the norm is not
  // finite. `cut` is t * K_max. Shapes: cosines [k + 1], never rising.
  void (*cut_offs)(const float* norms, std::int64_t count, const float* cosines, std::int64_t k,
                   float cut, std::int16_t* cut_offs);

  // Bit j of mask: hamming(query, key j) <= cut_offs[j]. Bits from count to the end of the last
  // word are 0. Shapes: query [words], keys [count, words], mask [ceil(count / 64)].
  void (*filter_rows)(const std::uint64_t* query, const std::uint64_t* keys,
                      const std::int16_t* cut_offs, std::int64_t count, std::int64_t words,
                      std::uint64_t* mask);

  // similarities[j] = norms[j] * cosines[hamming(query, key j)].
  void (*similarities)(const std::uint64_t* query, const std::uint64_t* keys, const float* norms,
                       const float* cosines, std::int64_t count, std::int64_t words,
                       float* similarities);

  // ---- the bit-sliced filter: bit_filter.h ----

  // Keys of a block, 64 or more.
  std::int64_t block_keys;
  // The sizes of what the functions below write, for hashes of k bits. table_bytes is 0 if k is too
  // long for them: then filter_rows serves. Pointers are aligned to 64 bytes. A query's patterns
  // are `patterns` numbers of 16 bits; 15 numbers more are written after the last.
  struct FilterSizes {
    std::int64_t table_bytes;  // of one block
    std::int64_t limit_bytes;  // of one block
    std::int64_t patterns;     // of one query
  };
  FilterSizes (*filter_sizes)(std::int64_t k);
  // The table of `count` <= block_keys hashes.
  void (*build_table)(const std::uint64_t* bits, std::int64_t count, std::int64_t k,
                      std::byte* table);
  // The limits of a block, from cut_offs; keys from count on are never kept.
  void (*build_limits)(const std::int16_t* cut_offs, std::int64_t count, std::int64_t k,
                       std::byte* limits);
  void (*query_patterns)(const std::uint64_t* bits, std::int64_t count, std::int64_t k,
                         std::uint16_t* patterns);
  // For each query the block_keys bits of one block: hamming(query, key) <= cut-off. Query i's go
  // to masks + i * stride.
  void (*filter_block)(const std::byte* table, const std::byte* limits,
                       const std::uint16_t* patterns, std::int64_t queries, std::int64_t k,
                       std::uint64_t* masks, std::int64_t stride);

  // ---- tests on scores: score_test.h; masks of `count` bits, the rest of the last word 0 ----

  // scores[j] = scale * similarities[j] (+ bias[j] unless null). May work in place.
  void (*scores)(const float* similarities, float scale, const float* bias, std::int64_t count,
                 float* scores);
  // scale * (similarities[j] - cut) + bias[j] > 0
  void (*bias_test)(const float* similarities, float scale, float cut, const float* bias,
                    std::int64_t count, std::uint64_t* mask);
  // best - scores[j] < limit
  void (*gap_test)(const float* scores, float best, float limit, std::int64_t count,
                   std::uint64_t* mask);
  // The first of the largest values among the chosen ones; the very first of them if that is NaN;
  // -1 if there is none.
  std::int64_t (*first_largest)(const float* values, const std::uint64_t* chosen,
                                std::int64_t count);
  // mask[j] != 0
  void (*mask_bits)(const std::uint8_t* mask, std::int64_t count, std::uint64_t* bits);
  // `count` adjacent values as binary32.
  void (*widen_row)(const std::byte* row, int dtype, std::int64_t count, float* to);
  // not values[j] <= limit
  void (*above_bits)(const float* values, float limit, std::int64_t count, std::uint64_t* bits);
  // Clears the bits of `words` words from `end` on, and those not in `visible` unless that is null.
  // Returns how many ones are left.
  std::int64_t (*keep_visible)(std::uint64_t* mask, const std::uint64_t* visible, std::int64_t end,
                               std::int64_t words);
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_SELECT_H_
