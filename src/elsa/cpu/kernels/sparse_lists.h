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

typedef std::uint16_t Words8 __attribute__((vector_size(16)));

ELSA_INLINE Words8 Widen8(const std::uint8_t* from) {
#if defined(__AVX2__)
  return (Words8)_mm_cvtepu8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(from)));
#else
  typedef std::uint8_t Bytes8 __attribute__((vector_size(8)));
  Bytes8 bytes;
  std::memcpy(&bytes, from, sizeof(bytes));
  return __builtin_convertvector(bytes, Words8);
#endif
}

// The positions of the ones of `bits`, plus `base`, a byte at a time: no branches, which would be
// mispredicted for most words. Writes up to 8 behind the last.
ELSA_INLINE void ListWord(std::uint64_t bits, std::uint32_t base, std::uint16_t* to) {
  Words8 first = static_cast<std::uint16_t>(base) - Words8{};
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    const std::uint64_t byte = bits >> (8 * i) & 0xff;
    const Words8 entries = Widen8(kBytePositions.at[byte]) + first;
    std::memcpy(to, &entries, sizeof(entries));
    first += 8;
    to += __builtin_popcountll(byte);
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
  for (int w = 0; w < words; ++w) {
    ListWord(mask[w], static_cast<std::uint32_t>(w) * 64, list + start[w]);
  }
#endif
  std::memset(list + count, 0, kSparseGroup * sizeof(*list));
  return count;
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_SPARSE_LISTS_H_
