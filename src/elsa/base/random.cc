#include "elsa/base/random.h"

#include <cmath>

#include "elsa/base/portable_math.h"

namespace elsa {

std::uint64_t Random::Next() noexcept {
  state_ += 0x9e3779b97f4a7c15u;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

std::uint64_t Random::Below(std::uint64_t bound) noexcept {
  const std::uint64_t uneven = (0 - bound) % bound;  // 2^64 mod bound: values to refuse
  std::uint64_t value = Next();
  while (value < uneven) value = Next();
  return value % bound;
}

double Random::Normal() noexcept {
  if (has_spare_) {
    has_spare_ = false;
    return spare_;
  }
  double x = 0;
  double y = 0;
  double square = 0;
  do {
    x = 2 * Uniform() - 1;
    y = 2 * Uniform() - 1;
    square = x * x + y * y;
  } while (square >= 1 || square == 0);
  const double stretch = std::sqrt(-2 * PortableLog(square) / square);
  spare_ = y * stretch;
  has_spare_ = true;
  return x * stretch;
}

}  // namespace elsa
