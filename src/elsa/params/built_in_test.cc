#include "elsa/params/built_in.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"
#include "elsa/params/repository_file_test.h"

namespace elsa {
namespace {

TEST(BuiltInData, IsTheFilesOfTheRepository) {
  EXPECT_EQ(BuiltInData("paper-40nm"), RepositoryFile("data/tech/paper-40nm.toml"));
  EXPECT_EQ(BuiltInData("node-scaling"), RepositoryFile("data/tech/node-scaling.toml"));
  EXPECT_EQ(BuiltInData("evaluation"), RepositoryFile("data/paper/evaluation.toml"));
}

TEST(BuiltInData, ListsWhatThereIs) {
  try {
    BuiltInData("12nm");
    ADD_FAILURE();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(),
                 "built-in data: expected one of evaluation, node-scaling, open-nangate45, "
                 "open-sg13g2, paper-40nm, got '12nm'");
  }
}

}  // namespace
}  // namespace elsa
