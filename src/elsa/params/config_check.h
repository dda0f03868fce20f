// What is wrong with a configuration, before it is known where its text came from. Shared by
// ValidateConfig and ParseConfig, which adds file and line; not for other layers.
#ifndef ELSA_PARAMS_CONFIG_CHECK_H_
#define ELSA_PARAMS_CONFIG_CHECK_H_

#include <optional>
#include <string>
#include <string_view>

#include "elsa/params/config.h"

namespace elsa {

struct ConfigProblem {
  std::string_view key;
  std::string expected;
  std::string got;
  std::string Text() const { return std::string(key) + ": expected " + expected + ", got " + got; }
};

// One line of readable text: what is not printable ASCII becomes '?', overlong text ends in "...".
std::string Printable(std::string_view text);

// Sets the field from text as ValueText writes it; false if it is no such text.
bool TrySetValue(Config* config, const Field& field, std::string_view text);

// The first problem of the values, in the order of the field table, single fields first.
std::optional<ConfigProblem> FindProblem(const Config& config);

}  // namespace elsa

#endif  // ELSA_PARAMS_CONFIG_CHECK_H_
