#include "elsa/cost/node_scaling.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"
#include "elsa/cost/area.h"
#include "elsa/cost/power.h"
#include "elsa/cost/testing.h"

namespace elsa::cost {
namespace {

constexpr const char* kHead = "[scaling]\nname = \"s\"\nsource = \"t\"\nchecked = \"u\"\n";
constexpr const char* kNode =
    "[a]\nnode_nm = 45\nvdd_v = 1\narea = 1\nenergy_a2 = 1\nenergy_a1 = 0\nenergy_a0 = 0\n";

std::string MessageOf(const std::string& toml) {
  try {
    ParseNodeScaling(toml, "x.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    return error.what();
  }
  return "no error";
}

TEST(NodeScaling, ReproducesTheAuthorsExample) {
  // Their erratum: 65 nm at 1.3 V to 32 nm at 0.9 V, 0.4571 / 2.604 = 0.1755.
  const NodeScaling scaling = Scaling();
  EXPECT_NEAR(scaling.At(32).Energy(0.9), 0.4571, 5e-5);
  EXPECT_NEAR(scaling.At(65).Energy(1.3), 2.604, 5e-4);
  // They divide the rounded values: 3e-4 of the quotient, and its own rounding.
  EXPECT_NEAR(scaling.At(32).Energy(0.9) / scaling.At(65).Energy(1.3), 0.1755,
              3e-4 * 0.1755 + 5e-5);
}

TEST(NodeScaling, SmallerNodesAreSmallerAndTakeLess) {
  const NodeScaling scaling = Scaling();
  const std::int64_t nodes[]{65, 45, 32, 14, 10, 7};
  for (std::size_t i = 1; i < std::size(nodes); ++i) {
    const ProcessNode& large = scaling.At(nodes[i - 1]);
    const ProcessNode& small = scaling.At(nodes[i]);
    EXPECT_LT(small.area, large.area) << nodes[i];
    EXPECT_LT(small.Energy(small.vdd_v), large.Energy(large.vdd_v)) << nodes[i];
  }
  EXPECT_EQ(scaling.At(45).area, 1);
}

TEST(ScaleToNode, MultipliesAreaAndDynamicPowerAndKeepsLeakage) {
  const Technology table = TableI();
  const NodeScaling scaling = Scaling();
  const Technology small = ScaleToNode(table, scaling, 7);
  const ProcessNode& from = scaling.At(45);
  const ProcessNode& to = scaling.At(7);
  for (std::size_t i = 0; i < kTableModules; ++i) {
    const auto module = static_cast<Module>(i);
    const Figures before = MeasuredFigures(table, module);
    const Figures after = MeasuredFigures(small, module);
    EXPECT_NEAR(after.area_mm2, before.area_mm2 * to.area, 1e-12);
    EXPECT_NEAR(after.dynamic_mw, before.dynamic_mw * to.Energy(to.vdd_v) / from.Energy(from.vdd_v),
                1e-9);
    EXPECT_EQ(after.static_mw, before.static_mw);
  }
  EXPECT_EQ(table.scaled, "");  // the unscaled stays, to stand beside it
  EXPECT_EQ(small.name, "paper-40nm-at-7nm");
  EXPECT_TRUE(CheckStatedSums(small).empty());
}

TEST(ScaleToNode, ProvenanceSaysSoEverywhere) {
  const Technology small = ScaleToNode(TableI(), Scaling(), 7);
  const std::string expected =
      "ELSA, ISCA 2021, Table I, scaled from 45 to 7 nm by stillmaker-baas-2017, static power "
      "unscaled";
  EXPECT_EQ(small.Provenance(), expected);
  for (const ModuleArea& area : Area(Config(), small).modules) {
    EXPECT_EQ(area.provenance, expected);
  }
}

TEST(ScaleToNode, ToItsOwnNodeAndBackChangesNoFigure) {
  const Technology there = ScaleToNode(TableI(), Scaling(), 14);
  EXPECT_EQ(there.scaling_node_nm, 14);
  const Technology back = ScaleToNode(there, Scaling(), 45);
  EXPECT_NEAR(PeakPower(Config(), back).Total(), PeakPower(Config(), TableI()).Total(), 1e-9);
  EXPECT_NEAR(Area(Config(), back).Total(), Area(Config(), TableI()).Total(), 1e-12);
}

TEST(ScaleToNode, WorksForPartialTables) {
  const Technology open =
      ParseTechnology(RepositoryFile("data/tech/open-sg13g2.toml"), "open-sg13g2.toml");
  const Technology small = ScaleToNode(open, Scaling(), 45);
  EXPECT_NEAR(MeasuredArea(small, Module::kCandidateSelector) * 6.4,
              MeasuredArea(open, Module::kCandidateSelector), 1e-12);
}

TEST(NodeScaling, ErrorsNameWhatIsWrong) {
  const std::string good = std::string(kHead) + kNode;
  EXPECT_EQ(MessageOf(good), "no error");
  EXPECT_EQ(MessageOf(kHead), "x.toml:1: nodes: expected at least one, got none");
  EXPECT_EQ(MessageOf(good + "x = 1\n").find("x.toml:12: a.x: expected one of "), 0u);
  std::string again = kNode;
  again.replace(again.find("[a]"), 3, "[b]");
  EXPECT_EQ(MessageOf(good + again), "x.toml:13: b.node_nm: expected each node once, got 45 again");
  std::string negative = good;
  negative.replace(negative.find("energy_a2 = 1"), 13, "energy_a2 = -1");
  EXPECT_EQ(MessageOf(negative),
            "x.toml:5: a: expected a positive energy at its voltage, got none");
  try {
    Scaling().At(22);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    const std::string message = error.what();
    const std::string expected =
        "stillmaker-baas-2017: node_nm: expected one of 7, 10, 14, 32, 45, 65, 130, got ";
    EXPECT_EQ(message.find(expected), 0u) << message;
    EXPECT_NE(message.find("got 22"), std::string::npos) << message;
  }
}

}  // namespace
}  // namespace elsa::cost
