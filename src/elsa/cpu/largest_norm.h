// K_max: the largest norm among the keys that a query sees and whose norm is finite. Source: Sec.
// III-D step 2; docs/reference/selection.md.
#ifndef ELSA_CPU_LARGEST_NORM_H_
#define ELSA_CPU_LARGEST_NORM_H_

#include <cstdint>
#include <vector>

#include "elsa/cpu/key_sketch.h"
#include "elsa/cpu/visibility.h"

namespace elsa::cpu {

class LargestNorm {
 public:
  LargestNorm() = default;
  LargestNorm(const Sketch& keys, const Visibility& visibility);

  // Over the keys below `end`, and of these the visible ones where queries have masks of their own
  // (else `visible` is not read). 0 if there is none.
  float Of(std::int64_t end, const std::uint64_t* visible) const;
  // The smallest end for which Of(end) is `norm`; only where queries share their mask.
  std::int64_t FirstEndOf(float norm) const;

 private:
  // Where queries share their mask: the largest norm before each end.
  std::vector<float> before_;
  // Where they do not: keys by falling norm. The first visible one has the largest: few are tried,
  // unless a query sees few keys.
  std::vector<std::int32_t> falling_;
  const float* norms_ = nullptr;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_LARGEST_NORM_H_
