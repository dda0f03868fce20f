#include "elsa/cost/energy.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"
#include "elsa/cost/power.h"
#include "elsa/cost/testing.h"
#include "elsa/params/derived.h"

namespace elsa::cost {
namespace {

// Every module busy in every one of `cycles`, a multiple of the cycles of a hash and a division. A
// norm per cycle keeps half an attention unit, which takes the candidates of the rest.
sim::Report AlwaysBusy(const Config& config, std::int64_t cycles) {
  const Derived derived = Derive(config);
  sim::Report report;
  report.heads = 1;
  report.cycles = cycles;
  sim::Counters& c = report.counters;
  c.hashes = cycles / derived.hash_cycles;
  c.norms = cycles;
  c.key_tests = cycles * config.banks * config.selectors_per_bank;
  c.scan_rows = cycles * config.banks;
  c.candidates = cycles * config.banks - cycles / 2;
  c.key_row_reads = cycles * config.banks;
  c.value_row_reads = cycles * config.banks;
  c.query_row_reads = cycles;
  c.output_row_writes = cycles;
  c.divided_rows = cycles / derived.division_cycles;
  return report;
}

const ModuleEnergy& Of(const EnergyReport& energy, Module module) {
  for (const ModuleEnergy& row : energy.modules) {
    if (row.module == module) return row;
  }
  throw std::logic_error("no such module");
}

TEST(Energy, AlwaysBusyTakesThePeakPower) {
  const EnergyReport energy = Energy(Config(), TableI(), AlwaysBusy(Config(), 12'000));
  EXPECT_NEAR(energy.Milliwatts(), PeakPower(Config(), TableI()).Total(), 1e-9);
  EXPECT_NEAR(energy.Milliwatts() / 1000, 1.494, 5e-4);
  // 12000 cycles at 1 GHz.
  EXPECT_DOUBLE_EQ(energy.time_s, 12e-6);
  for (const ModuleEnergy& row : energy.modules) {
    const Figures figures = FiguresOf(row.module, Config(), TableI()).figures;
    EXPECT_NEAR(row.dynamic_pj, figures.dynamic_mw * 12'000, 1e-5) << Name(row.module);
    EXPECT_NEAR(row.static_pj, figures.static_mw * 12'000, 1e-6) << Name(row.module);
  }
}

TEST(Energy, AlwaysBusyTakesThePeakPowerOfAnyMachine) {
  for (const char* file :
       {"configs/single.toml", "configs/tiny.toml", "configs/recommended.toml"}) {
    Config config = ParseConfig(RepositoryFile(file), file);
    config.clock_hz = 700'000'000;
    const Derived derived = Derive(config);
    const std::int64_t cycles = 2 * derived.hash_cycles * derived.division_cycles * 100;
    const double peak = PeakPower(config, TableI()).Total();
    const EnergyReport energy = Energy(config, TableI(), AlwaysBusy(config, cycles));
    EXPECT_NEAR(energy.Milliwatts() / peak, 1, 1e-12) << file;
  }
}

TEST(Energy, IdleTakesLeakageOnly) {
  sim::Report report;
  report.cycles = 1000;
  const EnergyReport energy = Energy(Config(), TableI(), report);
  EXPECT_EQ(energy.dynamic_pj, 0);
  const Technology table = TableI();
  EXPECT_NEAR(energy.Milliwatts(),
              table.stated[0]->figures.static_mw + table.stated[1]->figures.static_mw, 1e-9);
  EXPECT_EQ(Energy(Config(), TableI(), {}).Milliwatts(), 0);
}

// Round table: module i from 1 has 100 i mW dynamic and i mW static; 1 GHz, so 100 i pJ per busy
// cycle and i pJ of leakage per cycle; matrix memories twice that, as there are two.
TEST(Energy, ByHand) {
  const Technology table = ParseTechnology(RoundTable(), "x.toml");
  sim::Report report;
  report.cycles = 10;
  report.counters.hashes = 2;             // 3 cycles each of 100 pJ
  report.counters.norms = 4;              // 200 pJ each, and two candidates' worth
  report.counters.key_tests = 64;         // 300 / 32 pJ each
  report.counters.candidates = 5;         // 400 / 4 pJ each
  report.counters.mean_rows = 1;          //
  report.counters.divided_rows = 2;       // 4 cycles each of 500 pJ
  report.counters.scan_rows = 2;          // 600 / 4 and 700 / 4 pJ each
  report.counters.key_hash_writes = 8;    // 600 / 32 and 700 / 32 pJ each
  report.counters.key_row_reads = 3;      // 800 / 4 pJ each
  report.counters.value_row_reads = 2;    //
  report.counters.query_row_reads = 1;    // 900 pJ each
  report.counters.output_row_writes = 1;  //
  const EnergyReport energy = Energy(Config(), table, report);
  ASSERT_EQ(energy.modules.size(), kTableModules);
  const double expected[]{600, 800, 600, 800, 4000, 450, 525, 1000, 1800};
  double sum = 0;
  for (std::size_t i = 0; i < kTableModules; ++i) {
    EXPECT_NEAR(energy.modules[i].dynamic_pj, expected[i], 1e-9) << Name(energy.modules[i].module);
    const double leakage = static_cast<double>((i + 1) * 10) * (i >= 7 ? 2 : 1);
    EXPECT_NEAR(energy.modules[i].static_pj, leakage, 1e-9);
    sum += expected[i] + leakage;
  }
  EXPECT_NEAR(energy.Total(), sum, 1e-9);
  const std::array<double, kGroups> groups{600 + 800 + 30, 600 + 30, 800 + 4000 + 90,
                                           450 + 525 + 130, 1000 + 1800 + 340};
  for (std::size_t i = 0; i < kGroups; ++i) EXPECT_NEAR(energy.by_group_pj[i], groups[i], 1e-9);
}

TEST(Energy, OfCopiesIsARowAccessEach) {
  const Technology table = ParseTechnology(RoundTable(), "x.toml");
  sim::Report report;
  report.counters.copied_bytes = 8 * 72;  // 8 rows of 64 x 9 bits
  const EnergyReport energy = Energy(Config(), table, report);
  EXPECT_NEAR(Of(energy, Module::kKeyValueMemory).dynamic_pj, 4 * 200, 1e-9);
  EXPECT_NEAR(Of(energy, Module::kQueryOutputMemory).dynamic_pj, 4 * 900, 1e-9);
  EXPECT_NEAR(energy.dynamic_pj, 4400, 1e-9);
}

TEST(Energy, ExactRunsPayNothingForSelectionButLeakage) {
  sim::Report exact;
  exact.cycles = 512 * 128;
  exact.counters.candidates = 512 * 512;
  exact.counters.key_row_reads = exact.counters.value_row_reads = 512 * 512;
  exact.counters.query_row_reads = exact.counters.output_row_writes = 512;
  exact.counters.divided_rows = 512;
  const EnergyReport energy = Energy(Config(), TableI(), exact);
  for (const Module module : {Module::kHashUnit, Module::kNormUnit, Module::kCandidateSelector,
                              Module::kKeyHashMemory, Module::kKeyNormMemory}) {
    EXPECT_EQ(Of(energy, module).dynamic_pj, 0) << Name(module);
    EXPECT_GT(Of(energy, module).static_pj, 0) << Name(module);
  }
  // Attention modules and the memories of keys and values are busy throughout.
  EXPECT_NEAR(Of(energy, Module::kAttentionUnit).dynamic_pj,
              MeasuredFigures(TableI(), Module::kAttentionUnit).dynamic_mw * 512 * 128, 1e-3);
  EXPECT_GT(energy.by_group_pj[static_cast<std::size_t>(Group::kAttention)], energy.Total() / 2);
}

TEST(Energy, MeanRowCountsTheSumsOverKeysAndItsCandidate) {
  Config config;
  config.remainder = Remainder::kMean;
  sim::Report report;
  report.cycles = 100;
  report.counters.norms = 100;
  report.counters.mean_rows = 10;
  const EnergyReport energy = Energy(config, TableI(), report);
  const ModuleFigures mean = FiguresOf(Module::kMeanRow, config, TableI());
  EXPECT_NEAR(Of(energy, Module::kMeanRow).dynamic_pj, mean.figures.dynamic_mw * 100, 1e-6);
  EXPECT_EQ(GroupOf(Module::kMeanRow), Group::kAttention);
  EXPECT_EQ(Of(energy, Module::kAttentionUnit).events, 10 + 50);
}

TEST(Energy, AddsUpOverReports) {
  sim::Report one = AlwaysBusy(Config(), 120);
  sim::Report both = AlwaysBusy(Config(), 1200);
  const double parts =
      Energy(Config(), TableI(), one).Total() + Energy(Config(), TableI(), both).Total();
  both.cycles += one.cycles;
  both.counters += one.counters;
  EXPECT_NEAR(Energy(Config(), TableI(), both).Total(), parts, 1e-6);
}

TEST(Energy, EveryModuleSaysWhatAnEventCostsAndWhereThatComesFrom) {
  const EnergyReport energy = Energy(Config(), TableI(), AlwaysBusy(Config(), 12));
  for (const ModuleEnergy& row : energy.modules) {
    EXPECT_NE(row.provenance.find(" pJ per "), std::string::npos);
    EXPECT_NE(row.provenance.find("; ELSA, ISCA 2021, Table I, as measured"), std::string::npos)
        << row.provenance;
  }
}

TEST(Energy, RefusesPartialTablesAndInvalidMachines) {
  EXPECT_THROW(Energy(Config(), OpenNangate45(), {}), Error);
  Config config;
  config.banks = 3;
  EXPECT_THROW(Energy(config, TableI(), {}), Error);
}

}  // namespace
}  // namespace elsa::cost
