// One integer per key: the largest distance at which norm * cosine[distance] > cut. Exact, because
// the rounded product never rises with the distance. Source: Sec. III-D step 6.
// Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_CUT_OFFS_H_
#define ELSA_CPU_KERNELS_CUT_OFFS_H_

#include "elsa/cpu/kernels/parts.h"
#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

inline constexpr float kLargestFinite = 0x1.fffffep127f;

// By halving; -1 if no distance passes.
inline int CutOffOf(float norm, const float* cosines, std::int64_t k, float cut) {
  std::int64_t below = -1;  // passes, or the start
  std::int64_t above = k + 1;
  while (above - below > 1) {
    const std::int64_t middle = (below + above) / 2;
    (norm * cosines[middle] > cut ? below : above) = middle;
  }
  return static_cast<int>(below);
}

typedef std::int16_t I16 __attribute__((vector_size(2 * kLanes)));

// The cut-off rises with the norm (falls, if cut < 0): all of these keys lie between the cut-offs
// of the smallest and the largest norm, so only the few distances between need a look.
inline void CutOffsBetween(const float* norms, std::int64_t count, const float* cosines,
                           std::int64_t k, int low, int high, float cut, std::int16_t* cut_offs) {
  for (std::int64_t j = 0; j < count; j += kLanes) {
    const std::int64_t left = count - j;
    const int here = static_cast<int>(left < kLanes ? left : kLanes);
    const F32 norm = LoadUpTo(norms + j, here);
    I32 cut_off = SplatInt(low);
    for (int h = low + 1; h <= high; ++h) cut_off -= norm * Splat(cosines[h]) > cut;
    const I32 finite = norm <= kLargestFinite;
    cut_off = (finite & cut_off) | (~finite & SplatInt(static_cast<std::int32_t>(k)));
    const I16 narrow = __builtin_convertvector(cut_off, I16);
    std::memcpy(cut_offs + j, &narrow, static_cast<std::size_t>(here) * sizeof(*cut_offs));
  }
}

inline void CutOffs(const float* norms, std::int64_t count, const float* cosines, std::int64_t k,
                    float cut, std::int16_t* cut_offs) {
  constexpr std::int64_t kChunk = 512;
  for (std::int64_t first = 0; first < count; first += kChunk) {
    const std::int64_t here = count - first < kChunk ? count - first : kChunk;
    const float* from = norms + first;
    float least = kLargestFinite;
    float most = 0;
    std::int64_t j = 0;
    if (here >= kLanes) {
      F32 lows = Splat(least);
      F32 highs{};
      for (; j + kLanes <= here; j += kLanes) {
        const F32 norm = Load(from + j);
        lows = norm < lows ? norm : lows;
        highs = ((norm > highs) & (norm <= kLargestFinite)) ? norm : highs;
      }
      for (int i = 0; i < kLanes; ++i) {
        least = lows[i] < least ? lows[i] : least;
        most = highs[i] > most ? highs[i] : most;
      }
    }
    for (; j < here; ++j) {
      if (from[j] < least) least = from[j];
      if (from[j] > most && from[j] <= kLargestFinite) most = from[j];
    }
    const int a = CutOffOf(least, cosines, k, cut);
    const int b = CutOffOf(most, cosines, k, cut);
    CutOffsBetween(from, here, cosines, k, a < b ? a : b, a < b ? b : a, cut, cut_offs + first);
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_CUT_OFFS_H_
