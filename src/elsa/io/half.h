// 16-bit floats to float, exactly: every value of both formats is a float.
// Only widening: traces are read in any precision and computed in float32.
#ifndef ELSA_IO_HALF_H_
#define ELSA_IO_HALF_H_

#include <bit>
#include <cstdint>

namespace elsa::io {

// IEEE 754 binary16. NaN payloads are kept, in the high bits.
inline float HalfToFloat(std::uint16_t half) {
  const std::uint32_t sign = static_cast<std::uint32_t>(half & 0x8000) << 16;
  const std::uint32_t exponent = (half >> 10) & 0x1F;
  const std::uint32_t mantissa = half & 0x3FF;
  if (exponent == 0) {  // zero and subnormals: mantissa x 2^-24
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  // Rebias from 15 to 127; infinity and NaN keep the exponent of all ones.
  const std::uint32_t wide = exponent == 0x1F ? 0xFF : exponent + 112;
  return std::bit_cast<float>(sign | wide << 23 | mantissa << 13);
}

// bfloat16: the high half of a float.
inline float Bf16ToFloat(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace elsa::io

#endif  // ELSA_IO_HALF_H_
