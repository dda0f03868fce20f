// Lists of candidates from masks.
#ifndef ELSA_CPU_KERNELS_SPARSE_LISTS_H_
#define ELSA_CPU_KERNELS_SPARSE_LISTS_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// The positions of the ones of `bits`, plus `base`. Eight at a time, whether there are as many or
// not: what is too much is overwritten later, and branches that depend on every bit are saved.
ELSA_INLINE void ListWord(std::uint64_t bits, int ones, std::uint32_t base, std::uint16_t* to) {
  for (int done = 0; done < ones; done += 8) {
    for (int i = 0; i < 8; ++i) {
      // The lowest bit alone must not be 0 here, or its position is undefined.
      to[done + i] = static_cast<std::uint16_t>(
          base + static_cast<std::uint32_t>(__builtin_ctzll(bits | (std::uint64_t{1} << 63))));
      bits &= bits - 1;
    }
  }
}

inline int List(const std::uint64_t* mask, int words, std::uint16_t* list, std::uint16_t* start) {
  int count = 0;
  for (int w = 0; w < words; ++w) {
    start[w] = static_cast<std::uint16_t>(count);
    const int ones = __builtin_popcountll(mask[w]);
    ListWord(mask[w], ones, static_cast<std::uint32_t>(w) * 64, list + count);
    count += ones;
  }
  start[words] = static_cast<std::uint16_t>(count);
  std::memset(list + count, 0, kSparseGroup * sizeof(*list));
  return count;
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_LISTS_H_
