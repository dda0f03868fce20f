// The command line `elsa`: finds the subcommand, built in or external, and turns every failure into
// one line on stderr and an exit code: 0 done, 2 bad input or usage.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <exception>
#include <iostream>
#include <new>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/commands.h"
#include "elsa/external.h"
#include "elsa/io/atomic_file.h"
#include "elsa/output.h"

namespace elsa {
namespace {

constexpr int kBadInput = 2;

constexpr char kExamples[] =
    R"(Example: learn thresholds on a captured trace, then see what they cost
  $ elsa calibrate trace.safetensors --p 1 -o plan.json
  $ elsa attend trace.safetensors --plan plan.json
  $ elsa inspect trace.safetensors --plan plan.json --layer 0 --head 0 --query 5

`elsa COMMAND --help` says more about one command. `elsa X` runs the program elsa-X if X is not
built in: beside this binary, then from PATH.)";

// Runs on the thread that writes files or while none are open: workers are joined before writing.
void EndBySignal(int signal) {
  io::RemovePendingFiles();
  std::raise(signal);  // the disposition is the default again: SA_RESETHAND
}

void RemoveFilesOnSignals() {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) {
    struct sigaction action {};
    // Ignored by whoever started us (nohup): leave it.
    if (::sigaction(signal, nullptr, &action) == 0 && action.sa_handler == SIG_IGN) continue;
    action = {};
    action.sa_handler = EndBySignal;
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    ::sigaction(signal, &action, nullptr);
  }
}

std::string Footer(const std::string& invoked) {
  std::string text;
  const std::vector<ExternalCommand> commands = FindExternalCommands(invoked);
  if (!commands.empty()) text += "External commands:\n";
  for (const ExternalCommand& command : commands) {
    std::string name = Escaped(command.name);
    name.resize(std::max<std::size_t>(name.size() + 2, 28), ' ');
    text += "  " + name + Escaped(command.path) + "\n";
  }
  return text + (text.empty() ? "" : "\n") + kExamples;
}

int Fail(const std::string& where, const std::string& message) {
  std::cerr << Escaped(where) << ": error: " << Escaped(message) << std::endl;
  return kBadInput;
}

// A usage error of CLI11 in one line.
std::string Usage(const CLI::ParseError& error, const std::string& where) {
  std::string message = error.what();
  while (!message.empty() && (message.back() == '\n' || message.back() == '.')) message.pop_back();
  for (char& c : message) c = c == '\n' ? ' ' : c;
  return message + " (see " + where + " --help)";
}

int Run(int argc, char** argv) {
  CLI::App app("ELSA: approximate self-attention that looks at few keys", "elsa");
  app.get_formatter()->column_width(30);
  app.get_formatter()->label("SUBCOMMAND", "COMMAND");
  app.set_version_flag("--version", std::string("elsa ") + ELSA_VERSION);
  app.require_subcommand(1);
  AddCalibrateCommand(app);
  AddAttendCommand(app);
  AddInspectCommand(app);
  AddParamsCommand(app);
  AddSimulateCommand(app);
  const std::string invoked = argc > 0 ? argv[0] : "elsa";
  app.footer([&] { return Footer(invoked); });

  std::string where = "elsa";
  try {
    if (argc > 1 && argv[1][0] != '-') {
      std::vector<std::string> native;
      for (const CLI::App* command : app.get_subcommands({})) native.push_back(command->get_name());
      if (std::find(native.begin(), native.end(), argv[1]) == native.end()) {
        RunExternal(native, argv);
      }
      where += " " + std::string(argv[1]);
    }
    RemoveFilesOnSignals();
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() != 0) return Fail(where, Usage(error, where));
      app.exit(error);  // prints the help or the version
    }
    std::cout.flush();
    if (!std::cout) throw Error(ErrorCode::kIo, "standard output: expected to write, got an error");
    return 0;
  } catch (const std::bad_alloc&) {
    return Fail(where, "memory: expected enough for these inputs, got none left");
  } catch (const std::exception& error) {
    return Fail(where, error.what());
  }
}

}  // namespace
}  // namespace elsa

int main(int argc, char** argv) { return elsa::Run(argc, argv); }
