// Reading files of the checkout in the tests of params; the layer itself opens none.
#ifndef ELSA_PARAMS_REPOSITORY_FILE_TEST_H_
#define ELSA_PARAMS_REPOSITORY_FILE_TEST_H_

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <string>

namespace elsa {

// The text of a file of the repository, "configs/paper.toml".
inline std::string RepositoryFile(const std::string& path) {
  std::ifstream in(std::string(ELSA_SOURCE_DIR) + "/" + path, std::ios::binary);
  EXPECT_TRUE(in.good()) << path;
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace elsa

#endif  // ELSA_PARAMS_REPOSITORY_FILE_TEST_H_
