// The hash of a query or key: factor after factor on integers, then signs. Source: Sec. III-C, Sec.
// IV-C "Hash Computation Module". The same order as reference/hash.h: the last factor first.
#ifndef ELSA_FIXED_HASH_UNIT_H_
#define ELSA_FIXED_HASH_UNIT_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

// The projections of a row with hash_stage_fraction_bits, k of them. Each sum is exact and then
// loses its low bits by floor; nothing overflows. A row has config.d components: the host spreads
// shorter ones.
std::vector<std::int64_t> Project(const Config& config, const HashRegisters& registers,
                                  std::span<const std::int16_t> row);

// Hash after hash, each of ceil(k / 64) words; bit i is 1 if projection i is >= 0.
// Shape: rows [count, config.d], packed.
std::vector<std::uint64_t> HashRows(const Config& config, const HashRegisters& registers,
                                    std::span<const std::int16_t> rows);

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_HASH_UNIT_H_
