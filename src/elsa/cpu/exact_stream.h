// Exact attention of a few queries: keys and values are read once, in the order of addresses, and
// long ones are split into chunks that threads share. Internal to exact_attention.cc.
#ifndef ELSA_CPU_EXACT_STREAM_H_
#define ELSA_CPU_EXACT_STREAM_H_

#include <cstdint>
#include <span>

#include "elsa/cpu/exact_attention.h"

namespace elsa::cpu {

// Our choice, measured: from here on packing keys and values pays.
inline constexpr std::int64_t kMostStreamQueries = 4;

// As ExactAttention; `heads` that share a key head lie together. The call has 1 to
// kMostStreamQueries queries.
void StreamAttention(const Call& call, std::span<const HeadItem> heads);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_EXACT_STREAM_H_
