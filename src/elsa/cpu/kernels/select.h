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

// A hash of `d` components into k bits, taken of rows of `components` <= d values, which go to
// `positions` (the rest is zero).
struct HashView {
  bool hadamard;
  std::int64_t d;
  std::int64_t k;
  std::int64_t components;
  const std::int32_t* positions;
  const HashBatchView* batches;
  std::int64_t batch_count;

  std::int64_t words() const { return (k + 63) / 64; }  // of one hash
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
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_SELECT_H_
