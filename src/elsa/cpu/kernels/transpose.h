// A square of vectors, transposed in registers.
#ifndef ELSA_CPU_KERNELS_TRANSPOSE_H_
#define ELSA_CPU_KERNELS_TRANSPOSE_H_

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

#if defined(__AVX512F__)

// Within the 128-bit quarters as 4x4 squares, then the quarters.
ELSA_INLINE void Transpose(F32 (&rows)[kLanes]) {
  __m512 t[16];
  __m512 r[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps((__m512)rows[i], (__m512)rows[i + 1]);
    t[i + 1] = _mm512_unpackhi_ps((__m512)rows[i], (__m512)rows[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512d a = _mm512_castps_pd(t[i]);
    const __m512d b = _mm512_castps_pd(t[i + 1]);
    const __m512d c = _mm512_castps_pd(t[i + 2]);
    const __m512d d = _mm512_castps_pd(t[i + 3]);
    r[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(a, c));
    r[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(a, c));
    r[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(b, d));
    r[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(b, d));
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    t[i] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0x88);
    t[i + 4] = _mm512_shuffle_f32x4(r[i], r[i + 4], 0xdd);
    t[i + 8] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0x88);
    t[i + 12] = _mm512_shuffle_f32x4(r[i + 8], r[i + 12], 0xdd);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    rows[i] = (F32)_mm512_shuffle_f32x4(t[i], t[i + 8], 0x88);
    rows[i + 8] = (F32)_mm512_shuffle_f32x4(t[i], t[i + 8], 0xdd);
  }
}

#elif defined(__AVX2__)

ELSA_INLINE void Transpose(F32 (&rows)[kLanes]) {
  __m256 t[8];
  __m256 r[8];
#pragma GCC unroll 4
  for (int i = 0; i < 8; i += 2) {
    t[i] = _mm256_unpacklo_ps((__m256)rows[i], (__m256)rows[i + 1]);
    t[i + 1] = _mm256_unpackhi_ps((__m256)rows[i], (__m256)rows[i + 1]);
  }
#pragma GCC unroll 2
  for (int i = 0; i < 8; i += 4) {
    r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
    r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xee);
    r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
    r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xee);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    rows[i] = (F32)_mm256_permute2f128_ps(r[i], r[i + 4], 0x20);
    rows[i + 4] = (F32)_mm256_permute2f128_ps(r[i], r[i + 4], 0x31);
  }
}

#elif defined(__ARM_NEON)

ELSA_INLINE void Transpose(F32 (&rows)[kLanes]) {
  const float32x4x2_t a = vzipq_f32((float32x4_t)rows[0], (float32x4_t)rows[2]);
  const float32x4x2_t b = vzipq_f32((float32x4_t)rows[1], (float32x4_t)rows[3]);
  const float32x4x2_t low = vzipq_f32(a.val[0], b.val[0]);
  const float32x4x2_t high = vzipq_f32(a.val[1], b.val[1]);
  rows[0] = (F32)low.val[0];
  rows[1] = (F32)low.val[1];
  rows[2] = (F32)high.val[0];
  rows[3] = (F32)high.val[1];
}

#elif defined(__SSE2__)

ELSA_INLINE void Transpose(F32 (&rows)[kLanes]) {
  __m128 a = (__m128)rows[0];
  __m128 b = (__m128)rows[1];
  __m128 c = (__m128)rows[2];
  __m128 d = (__m128)rows[3];
  _MM_TRANSPOSE4_PS(a, b, c, d);
  rows[0] = (F32)a;
  rows[1] = (F32)b;
  rows[2] = (F32)c;
  rows[3] = (F32)d;
}

#else

ELSA_INLINE void Transpose(F32 (&rows)[kLanes]) {
  for (int i = 0; i < kLanes; ++i) {
    for (int j = 0; j < i; ++j) {
      const float swap = rows[i][j];
      rows[i][j] = rows[j][i];
      rows[j][i] = swap;
    }
  }
}

#endif

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_TRANSPOSE_H_
