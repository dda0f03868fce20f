// Decoding with a key-value cache: a prompt, then one token after another, in a sliding window.
//
// Build against an installed ELSA (cmake --install build/release --prefix DIR):
//   cmake -S examples/cpp -B build/examples -DCMAKE_PREFIX_PATH=DIR && cmake --build build/examples
//   build/examples/decode
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <random>
#include <vector>

#include "elsa/elsa.h"

namespace {

constexpr std::int64_t kHeads = 8;
constexpr std::int64_t kKvHeads = 2;  // four query heads share each head of keys and values
constexpr std::int64_t kD = 64;
constexpr std::int64_t kPrompt = 200;
constexpr std::int64_t kTokens = 50;
constexpr std::int64_t kWindow = 220;  // keys that stay

std::vector<float> Random(std::int64_t size, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& value : values) value = normal(random);
  return values;
}

void Run() {
  std::mt19937 random(1);
  elsa::cpu::KvCacheOptions options;
  options.heads = kHeads;
  options.kv_heads = kKvHeads;
  options.d = kD;
  options.d_v = kD;
  options.dtype = elsa::cpu::DType::kBf16;  // half the memory to read per token
  options.capacity = kWindow + 1;
  // With a plan, as KvCache(options, plan, layer), only the keys that it selects are read.
  elsa::cpu::KvCache cache(options);

  const auto append = [&](std::int64_t tokens) {
    const std::vector<float> key = Random(kKvHeads * tokens * kD, random);
    const std::vector<float> value = Random(kKvHeads * tokens * kD, random);
    const std::array<std::int64_t, 4> shape{1, kKvHeads, tokens, kD};
    cache.Append(elsa::View<const float, 4>(key.data(), shape),
                 elsa::View<const float, 4>(value.data(), shape));
  };
  append(kPrompt);

  elsa::cpu::DecodeOptions decode;
  decode.scale = 1 / std::sqrt(static_cast<double>(kD));
  std::vector<float> out(kHeads * kD);
  double sum = 0;
  for (std::int64_t token = 0; token < kTokens; ++token) {
    append(1);
    if (cache.size() > kWindow) cache.EvictFront(cache.size() - kWindow);
    const std::vector<float> query = Random(kHeads * kD, random);
    const std::array<std::int64_t, 4> shape{1, kHeads, 1, kD};
    cache.Attend(elsa::View<const float, 4>(query.data(), shape),
                 elsa::View<float, 4>(out.data(), shape), decode);
    for (const float x : out) sum += x;
  }
  std::printf("%lld tokens, %lld keys in %lld bytes, mean output %.4f\n",
              static_cast<long long>(kTokens), static_cast<long long>(cache.size()),
              static_cast<long long>(cache.bytes()), sum / (kTokens * kHeads * kD));
}

}  // namespace

int main() {
  try {
    Run();
    return 0;
  } catch (const std::exception& error) {  // elsa::Error, or no memory
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
