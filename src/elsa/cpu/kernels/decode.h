// Kernels of decode: softmax over listed rows of a cache, each read once, for a few queries.
#ifndef ELSA_CPU_KERNELS_DECODE_H_
#define ELSA_CPU_KERNELS_DECODE_H_

#include <cstddef>
#include <cstdint>

namespace elsa::cpu {

// The most queries of one call: they share every row that is read.
inline constexpr int kDecodeQueries = 4;

// Keys and values of one slab: row j is key then value, each zero-padded to a multiple of 16
// components.
struct DecodeRows {
  const std::byte* data;
  int dtype;  // static_cast<int>(DType)
  std::int64_t row_bytes;
  std::int64_t value_bytes;  // from the start of a row to its value
  std::int64_t d;            // padded
  std::int64_t d_v;          // padded
};

struct DecodeKeys {
  const std::uint32_t* list;  // [count]; null: keys first, first + 1, ...
  std::int64_t first;
  std::int64_t count;  // 0 or more
  std::int64_t ahead;  // entries after the last that may be fetched into the cache meanwhile
};

// One query, and its softmax under way: sum and values are relative to 2^peak.
struct DecodePart {
  const float* query;  // [d padded], scaled so that q . k is the exponent of a power of two
  const float* bias;   // of each key of the list, likewise; null: none
  float peak;          // -infinity at first
  float sum;           // 0 at first
  float* values;       // [d_v padded], zeros at first
};

struct DecodeKernels {
  // Adds the keys to the softmax of 1 to kDecodeQueries queries.
  void (*attend)(const DecodeRows& rows, const DecodeKeys& keys, DecodePart* parts, int queries);

  // Writes the positions of the ones of mask [words], ascending; returns how many. `keys` has room
  // for 64 per word.
  std::int64_t (*list)(const std::uint64_t* mask, std::int64_t words, std::uint32_t* keys);
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KERNELS_DECODE_H_
