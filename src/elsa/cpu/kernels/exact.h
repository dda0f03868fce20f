// Kernels of exact attention: one tile of queries against one block of keys at a time. Source: Sec.
// II-A. exact_attention.cc drives them; it knows about heads, masks and threads, these do not.
//
// A tile is up to `tile_rows` queries of one head. Queries, keys and values are packed first:
// transposed (queries, keys) or cut into columns (values), so that the inner loops read memory in
// order. Scores are in units of log2: exp(x) is computed as 2^x.
#ifndef ELSA_CPU_KERNELS_EXACT_H_
#define ELSA_CPU_KERNELS_EXACT_H_

#include <cstddef>
#include <cstdint>

namespace elsa::cpu {

// The element types of tensors, in the order of DType.
enum class Element : std::uint8_t { kF32, kF16, kBf16 };

// Rows of a tensor. Only the alignment of an element is assumed.
struct ElementRows {
  const std::byte* data;
  std::int64_t stride;  // bytes from row to row
  Element element;
};

// What the softmax of a tile is made of: per row the largest score so far and the sum of weights
// relative to it, and the factor that brings older sums to the new largest score.
struct TileState {
  float* largest;
  float* sum;
  float* correction;
};

// One element per key: masks and biases of one query. A null pointer means absent.
struct KeyBias {
  const std::uint8_t* mask;  // 0 hides the key
  std::int64_t mask_stride;  // in elements
  const std::byte* bias;
  std::int64_t bias_stride;  // in elements
  Element element;
};

// How much of a block a query sees.
enum class Seen { kNothing, kSome, kAllUnbiased };

struct ExactKernels {
  int tile_rows;   // the most rows of a tile
  int panel_keys;  // `scores` writes multiples of this many keys, at most
  int lanes;       // rows of the output sums are padded to multiples of this

  // Bytes of packed queries (a tile), keys and values.
  std::int64_t (*query_bytes)(int d);
  std::int64_t (*key_bytes)(std::int64_t keys, int d);
  std::int64_t (*value_bytes)(std::int64_t keys, int d_v);

  // Packs up to tile_rows queries times `scale`; rows that are missing become zeros.
  void (*pack_queries)(const ElementRows& rows, int count, int d, double scale, void* packed);
  void (*pack_keys)(const ElementRows& rows, std::int64_t count, int d, void* packed);
  // Numbers that are not finite are packed as 0; returns whether there was none.
  bool (*pack_values)(const ElementRows& rows, std::int64_t count, int d_v, void* packed);

  // scores[i * stride + j] for rows i and j < visible[i] (more is written, up to whole panels).
  // `first` is the block's first key within the packed ones, a multiple of panel_keys. visible[]
  // must not fall from row to row.
  void (*scores)(const void* queries, const void* keys, std::int64_t first, int rows,
                 const int* visible, int d, float* scores, std::int64_t stride);

  // addend[j] = bias[j] in units of log2, -infinity where key j is hidden (masked, or its bias is
  // <= lowest). kAllUnbiased: no key is hidden and none has a bias, nothing needs to be added.
  Seen (*make_addend)(const KeyBias& of, std::int64_t count, float lowest, float* addend);
  // scores[j] += addend[j], whatever the score of a hidden key.
  void (*add)(const float* addend, int count, float* scores);

  // Turns scores into weights relative to the largest score so far, in place; 0 from visible[i] on,
  // as far as `accumulate` reads. `begin`: nothing came before.
  void (*softmax)(float* scores, std::int64_t stride, int rows, const int* visible, bool begin,
                  const TileState& state);
  // The weight of a row's key, after softmax.
  float (*weight)(const float* scores, std::int64_t key);

  // sums[i * sum_stride + c] = sums * correction + weights * values. `packed_keys`: how many were
  // packed with the values, the block begins at the `first` of them.
  void (*accumulate)(const float* weights, std::int64_t stride, const void* values,
                     std::int64_t packed_keys, std::int64_t first, int rows, const int* visible,
                     int d_v, bool begin, const float* correction, float* sums,
                     std::int64_t sum_stride);

  // For few queries: keys and values as they lie in memory, in the order of addresses.
  // queries [rows][query_stride] are packed by stream_queries. scores[i * stride + j] for
  // j < count.
  std::int64_t query_stride;
  void (*stream_queries)(const ElementRows& rows, int count, int d, double scale, float* packed);
  void (*stream_scores)(const float* queries, int rows, const ElementRows& keys, int count, int d,
                        float* scores, std::int64_t stride);
  // sums[i] = sums * correction + weights x values over keys j < visible[i]. Keys whose addend is
  // -infinity are skipped; addend i is null or at addends + i * addend_stride.
  void (*stream_accumulate)(const float* weights, std::int64_t stride, const float* addends,
                            std::int64_t addend_stride, const ElementRows& values, int rows,
                            const int* visible, int d_v, const float* correction, float* sums,
                            std::int64_t sum_stride);

  // to[c] = sums[c] / sum, as an element.
  void (*write_row)(const float* sums, int d_v, float sum, Element element, std::byte* to);

  // The same with products of bfloat16 (keys, values and weights are packed as such), null where
  // that is not faster. Streaming is in binary32 all the same: pass weights of binary32.
  const ExactKernels* bf16;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_EXACT_H_
