// Lists of candidates from masks.
#ifndef ELSA_CPU_KERNELS_SPARSE_LISTS_H_
#define ELSA_CPU_KERNELS_SPARSE_LISTS_H_

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// The positions of the ones of every byte, lowest first.
struct BytePositions {
  std::uint8_t at[256][8];
};

constexpr BytePositions MakeBytePositions() {
  BytePositions table{};
  for (int byte = 0; byte < 256; ++byte) {
    int count = 0;
    for (int bit = 0; bit < 8; ++bit) {
      if ((byte >> bit & 1) != 0) table.at[byte][count++] = static_cast<std::uint8_t>(bit);
    }
  }
  return table;
}

alignas(64) inline constexpr BytePositions kBytePositions = MakeBytePositions();

struct Numbers {
  std::uint8_t at[64];
};

constexpr Numbers MakeNumbers() {
  Numbers numbers{};
  for (int i = 0; i < 64; ++i) numbers.at[i] = static_cast<std::uint8_t>(i);
  return numbers;
}

alignas(64) inline constexpr Numbers kNumbers = MakeNumbers();

typedef std::uint8_t Bytes8 __attribute__((vector_size(8)));
typedef std::uint16_t Words8 __attribute__((vector_size(16)));

// The positions of the ones of `bits`, plus `base`, a byte at a time: no branches. Writes up to 8
// behind the last.
ELSA_INLINE void ListDense(std::uint64_t bits, std::uint32_t base, std::uint16_t* to) {
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t byte = bits >> (8 * i) & 0xff;
    Bytes8 positions;
    std::memcpy(&positions, kBytePositions.at[byte], 8);
    const Words8 entries = __builtin_convertvector(positions, Words8) +
                           static_cast<std::uint16_t>(base + static_cast<std::uint32_t>(8 * i));
    std::memcpy(to, &entries, sizeof(entries));
    to += __builtin_popcountll(byte);
  }
}

// The position of the lowest one; anything without one.
ELSA_INLINE std::uint32_t LowestOne(std::uint64_t bits) {
#if defined(__BMI__)
  return static_cast<std::uint32_t>(_tzcnt_u64(bits));
#else
  // With the highest bit the argument is never 0, whose count is undefined.
  return static_cast<std::uint32_t>(__builtin_ctzll(bits | std::uint64_t{1} << 63));
#endif
}

// The same for few ones. kStep at a time, whether there are as many or not: what is too much is
// overwritten later, and a branch for every one is saved.
template <int kStep>
ELSA_INLINE void ListFew(std::uint64_t bits, int ones, std::uint32_t base, std::uint16_t* to) {
  for (int done = 0; done < ones; done += kStep) {
    for (int i = 0; i < kStep; ++i) {
      to[done + i] = static_cast<std::uint16_t>(base + LowestOne(bits));
      bits &= bits - 1;
    }
  }
}

template <int kStep>  // 0: dense
ELSA_INLINE void ListWords(const std::uint64_t* mask, int words, const std::uint16_t* start,
                           std::uint16_t* list) {
  for (int w = 0; w < words; ++w) {
    const std::uint32_t base = static_cast<std::uint32_t>(w) * 64;
    if constexpr (kStep == 0) {
      ListDense(mask[w], base, list + start[w]);
    } else {
      ListFew<kStep>(mask[w], start[w + 1] - start[w], base, list + start[w]);
    }
  }
}

#if defined(__AVX512VBMI2__)

// Bytes 0 to 63, packed by the mask itself. Writes up to 32 behind the last.
ELSA_INLINE void ListCompressed(std::uint64_t bits, int ones, std::uint32_t base,
                                std::uint16_t* to) {
  const __m512i numbers = _mm512_load_si512(kNumbers.at);
  const __m512i positions = _mm512_maskz_compress_epi8(bits, numbers);
  const __m512i offset = _mm512_set1_epi16(static_cast<std::int16_t>(base));
  _mm512_storeu_si512(
      to, _mm512_add_epi16(_mm512_cvtepu8_epi16(_mm512_castsi512_si256(positions)), offset));
  if (ones <= 32) return;
  const __m256i rest = _mm512_extracti64x4_epi64(positions, 1);
  _mm512_storeu_si512(to + 32, _mm512_add_epi16(_mm512_cvtepu8_epi16(rest), offset));
}

#endif

inline int List(const std::uint64_t* mask, int words, std::uint16_t* list, std::uint16_t* start) {
  int count = 0;
  for (int w = 0; w < words; ++w) {
    start[w] = static_cast<std::uint16_t>(count);
    count += __builtin_popcountll(mask[w]);
  }
  start[words] = static_cast<std::uint16_t>(count);
#if defined(__AVX512VBMI2__)
  for (int w = 0; w < words; ++w) {
    ListCompressed(mask[w], start[w + 1] - start[w], static_cast<std::uint32_t>(w) * 64,
                   list + start[w]);
  }
#else
  // The switch points were measured on a Zen 3.
  if (count < 5 * words) {
    ListWords<4>(mask, words, start, list);
  } else if (count < 12 * words) {
    ListWords<8>(mask, words, start, list);
  } else {
    ListWords<0>(mask, words, start, list);
  }
#endif
  std::memset(list + count, 0, kSparseGroup * sizeof(*list));
  return count;
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_LISTS_H_
