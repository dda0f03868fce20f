// AVX-512 F, BW, DQ and VL for a processor that has AVX2 only: the intrinsics that the kernels use,
// in plain code, element by element. Forced in front of a kernel source (-include), it makes the
// source compile as if for AVX-512; tests run the result (cmake/CpuEmulated.cmake). What is missing
// here fails to compile ("target specific option mismatch"): add it, then run names.py.
#ifndef ELSA_TESTS_EMULATED_AVX512_H_
#define ELSA_TESTS_EMULATED_AVX512_H_

#include "avx512_names.h"
#include "lanes.h"

#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512DQ__ 1
#define __AVX512VL__ 1

namespace elsa_emulated {

using F32 = float;
using F64 = double;
using I8 = std::int8_t;
using I16 = std::int16_t;
using I32 = std::int32_t;
using I64 = std::int64_t;
using U8 = std::uint8_t;
using U16 = std::uint16_t;
using U32 = std::uint32_t;
using U64 = std::uint64_t;

// Element by element, plain and with the elements of `no` or zeros where the mask has no bit.
#define ELSA_UNARY(name, V, E, ...)                                         \
  ELSA_EMULATED V name(V a) {                                               \
    return Map<E>(a, [](E x) -> E { return static_cast<E>(__VA_ARGS__); }); \
  }
#define ELSA_BINARY(name, V, E, ...)                                                \
  ELSA_EMULATED V name(V a, V b) {                                                  \
    return Map<E>(a, b, [](E x, E y) -> E { return static_cast<E>(__VA_ARGS__); }); \
  }
#define ELSA_MASK_BINARY(name, plain, Mask, V, E) \
  ELSA_EMULATED V name(V no, Mask mask, V a, V b) { return Blend<E>(mask, no, plain(a, b)); }
#define ELSA_MASKZ_BINARY(name, plain, Mask, V, E) \
  ELSA_EMULATED V name(Mask mask, V a, V b) { return Blend<E>(mask, V{}, plain(a, b)); }
// A vector shifted by a count; a count of the element's width or more gives 0.
#define ELSA_SHIFT(name, V, E, op)                                      \
  ELSA_EMULATED V name(V a, unsigned count) {                           \
    return Map<E>(a, [count](E x) -> E {                                \
      return count >= 8 * sizeof(E) ? E() : static_cast<E>(x op count); \
    });                                                                 \
  }
#define ELSA_TEST(name, Mask, V, E, ...)                              \
  ELSA_EMULATED Mask name(V a, V b) {                                 \
    return Test<E, Mask>(a, b, [](E x, E y) { return __VA_ARGS__; }); \
  }
#define ELSA_MASK_TEST(name, plain, Mask, V) \
  ELSA_EMULATED Mask name(Mask mask, V a, V b) { return static_cast<Mask>(mask & plain(a, b)); }
#define ELSA_CAST(name, To, From) \
  ELSA_EMULATED To name(From a) { return Resize<To>(a); }

// Constants and memory.
ELSA_EMULATED __m512 _mm512_setzero_ps() { return __m512{}; }
ELSA_EMULATED __m512i _mm512_setzero_si512() { return __m512i{}; }
ELSA_EMULATED __m512 _mm512_set1_ps(float x) {
  return Each<F32, __m512>([x](int) { return x; });
}
ELSA_EMULATED __m512i _mm512_set1_epi8(char x) {
  return Each<I8, __m512i>([x](int) { return x; });
}
ELSA_EMULATED __m512i _mm512_set1_epi16(short x) {
  return Each<I16, __m512i>([x](int) { return x; });
}
ELSA_EMULATED __m512i _mm512_set1_epi32(int x) {
  return Each<I32, __m512i>([x](int) { return x; });
}
ELSA_EMULATED __m512i _mm512_set1_epi64(long long x) {
  return Each<I64, __m512i>([x](int) { return x; });
}
template <typename... T>
ELSA_EMULATED __m512i _mm512_set_epi32(T... x) {
  const int reversed[16] = {x...};
  return Each<I32, __m512i>([&](int i) { return reversed[15 - i]; });
}
template <typename... T>
ELSA_EMULATED __m512i _mm512_setr_epi32(T... x) {
  const int in_order[16] = {x...};
  return Each<I32, __m512i>([&](int i) { return in_order[i]; });
}
template <typename... T>
ELSA_EMULATED __m512i _mm512_set_epi64(T... x) {
  const long long reversed[8] = {x...};
  return Each<I64, __m512i>([&](int i) { return reversed[7 - i]; });
}
template <typename... T>
ELSA_EMULATED __m512i _mm512_set_epi8(T... x) {
  const I8 reversed[64] = {static_cast<I8>(x)...};
  return Each<I8, __m512i>([&](int i) { return reversed[63 - i]; });
}
template <typename... T>
ELSA_EMULATED __m512i _mm512_set_epi16(T... x) {
  const I16 reversed[32] = {static_cast<I16>(x)...};
  return Each<I16, __m512i>([&](int i) { return reversed[31 - i]; });
}
ELSA_EMULATED __m512 _mm512_loadu_ps(const void* from) { return LoadAny<__m512>(from); }
ELSA_EMULATED __m512 _mm512_load_ps(const void* from) { return LoadAny<__m512>(from); }
ELSA_EMULATED __m512d _mm512_loadu_pd(const void* from) { return LoadAny<__m512d>(from); }
ELSA_EMULATED __m512i _mm512_loadu_si512(const void* from) { return LoadAny<__m512i>(from); }
ELSA_EMULATED __m512i _mm512_load_si512(const void* from) { return LoadAny<__m512i>(from); }
ELSA_EMULATED __m512i _mm512_loadu_epi8(const void* from) { return LoadAny<__m512i>(from); }
ELSA_EMULATED __m512i _mm512_loadu_epi16(const void* from) { return LoadAny<__m512i>(from); }
ELSA_EMULATED __m512i _mm512_loadu_epi32(const void* from) { return LoadAny<__m512i>(from); }
ELSA_EMULATED __m512i _mm512_loadu_epi64(const void* from) { return LoadAny<__m512i>(from); }
ELSA_EMULATED void _mm512_storeu_ps(void* to, __m512 a) { StoreAny(to, a); }
ELSA_EMULATED void _mm512_store_ps(void* to, __m512 a) { StoreAny(to, a); }
ELSA_EMULATED void _mm512_storeu_si512(void* to, __m512i a) { StoreAny(to, a); }
ELSA_EMULATED void _mm512_store_si512(void* to, __m512i a) { StoreAny(to, a); }
ELSA_EMULATED void _mm512_storeu_epi32(void* to, __m512i a) { StoreAny(to, a); }
ELSA_EMULATED void _mm512_storeu_epi64(void* to, __m512i a) { StoreAny(to, a); }
#define ELSA_MASKED_MEMORY(load, maskz_load, store, Mask, V, E)                                \
  ELSA_EMULATED V load(V no, Mask mask, const void* p) { return MaskedLoad<E>(mask, no, p); }  \
  ELSA_EMULATED V maskz_load(Mask mask, const void* p) { return MaskedLoad<E>(mask, V{}, p); } \
  ELSA_EMULATED void store(void* p, Mask mask, V a) { MaskedStore<E>(p, mask, a); }
ELSA_MASKED_MEMORY(_mm512_mask_loadu_ps, _mm512_maskz_loadu_ps, _mm512_mask_storeu_ps, __mmask16,
                   __m512, F32)
ELSA_MASKED_MEMORY(_mm512_mask_loadu_epi8, _mm512_maskz_loadu_epi8, _mm512_mask_storeu_epi8,
                   __mmask64, __m512i, I8)
ELSA_MASKED_MEMORY(_mm512_mask_loadu_epi16, _mm512_maskz_loadu_epi16, _mm512_mask_storeu_epi16,
                   __mmask32, __m512i, I16)
ELSA_MASKED_MEMORY(_mm512_mask_loadu_epi32, _mm512_maskz_loadu_epi32, _mm512_mask_storeu_epi32,
                   __mmask16, __m512i, I32)
ELSA_MASKED_MEMORY(_mm512_mask_loadu_epi64, _mm512_maskz_loadu_epi64, _mm512_mask_storeu_epi64,
                   __mmask8, __m512i, I64)
ELSA_MASKED_MEMORY(_mm256_mask_loadu_epi8, _mm256_maskz_loadu_epi8, _mm256_mask_storeu_epi8,
                   __mmask32, __m256i, I8)
ELSA_MASKED_MEMORY(_mm256_mask_loadu_epi16, _mm256_maskz_loadu_epi16, _mm256_mask_storeu_epi16,
                   __mmask16, __m256i, I16)
ELSA_MASKED_MEMORY(_mm_mask_loadu_epi8, _mm_maskz_loadu_epi8, _mm_mask_storeu_epi8, __mmask16,
                   __m128i, I8)

// Casts, parts.
ELSA_CAST(_mm512_castps_si512, __m512i, __m512)
ELSA_CAST(_mm512_castsi512_ps, __m512, __m512i)
ELSA_CAST(_mm512_castps_pd, __m512d, __m512)
ELSA_CAST(_mm512_castpd_ps, __m512, __m512d)
ELSA_CAST(_mm512_castpd_si512, __m512i, __m512d)
ELSA_CAST(_mm512_castsi512_pd, __m512d, __m512i)
ELSA_CAST(_mm512_castps512_ps256, __m256, __m512)
ELSA_CAST(_mm512_castps256_ps512, __m512, __m256)
ELSA_CAST(_mm512_castps512_ps128, __m128, __m512)
ELSA_CAST(_mm512_castps128_ps512, __m512, __m128)
ELSA_CAST(_mm512_castsi512_si256, __m256i, __m512i)
ELSA_CAST(_mm512_castsi256_si512, __m512i, __m256i)
ELSA_CAST(_mm512_castsi512_si128, __m128i, __m512i)
ELSA_CAST(_mm512_castsi128_si512, __m512i, __m128i)
ELSA_EMULATED float _mm512_cvtss_f32(__m512 a) { return Lanes<F32, __m512>(a)[0]; }
ELSA_EMULATED int _mm512_cvtsi512_si32(__m512i a) { return Lanes<I32, __m512i>(a)[0]; }
template <typename Part, typename Whole>
ELSA_EMULATED Part PartOf(Whole a, int part) {
  Part to;
  std::memcpy(&to, reinterpret_cast<const char*>(&a) + part * sizeof(Part), sizeof(Part));
  return to;
}
template <typename Whole, typename Part>
ELSA_EMULATED Whole WithPart(Whole a, Part b, int part) {
  std::memcpy(reinterpret_cast<char*>(&a) + part * sizeof(Part), &b, sizeof(Part));
  return a;
}
ELSA_EMULATED __m256 _mm512_extractf32x8_ps(__m512 a, int i) { return PartOf<__m256>(a, i); }
ELSA_EMULATED __m128 _mm512_extractf32x4_ps(__m512 a, int i) { return PartOf<__m128>(a, i); }
ELSA_EMULATED __m256i _mm512_extracti64x4_epi64(__m512i a, int i) { return PartOf<__m256i>(a, i); }
ELSA_EMULATED __m256i _mm512_extracti32x8_epi32(__m512i a, int i) { return PartOf<__m256i>(a, i); }
ELSA_EMULATED __m128i _mm512_extracti32x4_epi32(__m512i a, int i) { return PartOf<__m128i>(a, i); }
ELSA_EMULATED __m512 _mm512_insertf32x8(__m512 a, __m256 b, int i) { return WithPart(a, b, i); }
ELSA_EMULATED __m512 _mm512_insertf32x4(__m512 a, __m128 b, int i) { return WithPart(a, b, i); }
ELSA_EMULATED __m512i _mm512_inserti64x4(__m512i a, __m256i b, int i) { return WithPart(a, b, i); }
ELSA_EMULATED __m512i _mm512_inserti32x8(__m512i a, __m256i b, int i) { return WithPart(a, b, i); }
ELSA_EMULATED __m512i _mm512_inserti32x4(__m512i a, __m128i b, int i) { return WithPart(a, b, i); }
template <typename V, typename Part>
ELSA_EMULATED V Repeat(Part a) {
  V to;
  for (std::size_t i = 0; i < sizeof(V) / sizeof(Part); ++i) to = WithPart(to, a, int(i));
  return to;
}
ELSA_EMULATED __m512 _mm512_broadcast_f32x4(__m128 a) { return Repeat<__m512>(a); }
ELSA_EMULATED __m512 _mm512_broadcast_f32x8(__m256 a) { return Repeat<__m512>(a); }
ELSA_EMULATED __m512i _mm512_broadcast_i32x4(__m128i a) { return Repeat<__m512i>(a); }
ELSA_EMULATED __m512i _mm512_broadcast_i64x4(__m256i a) { return Repeat<__m512i>(a); }
ELSA_EMULATED __m512i _mm512_broadcast_i64x2(__m128i a) { return Repeat<__m512i>(a); }
ELSA_EMULATED __m512 _mm512_broadcastss_ps(__m128 a) { return Repeat<__m512>(a[0]); }
ELSA_EMULATED __m512i _mm512_broadcastd_epi32(__m128i a) {
  return Repeat<__m512i>(Lanes<I32, __m128i>(a)[0]);
}

// Floating point.
ELSA_BINARY(_mm512_add_ps, __m512, F32, x + y)
ELSA_BINARY(_mm512_sub_ps, __m512, F32, x - y)
ELSA_BINARY(_mm512_mul_ps, __m512, F32, x* y)
ELSA_BINARY(_mm512_div_ps, __m512, F32, x / y)
ELSA_BINARY(_mm512_max_ps, __m512, F32, x > y ? x : y)
ELSA_BINARY(_mm512_min_ps, __m512, F32, x < y ? x : y)
ELSA_UNARY(_mm512_sqrt_ps, __m512, F32, __builtin_sqrtf(x))
ELSA_UNARY(_mm512_abs_ps, __m512, F32, __builtin_fabsf(x))
ELSA_MASK_BINARY(_mm512_mask_add_ps, _mm512_add_ps, __mmask16, __m512, F32)
ELSA_MASK_BINARY(_mm512_mask_sub_ps, _mm512_sub_ps, __mmask16, __m512, F32)
ELSA_MASK_BINARY(_mm512_mask_mul_ps, _mm512_mul_ps, __mmask16, __m512, F32)
ELSA_MASK_BINARY(_mm512_mask_max_ps, _mm512_max_ps, __mmask16, __m512, F32)
ELSA_MASKZ_BINARY(_mm512_maskz_add_ps, _mm512_add_ps, __mmask16, __m512, F32)
ELSA_MASKZ_BINARY(_mm512_maskz_sub_ps, _mm512_sub_ps, __mmask16, __m512, F32)
ELSA_MASKZ_BINARY(_mm512_maskz_mul_ps, _mm512_mul_ps, __mmask16, __m512, F32)
ELSA_EMULATED __m512 _mm512_fmadd_ps(__m512 a, __m512 b, __m512 c) {
  return Each<F32, __m512>([&](int i) { return __builtin_fmaf(a[i], b[i], c[i]); });
}
ELSA_EMULATED __m512 _mm512_fnmadd_ps(__m512 a, __m512 b, __m512 c) {
  return Each<F32, __m512>([&](int i) { return __builtin_fmaf(-a[i], b[i], c[i]); });
}
ELSA_EMULATED __m512 _mm512_mask_fmadd_ps(__m512 a, __mmask16 mask, __m512 b, __m512 c) {
  return Blend<F32>(mask, a, _mm512_fmadd_ps(a, b, c));
}
ELSA_EMULATED __m512 _mm512_mask3_fmadd_ps(__m512 a, __m512 b, __m512 c, __mmask16 mask) {
  return Blend<F32>(mask, c, _mm512_fmadd_ps(a, b, c));
}
ELSA_EMULATED float RoundBy(float x, int mode) {
  switch (mode & 7) {
    case 1:
      return __builtin_floorf(x);
    case 2:
      return __builtin_ceilf(x);
    case 3:
      return __builtin_truncf(x);
    default:
      return __builtin_nearbyintf(x);
  }
}
ELSA_EMULATED __m512 _mm512_roundscale_ps(__m512 a, int control) {
  const float unit = static_cast<float>(1 << (control >> 4));
  return Map<F32>(a, [&](float x) { return RoundBy(x * unit, control) / unit; });
}
// x * 2^floor(y)
ELSA_BINARY(_mm512_scalef_ps, __m512, F32,
            y == -__builtin_inff() && x - x == 0 ? __builtin_copysignf(0.0f, x)
            : y - y != 0
                ? (x == 0 ? __builtin_nanf("") : x * y)
                : static_cast<float>(__builtin_ldexp(
                      static_cast<double>(x),
                      static_cast<int>(y<-900 ? -900 : y> 900 ? 900 : __builtin_floorf(y)))))
ELSA_EMULATED float _mm512_reduce_add_ps(__m512 a) {
  return Reduce<F32>(a, [](float x, float y) { return x + y; });
}
ELSA_EMULATED float _mm512_reduce_max_ps(__m512 a) {
  return Reduce<F32>(a, [](float x, float y) { return x > y ? x : y; });
}
ELSA_EMULATED float _mm512_reduce_min_ps(__m512 a) {
  return Reduce<F32>(a, [](float x, float y) { return x < y ? x : y; });
}
ELSA_EMULATED bool Compares(float x, float y, int predicate) {
  const bool unordered = x != x || y != y;
  switch (predicate & 15) {
    case 0:
      return x == y;
    case 1:
      return x < y;
    case 2:
      return x <= y;
    case 3:
      return unordered;
    case 4:
      return x != y;
    case 5:
      return !(x < y);
    case 6:
      return !(x <= y);
    case 7:
      return !unordered;
    case 8:
      return x == y || unordered;
    case 9:
      return !(x >= y);
    case 10:
      return !(x > y);
    case 11:
      return false;
    case 12:
      return x != y && !unordered;
    case 13:
      return x >= y;
    case 14:
      return x > y;
    default:
      return true;
  }
}
ELSA_EMULATED __mmask16 _mm512_cmp_ps_mask(__m512 a, __m512 b, int predicate) {
  return Test<F32, __mmask16>(a, b, [&](F32 x, F32 y) { return Compares(x, y, predicate); });
}
ELSA_EMULATED __mmask16 _mm512_mask_cmp_ps_mask(__mmask16 mask, __m512 a, __m512 b, int predicate) {
  return static_cast<__mmask16>(mask & _mm512_cmp_ps_mask(a, b, predicate));
}

// Whole numbers.
ELSA_BINARY(_mm512_add_epi8, __m512i, U8, x + y)
ELSA_BINARY(_mm512_add_epi16, __m512i, U16, x + y)
ELSA_BINARY(_mm512_add_epi32, __m512i, U32, x + y)
ELSA_BINARY(_mm512_add_epi64, __m512i, U64, x + y)
ELSA_BINARY(_mm512_sub_epi8, __m512i, U8, x - y)
ELSA_BINARY(_mm512_sub_epi16, __m512i, U16, x - y)
ELSA_BINARY(_mm512_sub_epi32, __m512i, U32, x - y)
ELSA_BINARY(_mm512_sub_epi64, __m512i, U64, x - y)
ELSA_BINARY(_mm512_mullo_epi16, __m512i, I16, x* y)
ELSA_BINARY(_mm512_mullo_epi32, __m512i, U32, x* y)
ELSA_BINARY(_mm512_and_si512, __m512i, U64, x& y)
ELSA_BINARY(_mm512_and_epi32, __m512i, U64, x& y)
ELSA_BINARY(_mm512_or_si512, __m512i, U64, x | y)
ELSA_BINARY(_mm512_or_epi32, __m512i, U64, x | y)
ELSA_BINARY(_mm512_xor_si512, __m512i, U64, x ^ y)
ELSA_BINARY(_mm512_xor_epi64, __m512i, U64, x ^ y)
ELSA_BINARY(_mm512_andnot_si512, __m512i, U64, ~x& y)
ELSA_BINARY(_mm512_max_epi8, __m512i, I8, x > y ? x : y)
ELSA_BINARY(_mm512_min_epi8, __m512i, I8, x < y ? x : y)
ELSA_BINARY(_mm512_max_epi32, __m512i, I32, x > y ? x : y)
ELSA_BINARY(_mm512_min_epi32, __m512i, I32, x < y ? x : y)
ELSA_BINARY(_mm512_min_epu8, __m512i, U8, x < y ? x : y)
ELSA_BINARY(_mm512_max_epu8, __m512i, U8, x > y ? x : y)
ELSA_UNARY(_mm512_abs_epi8, __m512i, I8, x < 0 ? -x : x)
ELSA_UNARY(_mm512_abs_epi32, __m512i, I32, x < 0 ? -x : x)
ELSA_SHIFT(_mm512_slli_epi16, __m512i, U16, <<)
ELSA_SHIFT(_mm512_slli_epi32, __m512i, U32, <<)
ELSA_SHIFT(_mm512_slli_epi64, __m512i, U64, <<)
ELSA_SHIFT(_mm512_srli_epi16, __m512i, U16, >>)
ELSA_SHIFT(_mm512_srli_epi32, __m512i, U32, >>)
ELSA_SHIFT(_mm512_srli_epi64, __m512i, U64, >>)
ELSA_EMULATED __m512i _mm512_srai_epi32(__m512i a, unsigned count) {
  return Map<I32>(a, [count](I32 x) { return x >> (count > 31 ? 31 : count); });
}
ELSA_EMULATED __m512i _mm512_sll_epi16(__m512i a, __m128i count) {
  const U64 n = Lanes<U64, __m128i>(count)[0];
  return _mm512_slli_epi16(a, n > 15 ? 16 : static_cast<unsigned>(n));
}
ELSA_BINARY(_mm512_sllv_epi32, __m512i, U32, y > 31 ? 0 : x << y)
ELSA_BINARY(_mm512_srlv_epi32, __m512i, U32, y > 31 ? 0 : x >> y)
ELSA_BINARY(_mm512_srlv_epi64, __m512i, U64, y > 63 ? 0 : x >> y)
ELSA_BINARY(_mm512_sllv_epi64, __m512i, U64, y > 63 ? 0 : x << y)
ELSA_MASK_BINARY(_mm512_mask_add_epi32, _mm512_add_epi32, __mmask16, __m512i, I32)
ELSA_MASK_BINARY(_mm512_mask_sub_epi8, _mm512_sub_epi8, __mmask64, __m512i, I8)
ELSA_EMULATED int _mm512_reduce_add_epi32(__m512i a) {
  return static_cast<int>(Reduce<U32>(a, [](U32 x, U32 y) { return x + y; }));
}
ELSA_EMULATED long long _mm512_reduce_add_epi64(__m512i a) {
  return static_cast<long long>(Reduce<U64>(a, [](U64 x, U64 y) { return x + y; }));
}
// Bit 4x + 2y + z of the table.
ELSA_EMULATED __m512i _mm512_ternarylogic_epi64(__m512i a, __m512i b, __m512i c, int table) {
  return Each<U64, __m512i>([&](int i) {
    const U64 x = static_cast<U64>(a[i]);
    const U64 y = static_cast<U64>(b[i]);
    const U64 z = static_cast<U64>(c[i]);
    U64 to = 0;
    for (int row = 0; row < 8; ++row) {
      if (!Bit(static_cast<U64>(table), row)) continue;
      to |= ((row & 4) != 0 ? x : ~x) & ((row & 2) != 0 ? y : ~y) & ((row & 1) != 0 ? z : ~z);
    }
    return to;
  });
}
ELSA_EMULATED __m512i _mm512_ternarylogic_epi32(__m512i a, __m512i b, __m512i c, int table) {
  return _mm512_ternarylogic_epi64(a, b, c, table);
}
ELSA_EMULATED __m512i _mm512_madd_epi16(__m512i a, __m512i b) {
  const Lanes<I16, __m512i> x(a);
  const Lanes<I16, __m512i> y(b);
  return Each<I32, __m512i>([&](int i) {
    return static_cast<U32>(x[2 * i] * y[2 * i]) + static_cast<U32>(x[2 * i + 1] * y[2 * i + 1]);
  });
}
ELSA_EMULATED __m512i _mm512_maddubs_epi16(__m512i a, __m512i b) {
  const Lanes<U8, __m512i> x(a);
  const Lanes<I8, __m512i> y(b);
  return Each<I16, __m512i>([&](int i) {
    const int sum = x[2 * i] * y[2 * i] + x[2 * i + 1] * y[2 * i + 1];
    return sum > 32767 ? 32767 : sum < -32768 ? -32768 : sum;
  });
}
ELSA_EMULATED __m512i _mm512_sad_epu8(__m512i a, __m512i b) {
  const Lanes<U8, __m512i> x(a);
  const Lanes<U8, __m512i> y(b);
  return Each<U64, __m512i>([&](int i) {
    unsigned sum = 0;
    for (int j = 8 * i; j < 8 * i + 8; ++j) sum += x[j] > y[j] ? x[j] - y[j] : y[j] - x[j];
    return sum;
  });
}

// Comparisons to masks, masks to vectors.
ELSA_TEST(_mm512_cmpeq_epi8_mask, __mmask64, __m512i, U8, x == y)
ELSA_TEST(_mm512_cmpeq_epi32_mask, __mmask16, __m512i, U32, x == y)
ELSA_TEST(_mm512_cmpeq_epi64_mask, __mmask8, __m512i, U64, x == y)
ELSA_TEST(_mm512_cmpneq_epi32_mask, __mmask16, __m512i, U32, x != y)
ELSA_TEST(_mm512_cmplt_epi32_mask, __mmask16, __m512i, I32, x < y)
ELSA_TEST(_mm512_cmple_epi32_mask, __mmask16, __m512i, I32, x <= y)
ELSA_TEST(_mm512_cmpgt_epi32_mask, __mmask16, __m512i, I32, x > y)
ELSA_TEST(_mm512_cmpge_epi32_mask, __mmask16, __m512i, I32, x >= y)
ELSA_TEST(_mm512_cmple_epi64_mask, __mmask8, __m512i, I64, x <= y)
ELSA_TEST(_mm512_cmpgt_epi64_mask, __mmask8, __m512i, I64, x > y)
ELSA_TEST(_mm512_cmple_epu8_mask, __mmask64, __m512i, U8, x <= y)
ELSA_TEST(_mm512_cmple_epu64_mask, __mmask8, __m512i, U64, x <= y)
ELSA_TEST(_mm512_cmple_epi8_mask, __mmask64, __m512i, I8, x <= y)
ELSA_TEST(_mm512_cmpge_epi8_mask, __mmask64, __m512i, I8, x >= y)
ELSA_TEST(_mm512_cmpgt_epi8_mask, __mmask64, __m512i, I8, x > y)
ELSA_TEST(_mm512_test_epi8_mask, __mmask64, __m512i, U8, (x & y) != 0)
ELSA_TEST(_mm512_test_epi32_mask, __mmask16, __m512i, U32, (x & y) != 0)
ELSA_TEST(_mm512_test_epi64_mask, __mmask8, __m512i, U64, (x & y) != 0)
ELSA_EMULATED __mmask16 _mm512_movepi32_mask(__m512i a) {
  return Test<I32, __mmask16>(a, a, [](I32 x, I32) { return x < 0; });
}
ELSA_EMULATED __mmask64 _mm512_movepi8_mask(__m512i a) {
  return Test<I8, __mmask64>(a, a, [](I8 x, I8) { return x < 0; });
}
ELSA_EMULATED __mmask8 _mm512_movepi64_mask(__m512i a) {
  return Test<I64, __mmask8>(a, a, [](I64 x, I64) { return x < 0; });
}
ELSA_EMULATED __m512i _mm512_movm_epi8(__mmask64 mask) {
  return Each<I8, __m512i>([&](int i) { return Bit(mask, i) ? -1 : 0; });
}
ELSA_EMULATED __m512i _mm512_movm_epi32(__mmask16 mask) {
  return Each<I32, __m512i>([&](int i) { return Bit(mask, i) ? -1 : 0; });
}
ELSA_EMULATED __m512 _mm512_mask_blend_ps(__mmask16 mask, __m512 no, __m512 yes) {
  return Blend<F32>(mask, no, yes);
}
ELSA_EMULATED __m512i _mm512_mask_blend_epi32(__mmask16 mask, __m512i no, __m512i yes) {
  return Blend<I32>(mask, no, yes);
}
ELSA_EMULATED __m512i _mm512_mask_blend_epi16(__mmask32 mask, __m512i no, __m512i yes) {
  return Blend<I16>(mask, no, yes);
}
ELSA_EMULATED __m512 _mm512_mask_mov_ps(__m512 no, __mmask16 mask, __m512 yes) {
  return Blend<F32>(mask, no, yes);
}
ELSA_EMULATED __m512i _mm512_mask_mov_epi32(__m512i no, __mmask16 mask, __m512i yes) {
  return Blend<I32>(mask, no, yes);
}
ELSA_EMULATED __m512 _mm512_maskz_mov_ps(__mmask16 mask, __m512 yes) {
  return Blend<F32>(mask, __m512{}, yes);
}
ELSA_EMULATED __m512i _mm512_maskz_set1_epi8(__mmask64 mask, char x) {
  return Blend<I8>(mask, __m512i{}, _mm512_set1_epi8(x));
}
ELSA_EMULATED __m512i _mm512_maskz_compress_epi32(__mmask16 mask, __m512i a) {
  return Compress<I32>(mask, a);
}
ELSA_EMULATED __m512 _mm512_maskz_compress_ps(__mmask16 mask, __m512 a) {
  return Compress<F32>(mask, a);
}
ELSA_EMULATED void _mm512_mask_compressstoreu_epi32(void* to, __mmask16 mask, __m512i a) {
  MaskedStore<I32>(to, (1ull << __builtin_popcount(mask)) - 1, Compress<I32>(mask, a));
}

// Conversions.
ELSA_EMULATED __m512 _mm512_cvtepi32_ps(__m512i a) { return Convert<F32, __m512, I32>(a); }
ELSA_EMULATED __m512i _mm512_cvtps_epi32(__m512 a) {
  return Convert<I32, __m512i, F32>(a, [](float x) {
    return x >= -2147483648.0f && x < 2147483648.0f ? static_cast<I32>(__builtin_nearbyintf(x))
                                                    : static_cast<I32>(0x80000000u);
  });
}
ELSA_EMULATED __m512i _mm512_cvttps_epi32(__m512 a) {
  return Convert<I32, __m512i, F32>(a, [](float x) {
    return x >= -2147483648.0f && x < 2147483648.0f ? static_cast<I32>(x)
                                                    : static_cast<I32>(0x80000000u);
  });
}
ELSA_EMULATED __m512i _mm512_cvtepu16_epi32(__m256i a) { return Convert<U32, __m512i, U16>(a); }
ELSA_EMULATED __m512i _mm512_cvtepi16_epi32(__m256i a) { return Convert<I32, __m512i, I16>(a); }
ELSA_EMULATED __m512i _mm512_cvtepu8_epi16(__m256i a) { return Convert<U16, __m512i, U8>(a); }
ELSA_EMULATED __m512i _mm512_cvtepi8_epi16(__m256i a) { return Convert<I16, __m512i, I8>(a); }
ELSA_EMULATED __m512i _mm512_cvtepu8_epi32(__m128i a) { return Convert<U32, __m512i, U8>(a); }
ELSA_EMULATED __m512i _mm512_cvtepi8_epi32(__m128i a) { return Convert<I32, __m512i, I8>(a); }
ELSA_EMULATED __m512i _mm512_cvtepi8_epi64(__m128i a) { return Convert<I64, __m512i, I8>(a); }
ELSA_EMULATED __m512i _mm512_cvtepi16_epi64(__m128i a) { return Convert<I64, __m512i, I16>(a); }
ELSA_EMULATED __m512i _mm512_cvtepu8_epi64(__m128i a) { return Convert<U64, __m512i, U8>(a); }
ELSA_EMULATED __m512i _mm512_cvtepu16_epi64(__m128i a) { return Convert<U64, __m512i, U16>(a); }
ELSA_EMULATED __m256i _mm512_cvtepi32_epi16(__m512i a) { return Convert<U16, __m256i, U32>(a); }
ELSA_EMULATED __m128i _mm512_cvtepi32_epi8(__m512i a) { return Convert<U8, __m128i, U32>(a); }
ELSA_EMULATED __m256i _mm512_cvtepi16_epi8(__m512i a) { return Convert<U8, __m256i, U16>(a); }
ELSA_EMULATED __m128i _mm512_cvtepi64_epi8(__m512i a) { return Convert<U8, __m128i, U64>(a); }
ELSA_EMULATED __m128i _mm512_cvtsepi32_epi8(__m512i a) {
  return Convert<I8, __m128i, I32>(a, [](I32 x) { return x > 127 ? 127 : x < -128 ? -128 : x; });
}
ELSA_EMULATED __m512 _mm512_cvtph_ps(__m256i a) {
  return Convert<F32, __m512, U16>(a, [](U16 x) { return _cvtsh_ss(x); });
}
ELSA_EMULATED __m256i _mm512_cvtps_ph(__m512 a, int) {
  return Convert<U16, __m256i, F32>(a, [](float x) { return _cvtss_sh(x, 0); });
}

// Shuffles. Within 128-bit parts:
template <typename E, typename V>
ELSA_EMULATED V Unpack(V a, V b, bool high) {
  constexpr int kPart = 16 / sizeof(E);
  const Lanes<E, V> x(a);
  const Lanes<E, V> y(b);
  return Each<E, V>([&](int i) {
    const int from = i / kPart * kPart + (high ? kPart / 2 : 0) + i % kPart / 2;
    return i % 2 == 0 ? x[from] : y[from];
  });
}
#define ELSA_UNPACK(low, high, V, E)                               \
  ELSA_EMULATED V low(V a, V b) { return Unpack<E>(a, b, false); } \
  ELSA_EMULATED V high(V a, V b) { return Unpack<E>(a, b, true); }
ELSA_UNPACK(_mm512_unpacklo_ps, _mm512_unpackhi_ps, __m512, F32)
ELSA_UNPACK(_mm512_unpacklo_pd, _mm512_unpackhi_pd, __m512d, F64)
ELSA_UNPACK(_mm512_unpacklo_epi8, _mm512_unpackhi_epi8, __m512i, I8)
ELSA_UNPACK(_mm512_unpacklo_epi16, _mm512_unpackhi_epi16, __m512i, I16)
ELSA_UNPACK(_mm512_unpacklo_epi32, _mm512_unpackhi_epi32, __m512i, I32)
ELSA_UNPACK(_mm512_unpacklo_epi64, _mm512_unpackhi_epi64, __m512i, I64)
ELSA_EMULATED __m512 _mm512_shuffle_ps(__m512 a, __m512 b, int control) {
  return Each<F32, __m512>([&](int i) {
    const int from = i / 4 * 4 + ((control >> (2 * (i % 4))) & 3);
    return i % 4 < 2 ? a[from] : b[from];
  });
}
ELSA_EMULATED __m512 _mm512_permute_ps(__m512 a, int control) {
  return _mm512_shuffle_ps(a, a, control);
}
ELSA_EMULATED __m512i _mm512_shuffle_epi32(__m512i a, int control) {
  return (__m512i)_mm512_shuffle_ps((__m512)a, (__m512)a, control);
}
ELSA_EMULATED __m512i _mm512_shuffle_epi8(__m512i a, __m512i b) {
  const Lanes<U8, __m512i> x(a);
  const Lanes<U8, __m512i> y(b);
  return Each<U8, __m512i>(
      [&](int i) { return (y[i] & 0x80) != 0 ? 0 : x[i / 16 * 16 + (y[i] & 15)]; });
}
ELSA_EMULATED __m512i _mm512_packus_epi16(__m512i a, __m512i b) {
  const Lanes<I16, __m512i> x(a);
  const Lanes<I16, __m512i> y(b);
  return Each<U8, __m512i>([&](int i) {
    const int from = i / 16 * 8 + i % 8;
    const int v = i % 16 < 8 ? x[from] : y[from];
    return v < 0 ? 0 : v > 255 ? 255 : v;
  });
}
ELSA_EMULATED __m512i _mm512_packs_epi32(__m512i a, __m512i b) {
  const Lanes<I32, __m512i> x(a);
  const Lanes<I32, __m512i> y(b);
  return Each<I16, __m512i>([&](int i) {
    const int from = i / 8 * 4 + i % 4;
    const int v = i % 8 < 4 ? x[from] : y[from];
    return v < -32768 ? -32768 : v > 32767 ? 32767 : v;
  });
}
// Of 128-bit parts:
ELSA_EMULATED __m512 _mm512_shuffle_f32x4(__m512 a, __m512 b, int control) {
  return Each<F32, __m512>([&](int i) {
    const int from = 4 * ((control >> (2 * (i / 4))) & 3) + i % 4;
    return i < 8 ? a[from] : b[from];
  });
}
ELSA_EMULATED __m512i _mm512_shuffle_i32x4(__m512i a, __m512i b, int control) {
  return (__m512i)_mm512_shuffle_f32x4((__m512)a, (__m512)b, control);
}
ELSA_EMULATED __m512i _mm512_shuffle_i64x2(__m512i a, __m512i b, int control) {
  return (__m512i)_mm512_shuffle_f32x4((__m512)a, (__m512)b, control);
}
// Across all:
template <typename E, typename I, typename V>
ELSA_EMULATED V Permute(V a, V b, __m512i index) {
  constexpr int kCount = Lanes<E, V>::kCount;
  const Lanes<E, V> x(a);
  const Lanes<E, V> y(b);
  const Lanes<I, __m512i> from(index);
  return Each<E, V>([&](int i) {
    const int j = static_cast<int>(from[i]) & (2 * kCount - 1);
    return j < kCount ? x[j] : y[j - kCount];
  });
}
ELSA_EMULATED __m512 _mm512_permutexvar_ps(__m512i index, __m512 a) {
  return Permute<F32, U32>(a, a, index);
}
ELSA_EMULATED __m512i _mm512_permutexvar_epi32(__m512i index, __m512i a) {
  return Permute<I32, U32>(a, a, index);
}
ELSA_EMULATED __m512i _mm512_permutexvar_epi16(__m512i index, __m512i a) {
  return Permute<I16, U16>(a, a, index);
}
ELSA_EMULATED __m512i _mm512_permutexvar_epi64(__m512i index, __m512i a) {
  return Permute<I64, U64>(a, a, index);
}
ELSA_EMULATED __m512 _mm512_permutex2var_ps(__m512 a, __m512i index, __m512 b) {
  return Permute<F32, U32>(a, b, index);
}
ELSA_EMULATED __m512i _mm512_permutex2var_epi32(__m512i a, __m512i index, __m512i b) {
  return Permute<I32, U32>(a, b, index);
}
ELSA_EMULATED __m512i _mm512_permutex2var_epi16(__m512i a, __m512i index, __m512i b) {
  return Permute<I16, U16>(a, b, index);
}
ELSA_EMULATED __m512 _mm512_i32gather_ps(__m512i index, const void* base, int scale) {
  const Lanes<I32, __m512i> at(index);
  return Each<F32, __m512>([&](int i) {
    return LoadAny<F32>(static_cast<const char*>(base) + static_cast<I64>(at[i]) * scale);
  });
}

}  // namespace elsa_emulated

using namespace elsa_emulated;  // the intrinsics are global names

#include "avx512_extensions.h"

#endif  // ELSA_TESTS_EMULATED_AVX512_H_
