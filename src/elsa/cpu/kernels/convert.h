// Elements of tensors to and from vectors of binary32.
#ifndef ELSA_CPU_KERNELS_CONVERT_H_
#define ELSA_CPU_KERNELS_CONVERT_H_

#include "elsa/cpu/kernels/exact.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

typedef std::uint16_t U16 __attribute__((vector_size(2 * kLanes)));  // half a register

ELSA_INLINE U16 LoadU16(const std::byte* from) {
  U16 x;
  std::memcpy(&x, from, sizeof(x));
  return x;
}

// By name, because GCC 12 converts these vectors element by element.
ELSA_INLINE U32 Widen(U16 x) {
#if defined(__AVX512F__)
  return (U32)_mm512_cvtepu16_epi32((__m256i)x);
#elif defined(__AVX2__)
  return (U32)_mm256_cvtepu16_epi32((__m128i)x);
#else
  return __builtin_convertvector(x, U32);
#endif
}

// The first bits of NaN stay, the quiet bit is set; to the nearest, ties to even.
ELSA_INLINE U16 ToBf16(F32 x) {
  const U32 bits = (U32)x;
  const U32 rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const U32 nan = (U32)(x != x);
  return __builtin_convertvector((nan & ((bits >> 16) | 0x40)) | (~nan & rounded), U16);
}

ELSA_INLINE F32 FromF16(U16 half) {
#if defined(__AVX512F__)
  return (F32)_mm512_cvtph_ps((__m256i)half);
#elif defined(__F16C__)
  return (F32)_mm256_cvtph_ps((__m128i)half);
#elif defined(__aarch64__)
  return (F32)vcvt_f32_f16((float16x4_t)half);
#else
  const U32 bits = Widen(half);
  const U32 magnitude = (bits & 0x7fff) << 13;
  // Rebiasing the exponent by a product is exact for subnormals too.
  const F32 finite = (F32)magnitude * Splat(0x1p112f);
  const U32 special = (U32)(magnitude >= 0x7c00u << 13);
  const U32 value = (special & (magnitude | 0x7f800000)) | (~special & (U32)finite);
  return (F32)(value | ((bits & 0x8000) << 16));
#endif
}

ELSA_INLINE U16 ToF16(F32 x) {
#if defined(__AVX512F__)
  return (U16)_mm512_cvtps_ph((__m512)x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__)
  return (U16)_mm256_cvtps_ph((__m256)x, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
  return (U16)vcvt_f16_f32((float32x4_t)x);
#else
  const U32 bits = (U32)x;
  const U32 sign = (bits >> 16) & 0x8000;
  const U32 magnitude = bits & 0x7fffffff;
  const U32 normal = (magnitude + 0xfff + ((magnitude >> 13) & 1) - 0x38000000) >> 13;
  // Adding 0.5 leaves a subnormal in units of 2^-24 in the low bits, rounded to even.
  const U32 small = (U32)((F32)magnitude + Splat(0.5f)) - 0x3f000000;
  const U32 is_small = (U32)(magnitude < 0x38800000);
  const U32 is_large = (U32)(magnitude >= 0x477ff000);  // from 65520 on: infinity
  const U32 is_nan = (U32)(x != x);
  U32 half = (is_small & small) | (~is_small & normal);
  half = (is_large & 0x7c00) | (~is_large & half);
  half = (is_nan & 0x7e00) | (~is_nan & half);
  return __builtin_convertvector(half | sign, U16);
#endif
}

// One type per Element, for templates.
struct ElementF32 {
  static constexpr int kBytes = 4;
  static F32 Load(const std::byte* from) {
    F32 x;
    std::memcpy(&x, from, sizeof(x));
    return x;
  }
  static void Store(std::byte* to, F32 x) { std::memcpy(to, &x, sizeof(x)); }
};
struct ElementF16 {
  static constexpr int kBytes = 2;
  static F32 Load(const std::byte* from) { return FromF16(LoadU16(from)); }
  static void Store(std::byte* to, F32 x) {
    const U16 half = ToF16(x);
    std::memcpy(to, &half, sizeof(half));
  }
};
struct ElementBf16 {
  static constexpr int kBytes = 2;
  static F32 Load(const std::byte* from) { return (F32)(Widen(LoadU16(from)) << 16); }
  static void Store(std::byte* to, F32 x) {
    const U16 half = ToBf16(x);
    std::memcpy(to, &half, sizeof(half));
  }
};

// The first `count` elements, zeros after them; nothing beyond is touched.
template <typename E>
ELSA_INLINE F32 LoadElements(const std::byte* from, int count) {
  if (count >= kLanes) return E::Load(from);
  alignas(64) std::byte whole[kLanes * E::kBytes] = {};
  std::memcpy(whole, from, static_cast<std::size_t>(count * E::kBytes));
  return E::Load(whole);
}

template <typename E>
ELSA_INLINE void StoreElements(std::byte* to, F32 x, int count) {
  if (count >= kLanes) return E::Store(to, x);
  alignas(64) std::byte whole[kLanes * E::kBytes];
  E::Store(whole, x);
  std::memcpy(to, whole, static_cast<std::size_t>(count * E::kBytes));
}

// Calls f(E{}) with the type of an Element.
template <typename F>
ELSA_INLINE auto WithElement(Element element, F&& f) {
  if (element == Element::kF16) return f(ElementF16{});
  if (element == Element::kBf16) return f(ElementBf16{});
  return f(ElementF32{});
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_CONVERT_H_
