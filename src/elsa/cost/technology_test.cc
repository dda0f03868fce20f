#include "elsa/cost/technology.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"
#include "elsa/cost/testing.h"
#include "elsa/params/paper_figures.h"

namespace elsa::cost {
namespace {

std::string MessageOf(const std::string& toml) {
  try {
    ParseTechnology(toml, "x.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

// The round table with one piece of text replaced.
std::string Replaced(const std::string& what, const std::string& by) {
  std::string text = RoundTable();
  const std::size_t at = text.find(what);
  EXPECT_NE(at, std::string::npos) << what;
  return text.replace(at, what.size(), by);
}

Figures Sum(const Technology& technology, bool with_external) {
  Figures sum;
  for (std::size_t i = 0; i < kTableModules; ++i) {
    const auto module = static_cast<Module>(i);
    if (IsExternal(module) && !with_external) continue;
    const Figures figures = MeasuredFigures(technology, module);
    sum.area_mm2 += figures.area_mm2;
    sum.dynamic_mw += figures.dynamic_mw;
    sum.static_mw += figures.static_mw;
  }
  return sum;
}

TEST(TableI, ItsOwnSumsAreThoseOfItsRows) {
  const auto checks = CheckStatedSums(TableI());
  ASSERT_EQ(checks.size(), 4u);
  EXPECT_EQ(checks[0].what, "stated_accelerator");
  EXPECT_EQ(checks[3].what, "stated_externals");
  for (const SumCheck& check : checks) {
    // Half a unit in the last place that the table prints: twelve areas are rounded to 0.01 mm2.
    EXPECT_NEAR(check.computed.area_mm2, check.stated.area_mm2, 5e-3) << check.what;
    EXPECT_NEAR(check.computed.dynamic_mw, check.stated.dynamic_mw, 5e-9) << check.what;
    EXPECT_NEAR(check.computed.static_mw, check.stated.static_mw, 5e-9) << check.what;
  }
  EXPECT_NEAR(checks[0].computed.area_mm2, checks[0].stated.area_mm2, 5e-9);
  EXPECT_NEAR(checks[1].computed.area_mm2, checks[1].stated.area_mm2, 5e-9);
}

TEST(TableI, GivesTheTextsTotals) {
  const Technology table = TableI();
  const PaperFigures paper =
      PaperFigures::Parse(RepositoryFile("data/paper/evaluation.toml"), "evaluation.toml");
  const Figures all = Sum(table, true);
  const Figures inner = Sum(table, false);
  const double watts = (all.dynamic_mw + all.static_mw) / 1000;
  EXPECT_NEAR(watts, 1.494, 5e-4);
  EXPECT_NEAR(watts, paper.Value("power.accelerator"), 5e-3);
  EXPECT_NEAR(12 * watts, paper.Value("power.twelve"), 5e-3);
  EXPECT_NEAR(all.area_mm2 - inner.area_mm2, 0.892, 5e-9);
  EXPECT_NEAR(inner.area_mm2, paper.Value("area.accelerator"), 0.05);
  EXPECT_NEAR(all.area_mm2, paper.Value("area.accelerator_with_memories"), 0.05);
  EXPECT_NEAR(12 * inner.area_mm2, paper.Value("area.twelve"), 0.05);
  EXPECT_NEAR(12 * all.area_mm2, paper.Value("area.twelve_with_memories"), 0.05);
  // "over 13x" against the V100 (Sec. V-D).
  EXPECT_GT(paper.Value("v100_power.measured") / (12 * watts), 13);
}

TEST(TableI, IsForTheEvaluatedMachineAndSaysWhereItComesFrom) {
  const Technology table = TableI();
  EXPECT_EQ(table.measured, Config());
  EXPECT_EQ(table.source, "ELSA, ISCA 2021, Table I");
  EXPECT_EQ(table.Provenance(), table.source);
  EXPECT_NE(table.process.find("40 nm"), std::string::npos);
  EXPECT_NE(table.method.find("placed and routed"), std::string::npos);
}

TEST(OpenTables, ArePartialAndSaySo) {
  for (const char* file : {"data/tech/open-nangate45.toml", "data/tech/open-sg13g2.toml"}) {
    const Technology table = ParseTechnology(RepositoryFile(file), file);
    EXPECT_FALSE(table.complete);
    EXPECT_NE(table.source.find("not the final"), std::string::npos) << file;
    EXPECT_NE(table.method.find("before layout"), std::string::npos) << file;
    EXPECT_NE(table.method.find("1 GHz not met"), std::string::npos) << file;
    EXPECT_GT(MeasuredArea(table, Module::kCandidateSelector), 0);
    EXPECT_FALSE(table.rows[static_cast<std::size_t>(Module::kCandidateSelector)]->note.empty());
  }
  // 32 selectors of one that was synthesised; the order of magnitude of Table I.
  const double ours = MeasuredArea(OpenNangate45(), Module::kCandidateSelector);
  EXPECT_NEAR(ours / MeasuredArea(TableI(), Module::kCandidateSelector), 1, 0.2);
}

TEST(PartialTable, NamesTheModuleThatItLacks) {
  const auto message = [](const auto& call) -> std::string {
    try {
      call();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      return error.what();
    }
    return "no error";
  };
  const Technology table = OpenNangate45();
  EXPECT_EQ(message([&] { MeasuredArea(table, Module::kHashUnit); }),
            "open-nangate45: hash_unit: expected its area in the table, got none (a partial table "
            "cannot cost a machine)");
  EXPECT_EQ(message([&] { MeasuredFigures(table, Module::kAttentionUnit); }),
            "open-nangate45: attention_unit: expected its area and power in the table, got none (a "
            "partial table cannot cost a machine)");
  EXPECT_EQ(message([&] { MeasuredFigures(TableI(), Module::kMeanRow); }),
            "paper-40nm: mean_row: expected its area and power in the table, got none");
}

TEST(ParseTechnology, ReadsEveryFigure) {
  const Technology table = ParseTechnology(RoundTable(), "x.toml");
  EXPECT_TRUE(table.complete);
  EXPECT_EQ(table.scaling_node_nm, 45);
  for (std::size_t i = 0; i < kTableModules; ++i) {
    const auto module = static_cast<Module>(i);
    const double instances = IsExternal(module) ? 2 : 1;  // the file gives one of two
    const Figures figures = MeasuredFigures(table, module);
    EXPECT_EQ(figures.area_mm2, instances * static_cast<double>(i + 1));
    EXPECT_EQ(figures.dynamic_mw, instances * 100 * static_cast<double>(i + 1));
    EXPECT_EQ(figures.static_mw, instances * static_cast<double>(i + 1));
  }
  EXPECT_TRUE(CheckStatedSums(table).empty());
}

TEST(ParseTechnology, EveryErrorNamesLineKeyExpectedAndGot) {
  EXPECT_EQ(MessageOf(RoundTable()), "no error");
  EXPECT_EQ(MessageOf(Replaced("area_mm2 = 1\n", "area_mm2 = -1\n")),
            "x.toml:24: hash_unit.area_mm2: expected a positive number, got -1");
  EXPECT_EQ(MessageOf(Replaced("area_mm2 = 1\n", "area_mm2 = inf\n")),
            "x.toml:24: hash_unit.area_mm2: expected a positive number, got inf");
  EXPECT_EQ(MessageOf(Replaced("area_mm2 = 1\n", "area_mm2 = 0\n")),
            "x.toml:24: hash_unit.area_mm2: expected a positive number, got 0");
  EXPECT_EQ(MessageOf(Replaced("count = 32", "count = 1.5")),
            "x.toml:33: candidate_selector.count: expected a positive integer, got 1.5");
  EXPECT_EQ(MessageOf(Replaced("static_mw = 1\n", "")),
            "x.toml:22: hash_unit.static_mw: expected a positive number, got no such key");
  EXPECT_EQ(MessageOf(Replaced("static_mw = 1\n", "static_mw = 1\nstatic = 1\n")),
            "x.toml:27: hash_unit.static: expected one of area_mm2, count, dynamic_mw, note, "
            "static_mw, got an unknown key");
  EXPECT_EQ(MessageOf(Replaced("[norm_unit]", "[hash_unit]")),
            "x.toml:27: hash_unit: expected each section once, got a second one");
  EXPECT_EQ(MessageOf(Replaced("name = \"round\"", "name = round")),
            "x.toml:2: technology.name: expected words in quotes, got round");
  EXPECT_EQ(MessageOf(Replaced("\"complete\"", "\"most\"")),
            "x.toml:6: technology.coverage: expected one of complete, partial, got most");
  EXPECT_EQ(MessageOf(Replaced("scaling_node = 45", "scaling_node = 0")),
            "x.toml:7: technology.scaling_node: expected a positive integer, got 0");
  EXPECT_EQ(MessageOf(Replaced("paper-literal", "mine")),
            "x.toml:21: machine.formats: expected one of paper-literal, recommended, got mine");
  EXPECT_EQ(MessageOf(Replaced("hash = \"kronecker3\"", "hash = \"hadamard\"")),
            "x.toml:12: machine.hash: expected one of kronecker3, kronecker2, dense, got "
            "\"hadamard\"");
  EXPECT_EQ(MessageOf(Replaced("banks = 4", "banks = 3")),
            "x.toml:13: machine.banks: expected a divisor of machine.n = 512, got 3");
  EXPECT_EQ(MessageOf(Replaced("banks = 4\n", "")),
            "x.toml:8: machine.banks: expected integer 1 to 256, got no such key");
}

TEST(ParseTechnology, DamagedTextIsAnErrorAndNothingWorse) {
  const std::string whole = RepositoryFile("data/tech/paper-40nm.toml");
  const auto parses = [](const std::string& text) {
    try {
      ParseTechnology(text, "x.toml");
      return true;
    } catch (const Error&) {
      return false;
    }
  };
  // Cut short before the last of the modules, some of them are missing.
  const std::size_t last = whole.find("static_mw", whole.find("[query_output_memory]"));
  for (std::size_t size = 0; size < last; size += 7) EXPECT_FALSE(parses(whole.substr(0, size)));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'[', '"', '\0', '\n', '\xff'}) {
      std::string text = whole;
      text[at] = byte;
      parses(text);
    }
  }
}

TEST(ParseTechnology, UnknownAndMissingModulesAreErrors) {
  const std::string unknown =
      MessageOf(RoundTable() + "[cache]\ncount = 1\narea_mm2 = 1\ndynamic_mw = 1\nstatic_mw = 1\n");
  EXPECT_EQ(unknown.find("x.toml:67: cache: expected one of attention_unit, "), 0u) << unknown;
  EXPECT_NE(unknown.find("got an unknown section"), std::string::npos) << unknown;
  std::string missing = RoundTable();
  missing.resize(missing.find("[query_output_memory]"));
  EXPECT_EQ(MessageOf(missing),
            "x.toml:1: query_output_memory.count: expected a positive integer, got no such key");
  EXPECT_EQ(MessageOf(TableHead("partial")),
            "x.toml:1: table: expected at least one module, got none");
  EXPECT_EQ(MessageOf(TableHead("partial") + "[norm_unit]\ncount = 1\narea_mm2 = 1\n"), "no error");
}

}  // namespace
}  // namespace elsa::cost
