// Vectors of the processor taken apart into their elements: what the emulated instructions are
// written with. Everything is static: each kernel object has its own.
#ifndef ELSA_TESTS_EMULATED_LANES_H_
#define ELSA_TESTS_EMULATED_LANES_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#define ELSA_EMULATED [[maybe_unused]] static inline

namespace elsa_emulated {

// The elements of type E of a vector V.
template <typename E, typename V>
struct Lanes {
  static constexpr int kCount = sizeof(V) / sizeof(E);
  E e[kCount];

  Lanes() = default;
  explicit Lanes(V from) { std::memcpy(e, &from, sizeof(V)); }
  E& operator[](int i) { return e[i]; }
  const E& operator[](int i) const { return e[i]; }
  operator V() const {
    V to;
    std::memcpy(&to, e, sizeof(V));
    return to;
  }
};

// The vector whose element i is f(i).
template <typename E, typename V, typename F>
ELSA_EMULATED V Each(F f) {
  Lanes<E, V> to;
  for (int i = 0; i < Lanes<E, V>::kCount; ++i) to[i] = static_cast<E>(f(i));
  return to;
}

// f(a[i]); f(a[i], b[i]).
template <typename E, typename V, typename F>
ELSA_EMULATED V Map(V a, F f) {
  const Lanes<E, V> x(a);
  return Each<E, V>([&](int i) { return f(x[i]); });
}
template <typename E, typename V, typename F>
ELSA_EMULATED V Map(V a, V b, F f) {
  const Lanes<E, V> x(a);
  const Lanes<E, V> y(b);
  return Each<E, V>([&](int i) { return f(x[i], y[i]); });
}

// Bit i is f(a[i], b[i]).
template <typename E, typename Mask, typename V, typename F>
ELSA_EMULATED Mask Test(V a, V b, F f) {
  const Lanes<E, V> x(a);
  const Lanes<E, V> y(b);
  Mask mask = 0;
  for (int i = 0; i < Lanes<E, V>::kCount; ++i) {
    mask |= static_cast<Mask>(static_cast<Mask>(f(x[i], y[i])) << i);
  }
  return mask;
}

ELSA_EMULATED bool Bit(std::uint64_t mask, int i) { return ((mask >> i) & 1) != 0; }

// Element i of `yes` where bit i is set, of `no` elsewhere.
template <typename E, typename V>
ELSA_EMULATED V Blend(std::uint64_t mask, V no, V yes) {
  const Lanes<E, V> x(no);
  const Lanes<E, V> y(yes);
  return Each<E, V>([&](int i) { return Bit(mask, i) ? y[i] : x[i]; });
}

// Only elements whose bit is set are touched in memory; the others are those of `no`.
template <typename E, typename V>
ELSA_EMULATED V MaskedLoad(std::uint64_t mask, V no, const void* from) {
  Lanes<E, V> to(no);
  for (int i = 0; i < Lanes<E, V>::kCount; ++i) {
    if (Bit(mask, i)) std::memcpy(&to[i], static_cast<const E*>(from) + i, sizeof(E));
  }
  return to;
}
template <typename E, typename V>
ELSA_EMULATED void MaskedStore(void* to, std::uint64_t mask, V value) {
  const Lanes<E, V> x(value);
  for (int i = 0; i < Lanes<E, V>::kCount; ++i) {
    if (Bit(mask, i)) std::memcpy(static_cast<E*>(to) + i, &x[i], sizeof(E));
  }
}

// The elements whose bit is set, moved together; zeros after them.
template <typename E, typename V>
ELSA_EMULATED V Compress(std::uint64_t mask, V a) {
  const Lanes<E, V> x(a);
  Lanes<E, V> to{};
  int n = 0;
  for (int i = 0; i < Lanes<E, V>::kCount; ++i) {
    if (Bit(mask, i)) to[n++] = x[i];
  }
  return to;
}

template <typename V>
ELSA_EMULATED V LoadAny(const void* from) {
  V to;
  std::memcpy(&to, from, sizeof(V));
  return to;
}
template <typename V>
ELSA_EMULATED void StoreAny(void* to, V value) {
  std::memcpy(to, &value, sizeof(V));
}

// Between vectors of different element types or sizes: as many elements as fit, zeros above.
template <typename To, typename ToV, typename From, typename FromV, typename F>
ELSA_EMULATED ToV Convert(FromV a, F f) {
  const Lanes<From, FromV> x(a);
  return Each<To, ToV>(
      [&](int i) { return i < Lanes<From, FromV>::kCount ? static_cast<To>(f(x[i])) : To(); });
}
template <typename To, typename ToV, typename From, typename FromV>
ELSA_EMULATED ToV Convert(FromV a) {
  return Convert<To, ToV, From>(a, [](From x) { return static_cast<To>(x); });
}

// The same bits in a vector of another size; zeros above.
template <typename ToV, typename FromV>
ELSA_EMULATED ToV Resize(FromV a) {
  ToV to{};
  std::memcpy(&to, &a, sizeof(ToV) < sizeof(FromV) ? sizeof(ToV) : sizeof(FromV));
  return to;
}

// Sums of halves, as the compiler's _mm512_reduce_* do it.
template <typename E, typename V, typename F>
ELSA_EMULATED E Reduce(V a, F f) {
  Lanes<E, V> x(a);
  for (int half = Lanes<E, V>::kCount / 2; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) x[i] = f(x[i], x[i + half]);
  }
  return x[0];
}

ELSA_EMULATED std::uint16_t RoundToBf16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<std::uint16_t>(bits >> 16 | 0x40);
  // The instructions take denormals for zeros.
  if ((bits & 0x7f800000u) == 0) return static_cast<std::uint16_t>((bits & 0x80000000u) >> 16);
  return static_cast<std::uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
ELSA_EMULATED float WidenBf16(std::uint16_t half) {
  const std::uint32_t bits = static_cast<std::uint32_t>(half) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

}  // namespace elsa_emulated

#endif  // ELSA_TESTS_EMULATED_LANES_H_
