#include "elsa/params/markdown.h"

#include <gtest/gtest.h>

#include "elsa/params/repository_file_test.h"

namespace elsa {
namespace {

TEST(ParametersMarkdown, CommittedPageIsCurrent) {
  EXPECT_EQ(RepositoryFile("docs/reference/parameters.md"), ParametersMarkdown(Config()))
      << "run: elsa params --markdown > docs/reference/parameters.md";
}

TEST(ParametersMarkdown, ShowsTheGivenMachine) {
  Config config;
  config.accelerators = 7;
  const std::string page = ParametersMarkdown(config);
  EXPECT_NE(page.find("| `machine.accelerators` | - | 7 |"), std::string::npos);
  EXPECT_NE(page.find(Digest(config)), std::string::npos);
}

TEST(Glossary, KnowsEveryParameterAndItsSymbol) {
  const std::string glossary = RepositoryFile("docs/reference/glossary.md");
  for (const Field& field : Fields()) {
    const std::string name(field.key.substr(field.key.find('.') + 1));
    EXPECT_NE(glossary.find("`" + name + "`"), std::string::npos) << name;
    if (!field.symbol.empty()) {
      EXPECT_NE(glossary.find("| " + std::string(field.symbol) + " |"), std::string::npos)
          << field.symbol;
    }
  }
}

}  // namespace
}  // namespace elsa
