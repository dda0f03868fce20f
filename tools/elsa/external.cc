#include "elsa/external.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <string_view>
#include <system_error>

#include "elsa/base/error.h"

namespace elsa {
namespace {

constexpr std::string_view kPrefix = "elsa-";
// Provided by the Python package with its extra "models".
constexpr std::array<std::string_view, 3> kPythonCommands = {"bench", "capture", "evaluate"};

bool IsProgram(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

std::string DirectoryOf(const std::string& path) {
  return std::filesystem::path(path).parent_path().string();
}

// Where to look, in order.
std::vector<std::string> SearchDirectories(const std::string& invoked) {
  std::vector<std::string> on_path;
  const char* variable = std::getenv("PATH");
  std::istringstream list(variable == nullptr ? "" : variable);
  for (std::string entry; std::getline(list, entry, ':');) {
    on_path.push_back(entry.empty() ? "." : entry);  // POSIX: an empty entry is the current one
  }
  std::vector<std::string> directories;
  std::error_code ignored;  // without /proc the invoked path must do
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", ignored);
  if (!self.empty()) directories.push_back(DirectoryOf(self.string()));
  if (invoked.find('/') != std::string::npos) {
    directories.push_back(DirectoryOf(invoked));
  } else {
    const auto found = std::find_if(on_path.begin(), on_path.end(), [&](const std::string& entry) {
      return IsProgram(entry + "/" + invoked);
    });
    if (found != on_path.end()) directories.push_back(*found);
  }
  directories.insert(directories.end(), on_path.begin(), on_path.end());
  return directories;
}

std::string Joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

[[noreturn]] void FailUnknown(const std::string& name, const std::vector<std::string>& native,
                              const std::string& invoked) {
  std::vector<std::string> found;
  for (const ExternalCommand& command : FindExternalCommands(invoked)) {
    found.push_back(command.name);
  }
  std::string message = "command: expected one of " + Joined(native);
  if (!found.empty()) message += " (built in), " + Joined(found) + " (installed)";
  message += ", got '" + name + "'";
  if (std::find(kPythonCommands.begin(), kPythonCommands.end(), name) != kPythonCommands.end()) {
    message += "; to get it: pip install \"elsa-attention[models]\"";
  }
  throw Error(ErrorCode::kInvalidArgument, message);
}

}  // namespace

std::vector<ExternalCommand> FindExternalCommands(const std::string& invoked) {
  std::map<std::string, std::string> paths;  // by name
  for (const std::string& directory : SearchDirectories(invoked)) {
    std::error_code unreadable;  // such entries of PATH are common and no error
    for (std::filesystem::directory_iterator entry(directory, unreadable), end; entry != end;
         entry.increment(unreadable)) {
      const std::string file = entry->path().filename().string();
      if (!file.starts_with(kPrefix) || file.size() == kPrefix.size()) continue;
      const std::string path = directory + "/" + file;
      if (IsProgram(path)) paths.emplace(file.substr(kPrefix.size()), path);
    }
  }
  std::vector<ExternalCommand> commands;
  for (const auto& [name, path] : paths) commands.push_back({name, path});
  return commands;
}

void RunExternal(const std::vector<std::string>& native, char** argv) {
  const std::string name = argv[1];
  const std::string invoked = argv[0];
  // A slash would leave the directories searched.
  if (name.empty() || name.find('/') != std::string::npos) FailUnknown(name, native, invoked);
  for (const std::string& directory : SearchDirectories(invoked)) {
    std::string path = directory + "/" + std::string(kPrefix) + name;
    if (!IsProgram(path)) continue;
    argv[1] = path.data();
    ::execv(path.c_str(), argv + 1);
    throw Error(ErrorCode::kIo,
                path + ": start: expected success, got " + std::generic_category().message(errno));
  }
  FailUnknown(name, native, invoked);
}

}  // namespace elsa
