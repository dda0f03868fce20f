#include "elsa/cost/scale.h"

#include <gtest/gtest.h>

#include <cstring>

#include "elsa/base/error.h"
#include "elsa/cost/area.h"
#include "elsa/cost/power.h"
#include "elsa/cost/testing.h"

namespace elsa::cost {
namespace {

double AreaIn(const Config& config, Module module) { return AreaOf(module, config, TableI()).mm2; }

Config With(std::int64_t Config::*member, std::int64_t value) {
  Config config;
  config.*member = value;
  return config;
}

TEST(Area, OfThePapersMachineIsTableI) {
  const Technology table = TableI();
  const AreaReport report = Area(Config(), table);
  ASSERT_EQ(report.modules.size(), kTableModules);
  for (const ModuleArea& area : report.modules) {
    EXPECT_EQ(area.mm2, MeasuredArea(table, area.module)) << Name(area.module);
    EXPECT_EQ(area.instances, Instances(area.module, Config()));
    EXPECT_EQ(area.provenance, "ELSA, ISCA 2021, Table I, as measured");
  }
  EXPECT_NEAR(report.accelerator_mm2, table.stated[0]->figures.area_mm2, 1e-9);
  EXPECT_NEAR(report.external_mm2, table.stated[1]->figures.area_mm2, 1e-9);
  EXPECT_EQ(report.accelerators, 12);
  EXPECT_NEAR(report.AllMachines(), 25.8, 0.05);
}

TEST(PeakPower, OfThePapersMachineIsTableI) {
  const PowerReport report = PeakPower(Config(), TableI());
  EXPECT_NEAR(report.Total(), 1494, 0.5);
  EXPECT_NEAR(report.AllMachines() / 1000, 17.93, 5e-3);
  const Technology table = TableI();
  EXPECT_NEAR(report.external_mw,
              table.stated[1]->figures.dynamic_mw + table.stated[1]->figures.static_mw, 1e-9);
}

TEST(Scale, LinearWhereTheRuleSaysSo) {
  const Config paper;
  const Config twice_selectors = With(&Config::selectors_per_bank, 16);
  EXPECT_NEAR(AreaIn(twice_selectors, Module::kCandidateSelector),
              2 * AreaIn(paper, Module::kCandidateSelector), 1e-12);
  const Config twice_banks = With(&Config::banks, 8);
  EXPECT_NEAR(AreaIn(twice_banks, Module::kAttentionUnit),
              2 * AreaIn(paper, Module::kAttentionUnit), 1e-12);
  const Config twice_n = With(&Config::n, 1024);
  for (const Module memory : {Module::kKeyHashMemory, Module::kKeyNormMemory,
                              Module::kKeyValueMemory, Module::kQueryOutputMemory}) {
    EXPECT_NEAR(AreaIn(twice_n, memory), 2 * AreaIn(paper, memory), 1e-12) << Name(memory);
  }
  EXPECT_NEAR(AreaIn(With(&Config::norm_bits, 16), Module::kKeyNormMemory),
              2 * AreaIn(paper, Module::kKeyNormMemory), 1e-12);
  const Config long_hash = With(&Config::k, 128);
  EXPECT_NEAR(AreaIn(long_hash, Module::kKeyHashMemory), 2 * AreaIn(paper, Module::kKeyHashMemory),
              1e-12);
  EXPECT_EQ(AreaIn(long_hash, Module::kKeyNormMemory), AreaIn(paper, Module::kKeyNormMemory));
  // Divider of one bank: multipliers only; each bank more adds the same.
  const auto divider = [](std::int64_t banks) {
    return SizeOf(Module::kOutputDivider, With(&Config::banks, banks)).stored;
  };
  EXPECT_NEAR(divider(4) - divider(2), 2 * (divider(2) - divider(1)), 1e-9);
  EXPECT_NEAR(AreaIn(With(&Config::division_multipliers, 32), Module::kOutputDivider),
              2 * AreaIn(paper, Module::kOutputDivider), 1e-12);
}

TEST(Scale, AttentionUnitGrowsByTheSameForEachComponent) {
  const auto cells = [](std::int64_t d) {
    return SizeOf(Module::kAttentionUnit, With(&Config::d, d)).stored;
  };
  // Beside d equal slices only the multiplication by the score's constant, wider by a bit per
  // doubling of d.
  EXPECT_NEAR((cells(256) - cells(128)) / (cells(128) - cells(64)), 2, 0.01);
  EXPECT_NEAR(cells(128) / cells(64), 2, 0.02);
}

TEST(Scale, SelectorCellsByHand) {
  // k = 64 bits compared and counted: 128; 9 x 8 multiplier: 72; 65 cosines of 9 bits and 16 queue
  // entries of 7 bits, two cells a bit: 1170 + 224. 32 of them.
  EXPECT_EQ(SizeOf(Module::kCandidateSelector, Config()).stored, 32 * (128 + 72 + 1170 + 224));
}

TEST(Scale, HashCellsByHand) {
  // 256 multipliers of 9 x 6 with adder and register of 15 bits; 48 factors of 6 bits and four
  // buffers of 64 x 9 + 64 bits, two cells a bit.
  EXPECT_EQ(SizeOf(Module::kHashUnit, Config()).stored,
            256 * (54 + 30) + 2 * 48 * 6 + 2 * 4 * (64 * 9 + 64));
}

TEST(Scale, AttentionCellsByHand) {
  // Per component: 81 + 18 + 18; 9 x 6 multiplier, sum of 7 significant bits and 10 of exponent:
  // 54 + 35 + 30. Score constant: 24 x 9. Four banks.
  EXPECT_EQ(SizeOf(Module::kAttentionUnit, Config()).stored,
            4 * (64 * (81 + 36 + 54 + 35 + 30) + 24 * 9));
}

TEST(Scale, MoreOfAnythingIsNeverSmaller) {
  struct Step {
    std::int64_t Config::*member;
    std::int64_t value;
  };
  for (const Step& step :
       {Step{&Config::n, 1024}, Step{&Config::d, 128}, Step{&Config::k, 128},
        Step{&Config::selectors_per_bank, 16}, Step{&Config::hash_multipliers, 768},
        Step{&Config::division_multipliers, 64}, Step{&Config::queue_depth, 32},
        Step{&Config::query_buffers, 8}, Step{&Config::qkv_fraction_bits, 5},
        Step{&Config::norm_bits, 10}, Step{&Config::accumulator_fraction_bits, 8}}) {
    const Config config = With(step.member, step.value);
    bool grew = false;
    for (std::size_t i = 0; i < kTableModules; ++i) {
      const auto module = static_cast<Module>(i);
      const Size before = SizeOf(module, Config());
      const Size after = SizeOf(module, config);
      EXPECT_GE(after.stored, before.stored) << Name(module);
      EXPECT_GE(after.switched, before.switched) << Name(module);
      grew = grew || after.stored > before.stored;
    }
    EXPECT_TRUE(grew) << step.value;
    EXPECT_GT(Area(config, TableI()).Total(), Area(Config(), TableI()).Total());
  }
}

TEST(Scale, MemoryPowerFollowsWhatIsReadNotWhatIsStored) {
  const Scale longer = ScaleOf(Module::kKeyHashMemory, With(&Config::n, 1024), TableI());
  EXPECT_EQ(longer.size, 2);
  EXPECT_EQ(longer.activity, 1);
  const Scale wider =
      ScaleOf(Module::kKeyHashMemory, With(&Config::selectors_per_bank, 16), TableI());
  EXPECT_EQ(wider.size, 1);
  EXPECT_EQ(wider.activity, 2);
}

TEST(Scale, ProvenanceStatesFactorsAndRule) {
  const AreaReport report = Area(With(&Config::selectors_per_bank, 16), TableI());
  for (const ModuleArea& area : report.modules) {
    if (area.module == Module::kCandidateSelector) {
      EXPECT_EQ(area.provenance, "ELSA, ISCA 2021, Table I, area times 2, dynamic times 2 (" +
                                     std::string(Rule(area.module)) + ")");
    } else if (area.module == Module::kAttentionUnit) {
      EXPECT_EQ(area.provenance, "ELSA, ISCA 2021, Table I, as measured");
    }
  }
}

TEST(PeakPower, DynamicPowerFollowsTheClockAndLeakageDoesNot) {
  const ModuleFigures slow =
      FiguresOf(Module::kHashUnit, With(&Config::clock_hz, 500'000'000), TableI());
  const Figures measured = MeasuredFigures(TableI(), Module::kHashUnit);
  EXPECT_EQ(slow.figures.dynamic_mw, measured.dynamic_mw / 2);
  EXPECT_EQ(slow.figures.static_mw, measured.static_mw);
  EXPECT_NE(slow.provenance.find("0.5 of the measured clock"), std::string::npos);
}

TEST(MeanRow, IsAModuleOfItsOwnAtTheHashUnitsDensity) {
  Config config;
  config.remainder = Remainder::kMean;
  const AreaReport with = Area(config, TableI());
  const AreaReport without = Area(Config(), TableI());
  ASSERT_EQ(with.modules.size(), without.modules.size() + 1);
  const ModuleArea& mean = with.modules.back();
  EXPECT_EQ(mean.module, Module::kMeanRow);
  // Two sums of 64 x (adder + register) of 18 bits, two rows of 64 x 9 bits, a 6 x 10 multiplier.
  const double cells = 2 * 64 * 2 * 18 + 2 * 64 * 9 + 6 * 10;
  EXPECT_EQ(SizeOf(Module::kMeanRow, config).stored, cells);
  const double per_cell =
      MeasuredArea(TableI(), Module::kHashUnit) / SizeOf(Module::kHashUnit, Config()).stored;
  EXPECT_NEAR(mean.mm2, cells * per_cell, 1e-12);
  EXPECT_NEAR(with.accelerator_mm2 - without.accelerator_mm2, mean.mm2, 1e-12);
  EXPECT_LT(mean.mm2, 0.1 * without.accelerator_mm2);
  EXPECT_NE(mean.provenance.find("cells of hash_unit"), std::string::npos);
  EXPECT_EQ(SizeOf(Module::kMeanRow, Config()).stored, 0);
}

TEST(Area, OfEveryConfigurationInTheRepositoryIsPositive) {
  for (const char* file : {"configs/paper.toml", "configs/recommended.toml", "configs/single.toml",
                           "configs/tiny.toml"}) {
    const AreaReport report = Area(ParseConfig(RepositoryFile(file), file), TableI());
    for (const ModuleArea& area : report.modules) {
      EXPECT_GT(area.mm2, 0) << file << " " << Name(area.module);
      EXPECT_EQ(area.provenance.find("ELSA, ISCA 2021, Table I"), 0u) << file;
    }
  }
}

TEST(Area, RefusesPartialTablesAndInvalidMachines) {
  try {
    Area(Config(), OpenNangate45());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_NE(std::strstr(error.what(), "hash_unit"), nullptr) << error.what();
  }
  EXPECT_GT(AreaOf(Module::kAttentionUnit, Config(), OpenNangate45()).mm2, 0);
  EXPECT_THROW(PeakPower(Config(), OpenNangate45()), Error);
  EXPECT_THROW(Area(With(&Config::banks, 3), TableI()), Error);
  EXPECT_THROW(PeakPower(With(&Config::banks, 3), TableI()), Error);
}

}  // namespace
}  // namespace elsa::cost
