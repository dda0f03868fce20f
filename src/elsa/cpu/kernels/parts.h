// Vectors that are whole but for the last of a row. Only for kernels/*.cc.
#ifndef ELSA_CPU_KERNELS_PARTS_H_
#define ELSA_CPU_KERNELS_PARTS_H_

#include "elsa/cpu/kernels/simd.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

// LoadPart and StorePart, made for counts that are nearly always kLanes.
ELSA_INLINE F32 LoadUpTo(const float* from, int count) {
  return __builtin_expect(count == kLanes, 1) ? Load(from) : LoadPart(from, count);
}
ELSA_INLINE void StoreUpTo(float* to, F32 x, int count) {
  if (__builtin_expect(count == kLanes, 1)) {
    Store(to, x);
  } else {
    StorePart(to, x, count);
  }
}

}  // namespace elsa::cpu::ELSA_CPU_TARGET

#endif  // ELSA_CPU_KERNELS_PARTS_H_
