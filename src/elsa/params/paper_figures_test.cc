#include "elsa/params/paper_figures.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"
#include "elsa/params/derived.h"
#include "elsa/params/repository_file_test.h"

namespace elsa {
namespace {

PaperFigures Paper() {
  return PaperFigures::Parse(RepositoryFile("data/paper/evaluation.toml"), "evaluation.toml");
}

std::string MessageOf(const std::string& text) {
  try {
    PaperFigures::Parse(text, "x.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    return error.what();
  }
  return "no error";
}

TEST(PaperFigures, EnergyEfficiencyOverBaseIsAsPublished) {
  const PaperFigures paper = Paper();
  const auto over_base = [&](const std::string& which) {
    return paper.Ratio("energy_efficiency_over_v100." + which, "energy_efficiency_over_v100.base");
  };
  EXPECT_NEAR(over_base("conservative"), 2.86, 0.005);
  EXPECT_NEAR(over_base("moderate"), 3.90, 0.006);
  EXPECT_NEAR(over_base("aggressive"), 4.73, 0.006);
}

TEST(PaperFigures, LatencyOfBaseAndPeakAgreeWithOurArithmetic) {
  const PaperFigures paper = Paper();
  const Derived derived = Derive(Config());
  EXPECT_NEAR(derived.exact_over_ideal, paper.Value("latency_over_ideal.base"), 0.005);
  // "approximately matches": 13 against 14 T operations per second (Sec. V-C).
  EXPECT_NEAR(
      static_cast<double>(derived.total_peak_ops_per_s) / paper.Value("v100_throughput.fp32"), 1,
      0.07);
}

TEST(PaperFigures, EveryFigureSaysWhereItStands) {
  const PaperFigures paper = Paper();
  EXPECT_GE(paper.all().size(), 60u);
  for (const auto& [key, figure] : paper.all()) {
    EXPECT_GT(figure.value, 0) << key;
    EXPECT_FALSE(figure.what.empty() || figure.unit.empty()) << key;
    EXPECT_TRUE(figure.where.find("Sec.") != std::string::npos || figure.where == "Abstract")
        << key;
  }
}

TEST(PaperFigures, WhatIsMissingOrWrongIsNamed) {
  const std::string head = "[a]\nwhere = \"Sec. V\"\nwhat = \"w\"\n";
  EXPECT_EQ(MessageOf(head + "x = 1\n"),
            "x.toml:1: a.unit: expected words in quotes, got no such key");
  EXPECT_EQ(MessageOf(head + "unit = \"W\"\n"),
            "x.toml:1: a: expected at least one number, got none");
  EXPECT_EQ(MessageOf(head + "unit = \"W\"\nx = 0\n"),
            "x.toml:5: a.x: expected a positive number, got 0");
  const auto figures = PaperFigures::Parse(
      head + "unit = \"W\"\nx = 2\n[b]\nwhere = \"Sec. V\"\nwhat = \"w\"\nunit = \"V\"\ny = 1\n",
      "x");
  EXPECT_EQ(figures.Value("a.x"), 2);
  EXPECT_EQ(figures.At("b.y").unit, "V");
  try {
    figures.Value("a.z");
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_STREQ(error.what(), "figure of the paper: expected a name of the file, got 'a.z'");
  }
  EXPECT_THROW(figures.Ratio("a.x", "b.y"), Error);
}

}  // namespace
}  // namespace elsa
