// Integer divisions and logarithms that round up.
#ifndef ELSA_BASE_INTEGER_MATH_H_
#define ELSA_BASE_INTEGER_MATH_H_

#include <cstdint>

namespace elsa {

// ceil(a / b) for a >= 0, b > 0.
constexpr std::int64_t CeilDiv(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

// ceil(log2(value)) for value >= 1: the bits that tell `value` things apart.
constexpr std::int64_t CeilLog2(std::int64_t value) {
  std::int64_t bits = 0;
  while ((std::int64_t{1} << bits) < value) ++bits;
  return bits;
}

}  // namespace elsa

#endif  // ELSA_BASE_INTEGER_MATH_H_
