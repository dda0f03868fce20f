#include "elsa/params/derived.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

#include "elsa/base/error.h"
#include "elsa/params/repository_file_test.h"

namespace elsa {
namespace {

Derived DeriveFile(const std::string& path) {
  return Derive(ParseConfig(RepositoryFile(path), path));
}

TEST(Derived, PaperMachineHasThePapersNumbers) {
  const Derived v = DeriveFile("configs/paper.toml");
  EXPECT_EQ(v.operations_per_cycle, 1088);  // V-C: 1.088 TOPS at 1 GHz
  EXPECT_EQ(v.peak_ops_per_s, 1'088'000'000'000);
  EXPECT_EQ(std::lround(static_cast<double>(v.total_peak_ops_per_s) * 1e-12), 13);  // V-C: 13 TOPS
  EXPECT_EQ(v.division_adders, 48);
  EXPECT_EQ(v.ideal_multipliers, 528);     // V-C
  EXPECT_EQ(v.hash_multiplications, 768);  // III-C
  EXPECT_EQ(v.hash_registers, 48);         // IV-C
  EXPECT_EQ(v.hash_cycles, 3);
  EXPECT_EQ(v.preprocess_cycles, 1539);  // 3 (n + 1), IV-D
  EXPECT_EQ(v.max_speedup, 8);           // P_c
  EXPECT_EQ(v.exact_execute_cycles, 65536);
  EXPECT_EQ(std::lround(v.ideal_cycles), 63550);
  EXPECT_EQ(std::lround(v.exact_over_ideal * 100), 103);  // V-C: 1.03x
  EXPECT_EQ(v.selectors, 32);                             // Table I
  EXPECT_EQ(v.cosine_table_entries, 65);                  // IV-C: k + 1
  EXPECT_EQ(v.qkv_bits, 9);                               // IV-C
  EXPECT_EQ(v.float_bits, 16);
  EXPECT_EQ(v.key_hash_bytes, 4 * 1024);  // IV-C: 4 KB
  EXPECT_EQ(v.key_norm_bytes, 512);       // IV-C
  EXPECT_EQ(v.matrix_bytes, 36 * 1024);   // IV-C: 36 KB
}

TEST(Derived, SinglePipelineReachesEightTimesFrom96RowsOn) {
  const Derived v = DeriveFile("configs/single.toml");  // the example of IV-D
  EXPECT_EQ(v.full_speedup_min_n, 96);
  EXPECT_EQ(v.max_speedup, 8);
  EXPECT_EQ(v.hash_cycles, 12);
  EXPECT_EQ(v.scan_cycles, 64);
  EXPECT_EQ(v.division_cycles, 8);
  EXPECT_EQ(v.query_min_cycles, 64);
  EXPECT_EQ(v.exact_query_cycles, 512);
  EXPECT_EQ(v.preprocess_cycles, 6156);
  EXPECT_EQ(v.division_adders, 0);
  EXPECT_EQ(v.operations_per_cycle, 264);
  EXPECT_EQ(v.ideal_multipliers, 136);
}

TEST(Derived, OneRowFewerThanTheMinimumCostsSpeedup) {
  Config config = ParseConfig(RepositoryFile("configs/single.toml"), "single.toml");
  config.n = 96;
  EXPECT_EQ(Derive(config).max_speedup, 8);
  config.n = 95;
  EXPECT_LT(Derive(config).max_speedup, 8);
}

TEST(Derived, TinyMachineEqualsTheHandComputation) {
  // n = 16, d = k = 8 = 2 x 2 x 2, P_a = P_c = 2, m_h = 16, m_o = 4.
  const Derived v = DeriveFile("configs/tiny.toml");
  EXPECT_EQ(v.operations_per_cycle, 72);  // 2 (16 + 16) + 4 + 4
  EXPECT_EQ(v.ideal_multipliers, 36);     // 2 * 16 + 4
  EXPECT_EQ(v.hash_multiplications, 48);  // 3 stages of 4 products of a 2 x 2 matrix and a vector
  EXPECT_EQ(v.hash_registers, 12);
  EXPECT_EQ(v.hash_cycles, 3);
  EXPECT_EQ(v.preprocess_cycles, 51);  // 17 vectors
  EXPECT_EQ(v.keys_per_bank, 8);
  EXPECT_EQ(v.scan_cycles, 4);
  EXPECT_EQ(v.division_cycles, 2);
  EXPECT_EQ(v.query_min_cycles, 4);
  EXPECT_EQ(v.exact_query_cycles, 8);
  EXPECT_EQ(v.max_speedup, 2);
  EXPECT_EQ(v.full_speedup_min_n, 12);
  EXPECT_EQ(v.exact_execute_cycles, 128);
  EXPECT_DOUBLE_EQ(v.ideal_cycles, 4096.0 / 36);
  EXPECT_DOUBLE_EQ(v.exact_over_ideal, 1.125);
  EXPECT_EQ(v.key_hash_bytes, 16);
  EXPECT_EQ(v.key_norm_bytes, 16);
  EXPECT_EQ(v.matrix_bytes, 144);
}

TEST(Derived, ShortInputsAreBoundByTheDivision) {
  Config config;
  config.n = 8;
  config.selectors_per_bank = 2;
  config.division_multipliers = 1;
  const Derived v = Derive(config);
  EXPECT_EQ(v.exact_query_cycles, 64);  // d / m_o, not n / P_a = 2
  EXPECT_EQ(v.query_min_cycles, 64);
  EXPECT_EQ(v.exact_execute_cycles, 512);
}

TEST(Derived, LargestMachineDoesNotOverflow) {
  Config config;
  config.n = 65536;
  config.d = 1024;
  config.k = 4096;
  config.hash = HashKind::kDense;
  config.banks = 256;
  config.selectors_per_bank = 256;
  config.hash_multipliers = 65536;
  config.division_multipliers = 1024;
  config.clock_hz = 10'000'000'000;
  config.accelerators = 256;
  const Derived v = Derive(config);
  const double operations = 256 * 4096.0 + 1024 + 255 * 1024.0;
  EXPECT_DOUBLE_EQ(static_cast<double>(v.total_peak_ops_per_s), operations * 1e10 * 256);
  EXPECT_DOUBLE_EQ(v.ideal_cycles, 2.0 * 65536 * 65536 * 1024 / (256 * 2048 + 1024));
}

TEST(Derived, RefusesAnInvalidConfig) {
  Config config;
  config.banks = 0;
  EXPECT_THROW(Derive(config), Error);
}

TEST(Derived, TableHasEveryMemberOnce) {
  std::set<std::string_view> names;
  for (const DerivedField& field : DerivedFields()) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    EXPECT_FALSE(field.unit.empty() || field.formula.empty() || field.doc.empty()) << field.name;
  }
  EXPECT_EQ(names.size() * 8, sizeof(Derived));  // all members are 8 bytes wide
}

TEST(Derived, ValueTextIsExactForIntegersAndEightDigitsElse) {
  const Derived v = Derive(Config());
  std::map<std::string_view, std::string> text;
  for (const DerivedField& field : DerivedFields()) text[field.name] = ValueText(v, field);
  EXPECT_EQ(text["total_peak_ops_per_s"], "13056000000000");
  EXPECT_EQ(text["ideal_cycles"], "63550.061");
  EXPECT_EQ(text["exact_over_ideal"], "1.03125");
  EXPECT_EQ(text["max_speedup"], "8");
}

}  // namespace
}  // namespace elsa
