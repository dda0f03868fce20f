// Exact attention of a few queries: keys and values are read once, in the order of addresses, and
// long ones are split into chunks that threads share. Internal to exact_attention.cc.
#ifndef ELSA_CPU_EXACT_STREAM_H_
#define ELSA_CPU_EXACT_STREAM_H_

#include <cstdint>
#include <span>

#include "elsa/cpu/exact_attention.h"

namespace elsa::cpu {

// The most queries with which reading keys and values in place is as fast as packing them. Our
// choice, measured.
inline std::int64_t MostStreamQueries(std::int64_t keys) {
  return keys < 256 ? 4 : keys < 2048 ? 6 : 10;
}

// As ExactAttention; `heads` that share a key head lie together. The call has 1 to
// MostStreamQueries queries.
void StreamAttention(const Call& call, std::span<const HeadItem> heads);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_EXACT_STREAM_H_
