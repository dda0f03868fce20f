// Kernels of sparse attention: lists of candidates, scores of gathered rows, softmax, weighted
// sums. Source: Sec. III-D. Work comes in tiles of queries and super-blocks of keys; inside, keys
// and values are swept in blocks for all queries of the tile, so that gathered rows stay in the L1
// or L2 cache.
#ifndef ELSA_CPU_KERNELS_SPARSE_H_
#define ELSA_CPU_KERNELS_SPARSE_H_

#include <cstddef>
#include <cstdint>

#include "elsa/cpu/kernels/exact.h"

namespace elsa::cpu {

// Lists are read in groups of this many and scores written so: room behind the last is needed.
inline constexpr int kSparseGroup = 32;

// The components that a row of `d` is padded to with zeros; the kernels are unrolled for those up
// to 128.
inline constexpr int PaddedComponents(int d) {
  constexpr int kTuned[] = {32, 64, 80, 96, 128};
  for (int tuned : kTuned) {
    if (d <= tuned) return tuned;
  }
  return (d + 31) / 32 * 32;
}

// Fixed point of 16 bits (kernels/sparse_int16.h). Norms of rows: the product of a key's and a
// query's, with the rounding of 256 components, stays below 2^31. Components, weights, values: what
// int16 holds, and so that kWeightsAtOnce products of weights and values stay below 2^31.
inline constexpr float kKeyNorm = 32767;
inline constexpr float kQueryNorm = 65000;
inline constexpr float kRowLargest = 32767;
inline constexpr float kWeightOne = 16384;
inline constexpr float kValueLargest = 4095;
inline constexpr int kWeightsAtOnce = 32;
// Weights that sum to less, of 32768 keys at most, which rounding may raise by half a unit each, do
// not exceed that many whole ones.
inline constexpr float kSafeWeights = 31;
inline constexpr float kKey8Largest = 127;

// A tile: `queries` queries against one super-block of `words` * 64 keys, 65536 at most.
struct SparseTile {
  int queries;
  int d;    // components of a key row, padded
  int d_v;  // components of a value row, padded
  int words;
  int key_block;    // words of keys whose rows are swept together
  int value_block;  // the same for values
  bool prefetch;    // fetch the next block's rows into the L2 cache: they come from further away

  const float* query;  // [queries][d], times scale * log2(e): scores are powers of 2
  const float* key;    // [words * 64][d], the first row of the super-block; aligned
  const float* value;  // [words * 64][d_v]
  // The same in fixed point, for the kernels on 16 bits.
  const std::int16_t* query16;
  const float* query_factor;  // [queries]: integer products times this are scores
  const std::int16_t* key16;
  const std::int16_t* value16;  // as quantize_values stores them
  // Keys and queries in 8 bits, for scores8.
  int d8;  // components of a row, padded
  const std::int8_t* query8;
  const float* query_offset;  // [queries]: added to the integer products first
  const std::uint8_t* key8;   // as quantize_keys8 stores them

  // What belongs to a query begins at offset[query] in list and score, a multiple of kSparseGroup.
  std::ptrdiff_t* offset;  // [queries]
  std::uint16_t* list;     // candidates, counted from the start of the super-block
  std::uint16_t* start;    // [queries][words + 1]: where in its list each word's keys begin
  float* score;            // scores, then weights
  float* weights;          // [queries]: the sum of a query's weights in this super-block
  // Running softmax of each query, over the super-blocks so far: largest score, sum of weights
  // relative to it, weighted sum of values [queries][d_v].
  float* largest;
  float* sum;
  float* out;  // on 16 bits: in units of weights and values
};

// How large rows are.
struct SparseExtent {
  float largest_square;  // of the norms
  float largest;         // of the components
  float total;           // of all squares: not finite if any element is not
};

// Rows of a tensor, to be packed as [count][padded].
struct SparseRows {
  const std::byte* from;
  std::ptrdiff_t stride;  // bytes from row to row
  Element element;
  int count;
  int d;
  int padded;   // components that are written; zeros from d on
  float scale;  // every element is multiplied by this

  // `rows` of them from `first` on.
  __attribute__((always_inline)) SparseRows Part(int first, int rows) const {
    return {from + first * stride, stride, element, rows, d, padded, scale};
  }
};

struct SparseKernels {
  void (*pack)(const SparseRows& rows, float* to);
  // Writes the positions of the ones of mask[0, words), ascending, kSparseGroup zeros behind them,
  // and start[0, words]. Returns their number.
  int (*list)(const std::uint64_t* mask, int words, std::uint16_t* list, std::uint16_t* start);
  // score = query . key for all candidates, and for the few zeros behind them.
  void (*scores)(const SparseTile& tile);
  // Scores to weights exp2(score - largest); rescales the running sums.
  void (*softmax)(const SparseTile& tile);
  // out += weights * values.
  void (*values)(const SparseTile& tile);

  // The same in fixed point.
  void (*scores16)(const SparseTile& tile);
  void (*softmax16)(const SparseTile& tile);
  void (*values16)(const SparseTile& tile);
  // Scores from 8 bits, and their rows of `padded` bytes, a multiple of 32; null: the target has no
  // instructions for them. Components of keys are at most kKey8Largest after scaling.
  void (*scores8)(const SparseTile& tile);
  void (*quantize_keys8)(const SparseRows& rows, int padded, std::uint8_t* to);
  void (*quantize_queries8)(const float* rows, int count, int d, int padded, std::int8_t* to,
                            float* factor, float* offset);
  // What the padded d_v of the rows of 16-bit values is a multiple of.
  int value_multiple16;
  SparseExtent (*extent)(const SparseRows& rows);  // before scaling
  void (*quantize_rows)(const SparseRows& rows, std::int16_t* to);
  void (*quantize_values)(const SparseRows& rows, std::int16_t* to);
  // Queries that are packed in binary32, and what their integer products are multiplied by.
  void (*quantize_queries)(const float* rows, int count, int d, std::int16_t* to, float* factor);

  // sum[padded] += rows, before scaling
  void (*add_rows)(const SparseRows& rows, double* sum);
  void (*scale_sums)(const double* from, double factor, int count, float* to);
  void (*scale_row)(const float* from, float factor, int count, float* to);
  // The same, to elements of a tensor.
  void (*store_row)(const float* from, float factor, int count, Element element, std::byte* to);
  float (*dot)(const float* a, const float* b, int count);  // count: a multiple of 16
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_SPARSE_H_
