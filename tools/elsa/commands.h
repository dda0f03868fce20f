// The subcommands of the native command line, one cmd_<name>.cc each. Every function adds its
// subcommand to the application; its callback does the work and throws elsa::Error on bad input.
#ifndef ELSA_TOOLS_COMMANDS_H_
#define ELSA_TOOLS_COMMANDS_H_

#include <CLI/CLI.hpp>

namespace elsa {

void AddAttendCommand(CLI::App& app);
void AddCalibrateCommand(CLI::App& app);
void AddInspectCommand(CLI::App& app);
void AddParamsCommand(CLI::App& app);
void AddSimulateCommand(CLI::App& app);

}  // namespace elsa

#endif  // ELSA_TOOLS_COMMANDS_H_
