#include "elsa/fixed/hash_unit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <tuple>

#include "elsa/base/random.h"
#include "elsa/params/hash_shape.h"

namespace elsa::fixed {
namespace {

HashRegisters RandomRegisters(const Config& config, Random& random) {
  HashRegisters registers;
  const std::uint64_t range = std::uint64_t{2} << config.hash_fraction_bits;
  for (const BatchShape& batch : HashShapes(config.hash, config.d, config.k)) {
    std::vector<HashFactor> factors;
    for (const FactorShape& shape : batch.factors) {
      HashFactor factor{shape.rows, shape.cols, {}};
      for (std::int64_t i = 0; i < shape.rows * shape.cols; ++i) {
        factor.values.push_back(static_cast<std::int32_t>(random.Below(range)) -
                                static_cast<std::int32_t>(range / 2));
      }
      factors.push_back(factor);
    }
    registers.batches.push_back(factors);
    registers.bits.push_back(batch.bits);
  }
  return registers;
}

std::vector<std::int16_t> RandomRow(std::int64_t d, std::int64_t bits, Random& random) {
  std::vector<std::int16_t> row(d);
  for (std::int16_t& x : row) x = static_cast<std::int16_t>(random.Below(2 << bits) - (1u << bits));
  return row;
}

// Row r of the Kronecker product, applied at once: what stages give if they drop no bits.
std::int64_t Exact(const std::vector<HashFactor>& factors, const std::vector<std::int16_t>& row,
                   std::int64_t r) {
  std::int64_t sum = 0;
  for (std::int64_t c = 0; c < static_cast<std::int64_t>(row.size()); ++c) {
    std::int64_t product = row[c];
    std::int64_t rest_r = r;
    std::int64_t rest_c = c;
    for (auto f = factors.rbegin(); f != factors.rend(); ++f) {
      product *= f->values[rest_r % f->rows * f->cols + rest_c % f->cols];
      rest_r /= f->rows;
      rest_c /= f->cols;
    }
    sum += product;
  }
  return sum;
}

TEST(HashUnit, ADenseHashIsAMatrixProductCutByFloor) {
  Random random(4);
  Config config;
  config.hash = HashKind::kDense;
  config.d = 16;
  config.k = 24;  // two batches
  const HashRegisters registers = RandomRegisters(config, random);
  for (int trial = 0; trial < 50; ++trial) {
    const auto row = RandomRow(config.d, 8, random);
    const auto projections = Project(config, registers, row);
    ASSERT_EQ(projections.size(), 24u);
    for (std::int64_t i = 0; i < config.k; ++i) {
      const std::int64_t exact = Exact(registers.batches[i / 16], row, i % 16);
      EXPECT_EQ(projections[i], exact >> 3);  // 3 + 5 fraction bits, 5 kept
    }
  }
}

// Each stage cuts off less than one unit; a later stage multiplies that by at most its row sum of
// magnitudes. So the staged result is at most that much below the exact one.
TEST(HashUnit, StagesOfAKroneckerHashLoseOnlyWhatFloorDrops) {
  for (const auto& [kind, d, k] : {std::tuple{HashKind::kKronecker3, 64, 64},
                                   {HashKind::kKronecker2, 64, 40},
                                   {HashKind::kKronecker3, 32, 64}}) {
    Random random(5);
    Config config;
    config.hash = kind;
    config.d = d;
    config.k = k;
    const HashRegisters registers = RandomRegisters(config, random);
    const auto stages = static_cast<int>(registers.batches[0].size());
    for (int trial = 0; trial < 30; ++trial) {
      const auto row = RandomRow(d, 8, random);
      const auto projections = Project(config, registers, row);
      std::int64_t first = 0;
      for (std::size_t b = 0; b < registers.batches.size(); ++b) {
        for (std::int64_t i = 0; i < registers.bits[b]; ++i) {
          const double exact = std::ldexp(static_cast<double>(Exact(registers.batches[b], row, i)),
                                          -3 - 5 * stages + 5);
          // Entries are below 1 in magnitude, factors have at most 8 columns.
          const double bound = stages == 3 ? 1 + 4 + 16 : 1 + 8;
          EXPECT_LE(std::abs(static_cast<double>(projections[first + i]) - exact), bound);
        }
        first += registers.bits[b];
      }
    }
  }
}

TEST(HashUnit, BitIsOneFromZeroOn) {
  Config config;
  config.hash = HashKind::kDense;
  config.d = 2;
  config.k = 2;
  HashRegisters registers;
  registers.batches = {{HashFactor{2, 2, {1, 0, -1, 0}}}};
  registers.bits = {2};
  // Rows (8, 0), (0, 0), (-8, 0), (1, 0): 1 * 1 / 8 is cut to 0, -1 / 8 to -1.
  const std::vector<std::int16_t> rows{8, 0, 0, 0, -8, 0, 1, 0};
  EXPECT_EQ(HashRows(config, registers, rows), (std::vector<std::uint64_t>{1, 3, 2, 1}));
}

TEST(HashUnit, LargestValuesDoNotOverflow) {
  Config config;
  config.d = 1024;
  config.k = 1024;
  config.hash = HashKind::kKronecker2;
  config.hash_fraction_bits = 14;
  config.hash_stage_fraction_bits = 17;
  config.qkv_integer_bits = 6;
  Random random(1);
  HashRegisters registers = RandomRegisters(config, random);
  for (HashFactor& factor : registers.batches[0]) {
    for (std::int32_t& value : factor.values) value = -(1 << 14);
  }
  const std::vector<std::int16_t> row(1024, -512);
  // -1 * -1 * -512 units of 2^-3, 1024 of them.
  EXPECT_EQ(Project(config, registers, row)[0], std::int64_t{-512} * 1024 << 14);
}

}  // namespace
}  // namespace elsa::fixed
