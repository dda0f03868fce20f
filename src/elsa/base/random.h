// Random numbers that are the same from the same seed on every platform and compiler. (The standard
// library's distributions are not.)
#ifndef ELSA_BASE_RANDOM_H_
#define ELSA_BASE_RANDOM_H_

#include <cstdint>

namespace elsa {

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  // 64 uniform bits: the SplitMix64 sequence.
  std::uint64_t Next() noexcept;
  // Uniform in [0, 1), 53 bits.
  double Uniform() noexcept { return static_cast<double>(Next() >> 11) * 0x1p-53; }
  // Uniform in [0, bound); bound > 0. Unbiased.
  std::uint64_t Below(std::uint64_t bound) noexcept;
  // Standard normal, by the polar method.
  double Normal() noexcept;

 private:
  std::uint64_t state_;
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace elsa

#endif  // ELSA_BASE_RANDOM_H_
