// Packing for exact attention. Queries: groups of kGroupRows rows, transposed ([d][kGroupRows]);
// keys: panels of kPanelKeys keys, transposed ([d][kPanelKeys]); values: panels of kPanelColumns
// columns ([keys][kPanelColumns], the last one half as wide if that is enough).
#ifndef ELSA_CPU_KERNELS_EXACT_PACK_H_
#define ELSA_CPU_KERNELS_EXACT_PACK_H_

#include "elsa/cpu/kernels/convert.h"
#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/transpose.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// The register tile: kGroupRows x 2 vectors of sums, 2 vectors loaded and one spread.
inline constexpr int kGroupRows = kRegisters == 32 ? 12 : 6;
inline constexpr int kTileRows = 24;
inline constexpr int kPanelKeys = 2 * kLanes;
inline constexpr int kPanelColumns = 2 * kLanes;
inline constexpr int kCacheLine = 64;

ELSA_INLINE int RoundUp(int value, int unit) { return (value + unit - 1) / unit * unit; }

// Writes to[c * kStep + i] = scale * row i [c] for kLanes rows from `at` on, `count` of which
// exist; the others become zeros. Rows go beyond kStep if it is no multiple of kLanes: the next c
// overwrites them, so that `to` needs kLanes more.
template <typename E, int kStep>
ELSA_INLINE void PackTransposed(const std::byte* at, std::int64_t stride, int count, int d,
                                F32 scale, float* to) {
  for (int c = 0; c < d; c += kLanes) {
    F32 x[kLanes];
    const std::byte* from = at + c * E::kBytes;
    if (count == kLanes && d - c >= kLanes) {
      // The rows of the next panel: several streams at once are too many for the processor's own
      // prefetcher. Reaching beyond the tensor does no harm.
      if (kStep == kPanelKeys && c * E::kBytes % kCacheLine == 0) {
        for (int i = 0; i < kLanes; ++i) __builtin_prefetch(from + (kPanelKeys + i) * stride);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) x[i] = E::Load(from + i * stride) * scale;
      Transpose(x);
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) Store(to + (c + i) * kStep, x[i]);
    } else {
      const int width = d - c < kLanes ? d - c : kLanes;
      for (int i = 0; i < kLanes; ++i) {
        x[i] = i < count ? LoadElements<E>(from + i * stride, width) * scale : F32{};
      }
      Transpose(x);
      for (int i = 0; i < width; ++i) Store(to + (c + i) * kStep, x[i]);
    }
  }
}

inline std::int64_t QueryBytes(int d) {
  return (std::int64_t{kTileRows} * d + kLanes) * static_cast<std::int64_t>(sizeof(float));
}

template <typename E>
void PackQueriesOf(const ElementRows& rows, int count, int d, float scale, float* packed) {
  for (int first = 0; first < count; first += kGroupRows) {
    float* to = packed + std::int64_t{first} * d;
    // The last vector of rows reaches into the next group and the next c: it comes first.
    for (int i = (kGroupRows - 1) / kLanes * kLanes; i >= 0; i -= kLanes) {
      const int left = count - first - i < kGroupRows - i ? count - first - i : kGroupRows - i;
      PackTransposed<E, kGroupRows>(rows.data + (first + i) * rows.stride, rows.stride,
                                    left < 0 ? 0 : left, d, Splat(scale), to + i);
    }
  }
}

// Where a product may be a binary32 although the scale is none.
template <typename E>
void PackWithHugeScale(const ElementRows& rows, int count, int d, double scale, float* packed) {
  PackQueriesOf<E>(rows, count, d, 1.0f, packed);
  const int padded = RoundUp(count, kGroupRows);
  for (int i = 0; i < padded * d; ++i) packed[i] = static_cast<float>(packed[i] * scale);
}

inline void PackQueries(const ElementRows& rows, int count, int d, double scale, void* packed) {
  float* to = static_cast<float*>(packed);
  const double size = scale < 0 ? -scale : scale;
  WithElement(rows.element, [&](auto e) {
    using E = decltype(e);
    if (size > 0x1p-100 && size < 0x1p100) {
      PackQueriesOf<E>(rows, count, d, static_cast<float>(scale), to);
    } else {
      PackWithHugeScale<E>(rows, count, d, scale, to);
    }
  });
}

inline std::int64_t KeyBytes(std::int64_t keys, int d) {
  return (keys + kPanelKeys) * d * static_cast<std::int64_t>(sizeof(float));
}

inline void PackKeys(const ElementRows& rows, std::int64_t count, int d, void* packed) {
  WithElement(rows.element, [&](auto e) {
    for (std::int64_t first = 0; first < count; first += kPanelKeys) {
      float* to = static_cast<float*>(packed) + first * d;
      for (int i = 0; i < kPanelKeys; i += kLanes) {
        const std::int64_t left = count - first - i;
        PackTransposed<decltype(e), kPanelKeys>(rows.data + (first + i) * rows.stride, rows.stride,
                                                static_cast<int>(left < 0        ? 0
                                                                 : left < kLanes ? left
                                                                                 : kLanes),
                                                d, Splat(1.0f), to + i);
      }
    }
  });
}

inline std::int64_t ValueBytes(std::int64_t keys, int d_v) {
  return keys * RoundUp(d_v, kLanes) * static_cast<std::int64_t>(sizeof(float));
}

ELSA_INLINE bool All(I32 lanes) {
  std::int32_t all = -1;
  for (int i = 0; i < kLanes; ++i) all &= lanes[i];
  return all != 0;
}

template <typename E, int kVectors>
ELSA_INLINE I32 PackColumns(const ElementRows& rows, std::int64_t count, int column, int width,
                            float* to) {
  I32 finite = SplatInt(-1);
  for (std::int64_t j = 0; j < count; ++j) {
    const std::byte* from = rows.data + j * rows.stride + column * E::kBytes;
    __builtin_prefetch(from + 16 * rows.stride);
    for (int v = 0; v < kVectors; ++v) {
      const int left = width - v * kLanes;
      const F32 x = LoadElements<E>(from + v * kLanes * E::kBytes, left);
      const I32 good = x - x == F32{};
      finite &= good;
      Store(to + (j * kVectors + v) * kLanes, (F32)((I32)x & good));
    }
  }
  return finite;
}

inline bool PackValues(const ElementRows& rows, std::int64_t count, int d_v, void* packed) {
  return WithElement(rows.element, [&](auto e) {
    I32 finite = SplatInt(-1);
    for (int c = 0; c < d_v; c += kPanelColumns) {
      float* to = static_cast<float*>(packed) + c * count;
      if (d_v - c > kLanes) {
        finite &= PackColumns<decltype(e), 2>(rows, count, c, d_v - c, to);
      } else {
        finite &= PackColumns<decltype(e), 1>(rows, count, c, d_v - c, to);
      }
    }
    return All(finite);
  });
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_EXACT_PACK_H_
