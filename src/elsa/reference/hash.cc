#include "elsa/reference/hash.h"

#include <algorithm>
#include <bit>
#include <string>

#include "elsa/base/error.h"
#include "elsa/base/random.h"
#include "elsa/params/hash_shape.h"
#include "elsa/reference/gram_schmidt.h"

namespace elsa::reference {
namespace {

Matrix DrawFactor(HashKind kind, const FactorShape& shape, Random& random) {
  const std::vector<double> values = kind == HashKind::kGaussian
                                         ? RandomNormalMatrix(shape.rows, shape.cols, random)
                                         : RandomOrthonormalRows(shape.rows, shape.cols, random);
  return {shape.rows, shape.cols, std::vector<float>(values.begin(), values.end())};
}

std::vector<HashBatch> DrawHadamard(std::int64_t d, std::int64_t k, Random& random) {
  const auto size = static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(d)));
  std::vector<HashBatch> batches;
  for (std::int64_t left = k; left > 0; left -= d) {
    HashBatch batch{std::min(left, d), {}};
    for (int round = 0; round < 3; ++round) {
      Matrix signs{1, size, std::vector<float>(size)};
      for (float& value : signs.values) value = (random.Next() >> 63) != 0 ? -1.0f : 1.0f;
      batch.factors.push_back(std::move(signs));
    }
    batches.push_back(std::move(batch));
  }
  return batches;
}

}  // namespace

HashSpec MakeHash(HashKind kind, std::int64_t d, std::int64_t k, std::uint64_t seed) {
  if (d < 1 || d > kMaxHashDimension) {
    throw Error(ErrorCode::kInvalidArgument,
                "hash: d: expected 1 to 1024 components, got " + std::to_string(d));
  }
  if (k < 1 || k > kMaxHashBits) {
    throw Error(ErrorCode::kInvalidArgument,
                "hash: k: expected 1 to 4096 bits, got " + std::to_string(k));
  }
  Random random(seed);
  HashSpec hash{kind, d, k, seed, {}};
  if (kind == HashKind::kHadamard) {
    hash.batches = DrawHadamard(d, k, random);
    return hash;
  }
  for (const BatchShape& shape : HashShapes(kind, d, k)) {
    HashBatch batch{shape.bits, {}};
    for (const FactorShape& factor : shape.factors) {
      batch.factors.push_back(DrawFactor(kind, factor, random));
    }
    hash.batches.push_back(std::move(batch));
  }
  return hash;
}

void RequireHashTakes(const HashSpec& hash, std::int64_t d) {
  if (d >= 1 && d <= hash.d) return;
  throw Error(ErrorCode::kMismatch, "hash: expected vectors of 1 to " + std::to_string(hash.d) +
                                        " components, got " + std::to_string(d));
}

HashBits HashVectors(const HashSpec& hash, std::span<const float> vectors,
                     std::optional<std::int64_t> components) {
  const std::int64_t d = components.value_or(hash.d);
  RequireHashTakes(hash, d);
  const std::vector<std::int64_t> position = InputPositions(hash, d);
  constexpr std::int64_t kBlock = 64;  // vectors side by side: as fast as it gets, and in the cache
  const auto count = static_cast<std::int64_t>(vectors.size()) / d;
  const std::int64_t words = (hash.k + 63) / 64;
  HashBits bits(count * words);
  std::vector<float> x;
  std::vector<float> projections;
  for (std::int64_t first = 0; first < count; first += kBlock) {
    const std::int64_t block = std::min(kBlock, count - first);
    x.assign(hash.d * block, 0.0f);
    for (std::int64_t v = 0; v < block; ++v) {
      for (std::int64_t c = 0; c < d; ++c) {
        x[position[c] * block + v] = vectors[(first + v) * d + c];
      }
    }
    projections.resize(hash.k * block);
    Project<float>(hash, x, projections, block);
    for (std::int64_t i = 0; i < hash.k; ++i) {
      for (std::int64_t v = 0; v < block; ++v) {
        const std::uint64_t bit = projections[i * block + v] >= 0 ? 1 : 0;
        bits[(first + v) * words + i / 64] |= bit << (i % 64);
      }
    }
  }
  return bits;
}

}  // namespace elsa::reference
