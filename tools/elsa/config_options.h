// The options by which a subcommand gets its machine: --config FILE and one option per parameter,
// named after it (--selectors-per-bank). They come from the field table of elsa/params/config.h.
#ifndef ELSA_TOOLS_CONFIG_OPTIONS_H_
#define ELSA_TOOLS_CONFIG_OPTIONS_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "elsa/params/config.h"

namespace elsa {

class ConfigOptions {
 public:
  // Adds the options to `command`; those of single parameters only if `parameters`. This object
  // must outlive the parsing and stay where it is.
  explicit ConfigOptions(CLI::App* command, bool parameters = true);
  ConfigOptions(const ConfigOptions&) = delete;
  ConfigOptions& operator=(const ConfigOptions&) = delete;

  // The machine that the command line asks for: the file, or else the paper's machine, with the
  // given parameters replaced. Errors: as ParseConfig, ValidateConfig and SetValue; kIo.
  Config Resolve() const;

  // Whether the command line says anything about the machine.
  bool given() const;
  // The file, if the command line names one.
  const std::optional<std::string>& file() const { return path_; }
  // The file's name, or "built-in".
  std::string source() const { return path_.value_or("built-in"); }

 private:
  std::optional<std::string> path_;
  std::optional<std::string> formats_;
  std::vector<std::optional<std::string>> values_;  // one per field
};

}  // namespace elsa

#endif  // ELSA_TOOLS_CONFIG_OPTIONS_H_
