// What later processors added to AVX-512, emulated as avx512.h does it; each part only where the
// target has it (ELSA_EMULATE_*, from the target's compiler flags).
#ifndef ELSA_TESTS_EMULATED_AVX512_EXTENSIONS_H_
#define ELSA_TESTS_EMULATED_AVX512_EXTENSIONS_H_

#include "lanes.h"

namespace elsa_emulated {

#if defined(ELSA_EMULATE_AVX512VPOPCNTDQ)
#define __AVX512VPOPCNTDQ__ 1
ELSA_UNARY(_mm512_popcnt_epi32, __m512i, U32, __builtin_popcount(x))
ELSA_UNARY(_mm512_popcnt_epi64, __m512i, U64, __builtin_popcountll(x))
ELSA_UNARY(_mm256_popcnt_epi64, __m256i, U64, __builtin_popcountll(x))
ELSA_UNARY(_mm_popcnt_epi64, __m128i, U64, __builtin_popcountll(x))
#endif

#if defined(ELSA_EMULATE_AVX512BITALG)
#define __AVX512BITALG__ 1
ELSA_UNARY(_mm512_popcnt_epi8, __m512i, U8, __builtin_popcount(x))
ELSA_UNARY(_mm512_popcnt_epi16, __m512i, U16, __builtin_popcount(x))
#endif

#if defined(ELSA_EMULATE_AVX512VBMI)
#define __AVX512VBMI__ 1
ELSA_EMULATED __m512i _mm512_permutexvar_epi8(__m512i index, __m512i a) {
  return Permute<I8, U8>(a, a, index);
}
ELSA_EMULATED __m512i _mm512_permutex2var_epi8(__m512i a, __m512i index, __m512i b) {
  return Permute<I8, U8>(a, b, index);
}
#endif

#if defined(ELSA_EMULATE_AVX512VBMI2)
#define __AVX512VBMI2__ 1
ELSA_EMULATED __m512i _mm512_maskz_compress_epi8(__mmask64 mask, __m512i a) {
  return Compress<I8>(mask, a);
}
ELSA_EMULATED __m512i _mm512_maskz_compress_epi16(__mmask32 mask, __m512i a) {
  return Compress<I16>(mask, a);
}
ELSA_EMULATED void _mm512_mask_compressstoreu_epi16(void* to, __mmask32 mask, __m512i a) {
  MaskedStore<I16>(to, (1ull << __builtin_popcount(mask)) - 1, Compress<I16>(mask, a));
}
#endif

#if defined(ELSA_EMULATE_AVX512VNNI)
#define __AVX512VNNI__ 1
// Sums of four products of an unsigned and a signed byte.
template <typename V>
ELSA_EMULATED V DotBytes(V sum, V a, V b) {
  const Lanes<U32, V> s(sum);
  const Lanes<U8, V> x(a);
  const Lanes<I8, V> y(b);
  return Each<U32, V>([&](int i) {
    int dot = 0;
    for (int j = 4 * i; j < 4 * i + 4; ++j) dot += x[j] * y[j];
    return s[i] + static_cast<U32>(dot);
  });
}
ELSA_EMULATED __m512i _mm512_dpbusd_epi32(__m512i s, __m512i a, __m512i b) {
  return DotBytes(s, a, b);
}
ELSA_EMULATED __m256i _mm256_dpbusd_epi32(__m256i s, __m256i a, __m256i b) {
  return DotBytes(s, a, b);
}
ELSA_EMULATED __m128i _mm_dpbusd_epi32(__m128i s, __m128i a, __m128i b) {
  return DotBytes(s, a, b);
}
// Sums of two products of signed 16-bit numbers.
template <typename V>
ELSA_EMULATED V DotWords(V sum, V a, V b) {
  const Lanes<U32, V> s(sum);
  const Lanes<I16, V> x(a);
  const Lanes<I16, V> y(b);
  return Each<U32, V>([&](int i) {
    return s[i] + static_cast<U32>(x[2 * i] * y[2 * i]) +
           static_cast<U32>(x[2 * i + 1] * y[2 * i + 1]);
  });
}
ELSA_EMULATED __m512i _mm512_dpwssd_epi32(__m512i s, __m512i a, __m512i b) {
  return DotWords(s, a, b);
}
ELSA_EMULATED __m256i _mm256_dpwssd_epi32(__m256i s, __m256i a, __m256i b) {
  return DotWords(s, a, b);
}
#endif

#if defined(ELSA_EMULATE_AVX512BF16)
#define __AVX512BF16__ 1
ELSA_EMULATED __m256bh _mm512_cvtneps_pbh(__m512 a) {
  return Convert<U16, __m256bh, F32>(a, RoundToBf16);
}
ELSA_EMULATED __m128bh _mm256_cvtneps_pbh(__m256 a) {
  return Convert<U16, __m128bh, F32>(a, RoundToBf16);
}
ELSA_EMULATED __m512bh _mm512_cvtne2ps_pbh(__m512 high, __m512 low) {
  return Each<U16, __m512bh>([&](int i) { return RoundToBf16(i < 16 ? low[i] : high[i - 16]); });
}
// Sums of two products, the odd element's first; denormals count as zeros.
template <typename V, typename H>
ELSA_EMULATED V DotBf16(V sum, H a, H b) {
  const Lanes<F32, V> s(sum);
  const Lanes<U16, H> x(a);
  const Lanes<U16, H> y(b);
  const auto wide = [](U16 half) { return (half & 0x7f80) == 0 ? 0.0f : WidenBf16(half); };
  return Each<F32, V>([&](int i) {
    const float odd = __builtin_fmaf(wide(x[2 * i + 1]), wide(y[2 * i + 1]), s[i]);
    return __builtin_fmaf(wide(x[2 * i]), wide(y[2 * i]), odd);
  });
}
ELSA_EMULATED __m512 _mm512_dpbf16_ps(__m512 s, __m512bh a, __m512bh b) { return DotBf16(s, a, b); }
ELSA_EMULATED __m256 _mm256_dpbf16_ps(__m256 s, __m256bh a, __m256bh b) { return DotBf16(s, a, b); }
ELSA_EMULATED __m128 _mm_dpbf16_ps(__m128 s, __m128bh a, __m128bh b) { return DotBf16(s, a, b); }
#endif

#if defined(ELSA_EMULATE_AVX512FP16)
#define __AVX512FP16__ 1
using F16 = _Float16;
ELSA_BINARY(_mm512_add_ph, __m512h, F16, x + y)
ELSA_BINARY(_mm512_sub_ph, __m512h, F16, x - y)
ELSA_BINARY(_mm512_mul_ph, __m512h, F16, x* y)
ELSA_BINARY(_mm512_max_ph, __m512h, F16, x > y ? x : y)
ELSA_CAST(_mm512_castph_si512, __m512i, __m512h)
ELSA_CAST(_mm512_castsi512_ph, __m512h, __m512i)
ELSA_CAST(_mm512_castps_ph, __m512h, __m512)
ELSA_CAST(_mm512_castph_ps, __m512, __m512h)
ELSA_CAST(_mm256_castsi256_ph, __m256h, __m256i)
ELSA_CAST(_mm256_castph_si256, __m256i, __m256h)
ELSA_CAST(_mm512_castph512_ph256, __m256h, __m512h)
ELSA_EMULATED __m512h _mm512_setzero_ph() { return __m512h{}; }
ELSA_EMULATED __m512h _mm512_loadu_ph(const void* from) { return LoadAny<__m512h>(from); }
ELSA_EMULATED __m256h _mm256_loadu_ph(const void* from) { return LoadAny<__m256h>(from); }
ELSA_EMULATED void _mm512_storeu_ph(void* to, __m512h a) { StoreAny(to, a); }
ELSA_EMULATED __m512h _mm512_set1_ph(_Float16 x) {
  return Each<F16, __m512h>([x](int) { return x; });
}
// A product of halves is exact in binary64, and so is its sum with a half but for extreme cases.
template <typename V>
ELSA_EMULATED V FmaPh(V a, V b, V c) {
  return Each<F16, V>([&](int i) {
    return static_cast<F16>(static_cast<double>(a[i]) * static_cast<double>(b[i]) +
                            static_cast<double>(c[i]));
  });
}
ELSA_EMULATED __m512h _mm512_fmadd_ph(__m512h a, __m512h b, __m512h c) { return FmaPh(a, b, c); }
ELSA_EMULATED __m256h _mm256_fmadd_ph(__m256h a, __m256h b, __m256h c) { return FmaPh(a, b, c); }
ELSA_EMULATED __m512 _mm512_cvtxph_ps(__m256h a) { return Convert<F32, __m512, F16>(a); }
ELSA_EMULATED __m256h _mm512_cvtxps_ph(__m512 a) { return Convert<F16, __m256h, F32>(a); }
ELSA_EMULATED _Float16 _mm512_reduce_add_ph(__m512h a) {
  return Reduce<F16>(a, [](F16 x, F16 y) { return static_cast<F16>(x + y); });
}
#endif

}  // namespace elsa_emulated

#endif  // ELSA_TESTS_EMULATED_AVX512_EXTENSIONS_H_
