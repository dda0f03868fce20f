// Inputs of the tests of cost: the repository's tables, and one with round numbers.
#ifndef ELSA_COST_TESTING_H_
#define ELSA_COST_TESTING_H_

#include <string>
#include <string_view>

#include "elsa/cost/node_scaling.h"
#include "elsa/cost/technology.h"
#include "elsa/params/repository_file_test.h"

namespace elsa::cost {

inline Technology TableI() {
  return ParseTechnology(RepositoryFile("data/tech/paper-40nm.toml"), "paper-40nm.toml");
}

inline Technology OpenNangate45() {
  return ParseTechnology(RepositoryFile("data/tech/open-nangate45.toml"), "open-nangate45.toml");
}

inline NodeScaling Scaling() {
  return ParseNodeScaling(RepositoryFile("data/tech/node-scaling.toml"), "node-scaling.toml");
}

// What a table says before its modules: lines 1 to 21.
inline std::string TableHead(std::string_view coverage) {
  return "[technology]\nname = \"round\"\nsource = \"a test\"\nprocess = \"none\"\n"
         "method = \"invented\"\ncoverage = \"" +
         std::string(coverage) +
         "\"\nscaling_node = 45\n"
         "[machine]\nn = 512\nd = 64\nk = 64\nhash = \"kronecker3\"\nbanks = 4\n"
         "selectors_per_bank = 8\nhash_multipliers = 256\ndivision_multipliers = 16\n"
         "queue_depth = 16\nquery_buffers = 4\nremainder = \"none\"\nclock_hz = 1_000_000_000\n"
         "formats = \"paper-literal\"\n";
}

// A table of round numbers: module i (from 1) has area i, dynamic power 100 i and static power i;
// all instances together, of the matrix memories each.
inline std::string RoundTable() {
  std::string text = TableHead("complete");
  for (std::size_t i = 0; i < kTableModules; ++i) {
    const auto module = static_cast<Module>(i);
    const std::int64_t count = IsExternal(module) ? 1 : Instances(module, Config());
    const std::string number = std::to_string(i + 1);
    text += "[" + std::string(Name(module)) + "]\ncount = " + std::to_string(count) +
            "\narea_mm2 = " + number + "\ndynamic_mw = " + number + "00\nstatic_mw = " + number +
            "\n";
  }
  return text;
}

}  // namespace elsa::cost

#endif  // ELSA_COST_TESTING_H_
