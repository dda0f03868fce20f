#include "elsa/reference/angle.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "elsa/base/error.h"
#include "elsa/base/portable_math.h"
#include "elsa/base/random.h"
#include "elsa/reference/hash.h"

namespace elsa::reference {

double EstimatedAngle(std::int64_t k, double theta_bias_rad, int distance) {
  return std::clamp(kPi / static_cast<double>(k) * distance - theta_bias_rad, 0.0, kPi);
}

std::vector<float> CosineTable(std::int64_t k, double theta_bias_rad) {
  std::vector<float> table(k + 1);
  for (std::int64_t distance = 0; distance <= k; ++distance) {
    table[distance] = static_cast<float>(
        PortableCos(EstimatedAngle(k, theta_bias_rad, static_cast<int>(distance))));
  }
  return table;
}

double TrueAngle(const float* a, const float* b, std::int64_t d) {
  double dot = 0;
  double aa = 0;
  double bb = 0;
  for (std::int64_t i = 0; i < d; ++i) {
    dot += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  if (aa == 0 || bb == 0) return kPi / 2;
  return PortableAcos(dot / (std::sqrt(aa) * std::sqrt(bb)));
}

double Percentile(std::vector<double>& values, double percentile) {
  const auto rank =
      static_cast<std::int64_t>(std::ceil(percentile * static_cast<double>(values.size())));
  const auto at = values.begin() + std::max<std::int64_t>(rank - 1, 0);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double MeasureThetaBias(const HashSpec& hash, std::optional<std::int64_t> components,
                        std::int64_t pairs, std::uint64_t seed) {
  if (pairs < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                "theta_bias: pairs: expected 1 or more, got " + std::to_string(pairs));
  }
  const std::int64_t d = components.value_or(hash.d);
  RequireHashTakes(hash, d);
  constexpr std::int64_t kBlock = 512;  // pairs hashed at once
  Random random(~seed);  // not the stream that a hash of the same seed was drawn from
  const std::int64_t words = (hash.k + 63) / 64;
  std::vector<float> vectors(2 * kBlock * d);  // a, b, a, b, ...
  HashBits bits;
  std::vector<double> errors(pairs);
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    const std::int64_t at = pair % kBlock;
    if (at == 0) {
      for (float& value : vectors) value = static_cast<float>(random.Normal());
      bits = HashVectors(hash, vectors, d);
    }
    const auto hash_of = [&](std::int64_t v) { return std::span(bits).subspan(v * words, words); };
    const float* a = &vectors[2 * at * d];
    const int distance = HammingDistance(hash_of(2 * at), hash_of(2 * at + 1));
    errors[pair] = kPi / static_cast<double>(hash.k) * distance - TrueAngle(a, a + d, d);
  }
  return Percentile(errors, kThetaBiasPercentile);
}

}  // namespace elsa::reference
