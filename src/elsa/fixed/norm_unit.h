// Key norms: the dot product of a key with itself, then the square root. Source: Sec. IV-C "Norm
// Computation Module". The product uses an attention unit's multipliers; it is exact.
#ifndef ELSA_FIXED_NORM_UNIT_H_
#define ELSA_FIXED_NORM_UNIT_H_

#include <cstdint>
#include <span>

#include "elsa/fixed/sqrt_unit.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

class NormUnit {
 public:
  explicit NormUnit(const Config& config)
      : sqrt_(config), key_fraction_bits_(config.qkv_fraction_bits), bits_(config.norm_bits) {}

  static std::int64_t Square(std::span<const std::int16_t> key) {
    std::int64_t sum = 0;
    for (const std::int64_t x : key) sum += x * x;
    return sum;
  }

  // The stored norm of a key whose square this is: |key| * 2^norm_shift to nearest, norm_bits wide.
  std::int64_t Norm(std::int64_t square, std::int64_t norm_shift, bool* saturated = nullptr) const {
    return sqrt_.Root(square, norm_shift - key_fraction_bits_, bits_, saturated);
  }

 private:
  SqrtUnit sqrt_;
  std::int64_t key_fraction_bits_;
  std::int64_t bits_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_NORM_UNIT_H_
