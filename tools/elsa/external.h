// External commands: `elsa X` runs the program elsa-X, as git and cargo do, so that the Python
// package and anybody else can add commands without touching this binary.
#ifndef ELSA_TOOLS_EXTERNAL_H_
#define ELSA_TOOLS_EXTERNAL_H_

#include <string>
#include <vector>

namespace elsa {

struct ExternalCommand {
  std::string name;  // X
  std::string path;  // of elsa-X
};

// The elsa-* programs beside this binary (where it is and where a link to it was called), then on
// PATH. Of several with one name the first is listed: the one that would run. Sorted by name.
// `invoked` is argv[0].
std::vector<ExternalCommand> FindExternalCommands(const std::string& invoked);

// Replaces this process by elsa-<name> with the arguments that follow it, so that its exit code and
// signals are its own. `argv` is main's, argv[1] the name. Returns only by throwing.
// Errors: kInvalidArgument for a name that nobody provides (saying what there is, and for commands
// of the Python package how to install it); kIo if the program cannot be started.
[[noreturn]] void RunExternal(const std::vector<std::string>& native, char** argv);

}  // namespace elsa

#endif  // ELSA_TOOLS_EXTERNAL_H_
