// The tables of the bit-sliced filter (bit_filter.h): planes of key hashes, of cut-offs, and the
// patterns of queries. Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_BIT_TABLES_H_
#define ELSA_CPU_KERNELS_BIT_TABLES_H_

#include "elsa/cpu/kernels/bit_filter.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

typedef std::uint64_t U64 __attribute__((vector_size(4 * kLanes)));
inline constexpr int kLanes64 = kLanes / 2;

// Turns the 64 x 64 bits in every lane: bit i of x[b] becomes what bit b of x[i] was.
ELSA_INLINE void TurnBits(U64* x) {
  std::uint64_t mask = 0xffffffff;
  for (int j = 32; j > 0; j /= 2, mask ^= mask << j) {
    for (int i = 0; i < 64; i = ((i | j) + 1) & ~j) {
      const U64 swap = ((x[i] >> j) ^ x[i | j]) & mask;
      x[i] ^= swap << j;
      x[i | j] ^= swap;
    }
  }
}

// The planes of `count` <= kBlockKeys hashes: bit j of plane b is bit b of key j.
inline void KeyPlanes(const std::uint64_t* bits, std::int64_t count, std::int64_t words,
                      std::int64_t planes, U64* out) {
  for (std::int64_t w = 0; w * 64 < planes; ++w) {
    U64 x[64] = {};
    for (std::int64_t j = 0; j < count && w < words; ++j) x[j % 64][j / 64] = bits[j * words + w];
    TurnBits(x);
    const std::int64_t left = planes - 64 * w;
    std::memcpy(out + 64 * w, x, static_cast<std::size_t>(left < 64 ? left : 64) * sizeof(U64));
  }
}

ELSA_INLINE void StorePlane(std::byte* to, std::int64_t index, U64 x) {
  std::memcpy(to + index * kVectorBytes, &x, sizeof(x));
}

// For every group and pattern: the sum and the carry of the three bits' differences.
template <int kBits>
void BuildTableOf(const std::uint64_t* bits, std::int64_t count, std::int64_t words,
                  std::byte* table) {
  using Shape = FilterShape<kBits>;
  U64 planes[kBits];
  KeyPlanes(bits, count, words, kBits, planes);
  for (int g = 0; g < Shape::kGroups; ++g) {
    const U64 a = planes[3 * g];
    const U64 b = planes[3 * g + 1];
    const U64 c = planes[3 * g + 2];
    const U64 sum = a ^ b ^ c;
    for (int p = 0; p < 4; ++p) {
      const U64 x = (p & 1) != 0 ? ~a : a;
      const U64 y = (p & 2) != 0 ? ~b : b;
      const U64 carry = (x & y) | ((x ^ y) & c);
      const bool odd = p == 1 || p == 2;
      // The opposite pattern has the opposite sum and carry.
      StorePlane(table, 16 * g + 2 * p, odd ? ~sum : sum);
      StorePlane(table, 16 * g + 2 * p + 1, carry);
      StorePlane(table, 16 * g + 2 * (7 - p), odd ? sum : ~sum);
      StorePlane(table, 16 * g + 2 * (7 - p) + 1, ~carry);
    }
  }
  for (int r = 0; r < Shape::kRest; ++r) {
    const U64 plane = planes[3 * Shape::kGroups + r];
    StorePlane(table, 16 * Shape::kGroups + 2 * r, plane);
    StorePlane(table, 16 * Shape::kGroups + 2 * r + 1, ~plane);
  }
}

// Bit `bit` of each of 64 bytes.
ELSA_INLINE std::uint64_t GatherBits(const std::uint8_t* bytes, int bit) {
#if defined(__AVX512BW__)
  const __m512i x = _mm512_loadu_si512(bytes);
  return _mm512_movepi8_mask(_mm512_sll_epi16(x, _mm_cvtsi32_si128(7 - bit)));
#elif defined(__AVX2__)
  const __m128i shift = _mm_cvtsi32_si128(7 - bit);
  const __m256i low = _mm256_loadu_si256((const __m256i*)bytes);
  const __m256i high = _mm256_loadu_si256((const __m256i*)(bytes + 32));
  const auto a = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_sll_epi16(low, shift)));
  const auto b = static_cast<std::uint32_t>(_mm256_movemask_epi8(_mm256_sll_epi16(high, shift)));
  return a | std::uint64_t{b} << 32;
#else
  std::uint64_t bits = 0;
  for (int i = 0; i < 8; ++i) {
    std::uint64_t x;
    std::memcpy(&x, bytes + 8 * i, sizeof(x));
    x = (x >> bit) & 0x0101010101010101;
    bits |= (x * 0x0102040810204080) >> 56 << (8 * i);
  }
  return bits;
#endif
}

// The planes of kBits - 1 - cut-off, then: may be kept at all, is kept whatever the distance. Keys
// from count on are never kept.
template <int kBits>
void BuildLimitsOf(const std::int16_t* cut_offs, std::int64_t count, std::int64_t k,
                   std::byte* limits) {
  constexpr int kLevels = FilterShape<kBits>::kLevels;
  std::uint64_t planes[kLevels + 2][kLanes64] = {};
  for (std::int64_t first = 0; first < count; first += 64) {
    std::int16_t cut[64];
    std::memset(cut, -1, sizeof(cut));
    const std::int64_t left = count - first < 64 ? count - first : 64;
    std::memcpy(cut, cut_offs + first, static_cast<std::size_t>(left) * sizeof(cut[0]));
    std::uint8_t start[64];
    std::uint8_t flags[64];
    for (int j = 0; j < 64; ++j) {
      start[j] = static_cast<std::uint8_t>(kBits - 1 - cut[j]);
      flags[j] = static_cast<std::uint8_t>((cut[j] >= 0 ? 1 : 0) | (cut[j] >= k ? 2 : 0));
    }
    const std::int64_t word = first / 64;
    for (int l = 0; l < kLevels; ++l) planes[l][word] = GatherBits(start, l);
    planes[kLevels][word] = GatherBits(flags, 0);
    planes[kLevels + 1][word] = GatherBits(flags, 1);
  }
  std::memcpy(limits, planes, sizeof(planes));
}

// Where a query's patterns lie in the table: bytes from the start of each group. Writes up to 15
// numbers beyond the last query's.
template <int kBits>
void QueryPatternsOf(const std::uint64_t* bits, std::int64_t count, std::int64_t words,
                     std::uint16_t* patterns) {
  using Shape = FilterShape<kBits>;
  constexpr int kWords = (kBits + 63) / 64;
  for (std::int64_t q = 0; q < count; ++q) {
    std::uint64_t x[kWords + 1] = {};
    for (std::int64_t w = 0; w < words; ++w) x[w] = bits[q * words + w];
    std::uint16_t* to = patterns + q * Shape::kPatterns;
#if defined(__AVX2__)
    // 16 groups are 6 bytes. Each gets the two bytes that hold it, moved to where bit 7 begins.
    const __m256i bytes = _mm256_setr_epi8(0, 1, 0, 1, 0, 1, 1, 2, 1, 2, 1, 2, 2, 3, 2, 3, 3, 4, 3,
                                           4, 3, 4, 4, 5, 4, 5, 4, 5, 5, 6, 5, 6);
    const __m256i shifts =
        _mm256_setr_epi16(128, 16, 2, 64, 8, 1, 32, 4, 128, 16, 2, 64, 8, 1, 32, 4);
    for (int v = 0; 16 * v < Shape::kGroups; ++v) {
      std::int64_t part;
      std::memcpy(&part, reinterpret_cast<const std::byte*>(x) + 6 * v, sizeof(part));
      const __m256i window = _mm256_shuffle_epi8(_mm256_set1_epi64x(part), bytes);
      const __m256i moved = _mm256_mullo_epi16(window, shifts);
      const __m256i at = kVectorBytes == 64 ? moved : _mm256_srli_epi16(moved, 1);
      const __m256i pattern = _mm256_and_si256(at, _mm256_set1_epi16(7 * 2 * kVectorBytes));
      _mm256_storeu_si256((__m256i*)(to + 16 * v), pattern);
    }
#else
    for (int g = 0; g < Shape::kGroups; ++g) {
      const int at = 3 * g % 64;
      std::uint64_t pattern = x[3 * g / 64] >> at;
      if (at > 61) pattern |= x[3 * g / 64 + 1] << (64 - at);
      to[g] = static_cast<std::uint16_t>((pattern & 7) * (2 * kVectorBytes));
    }
#endif
    for (int r = 0; r < Shape::kRest; ++r) {
      const int bit = 3 * Shape::kGroups + r;
      to[Shape::kGroups + r] =
          static_cast<std::uint16_t>(((x[bit / 64] >> (bit % 64)) & 1) * kVectorBytes);
    }
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_BIT_TABLES_H_
