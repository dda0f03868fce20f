#include "elsa/fixed/hash_unit.h"

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

// out[o][r][i] = floor(sum over c of factor[r][c] * in[o][c][i] / 2^shift).
std::vector<std::int64_t> ApplyFactor(const HashFactor& factor, const std::vector<std::int64_t>& in,
                                      std::int64_t outer, std::int64_t inner, std::int64_t shift) {
  std::vector<std::int64_t> out(outer * factor.rows * inner, 0);
  for (std::int64_t o = 0; o < outer; ++o) {
    for (std::int64_t r = 0; r < factor.rows; ++r) {
      std::int64_t* to = &out[(o * factor.rows + r) * inner];
      for (std::int64_t c = 0; c < factor.cols; ++c) {
        const std::int64_t a = factor.values[r * factor.cols + c];
        const std::int64_t* from = &in[(o * factor.cols + c) * inner];
        for (std::int64_t i = 0; i < inner; ++i) to[i] += a * from[i];
      }
      for (std::int64_t i = 0; i < inner; ++i) to[i] >>= shift;
    }
  }
  return out;
}

}  // namespace

std::vector<std::int64_t> Project(const Config& config, const HashRegisters& registers,
                                  std::span<const std::int16_t> row) {
  std::vector<std::int64_t> projections;
  for (std::size_t b = 0; b < registers.batches.size(); ++b) {
    std::vector<std::int64_t> x(row.begin(), row.end());
    std::int64_t fraction_bits = config.qkv_fraction_bits;
    std::int64_t outer = config.d;
    std::int64_t inner = 1;
    const std::vector<HashFactor>& factors = registers.batches[b];
    for (auto factor = factors.rbegin(); factor != factors.rend(); ++factor) {
      outer /= factor->cols;
      const std::int64_t shift =
          fraction_bits + config.hash_fraction_bits - config.hash_stage_fraction_bits;
      x = ApplyFactor(*factor, x, outer, inner, shift);
      inner *= factor->rows;
      fraction_bits = config.hash_stage_fraction_bits;
    }
    projections.insert(projections.end(), x.begin(), x.begin() + registers.bits[b]);
  }
  return projections;
}

std::vector<std::uint64_t> HashRows(const Config& config, const HashRegisters& registers,
                                    std::span<const std::int16_t> rows) {
  const std::int64_t words = (config.k + 63) / 64;
  const std::int64_t count = static_cast<std::int64_t>(rows.size()) / config.d;
  std::vector<std::uint64_t> bits(count * words, 0);
  for (std::int64_t row = 0; row < count; ++row) {
    const auto projections = Project(config, registers, rows.subspan(row * config.d, config.d));
    for (std::int64_t i = 0; i < config.k; ++i) {
      const std::uint64_t bit = projections[i] >= 0 ? 1 : 0;
      bits[row * words + i / 64] |= bit << (i % 64);
    }
  }
  return bits;
}

}  // namespace elsa::fixed
