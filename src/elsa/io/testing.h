// What the tests of io share: a temporary folder, raw safetensors bytes, and error checks.
#ifndef ELSA_IO_TESTING_H_
#define ELSA_IO_TESTING_H_

#include <gtest/gtest.h>
#include <stdlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "elsa/base/error.h"

namespace elsa::io {

// A folder that lives as long as the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "elsa_io_XXXXXX";
    if (::mkdtemp(pattern.data()) == nullptr) throw Error(ErrorCode::kIo, "mkdtemp failed");
    path_ = pattern;
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string operator/(std::string_view name) const { return path_ / name; }
  std::size_t Entries() const {
    const std::filesystem::directory_iterator entries(path_);
    return static_cast<std::size_t>(std::distance(begin(entries), end(entries)));
  }

 private:
  std::filesystem::path path_;
};

inline std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void WriteText(const std::string& path, std::string_view text) {
  std::ofstream(path, std::ios::binary).write(text.data(), std::ssize(text));
}

// The bytes of a safetensors file with this header text and data; `size` overrides the true size.
inline std::string RawSafetensors(std::string_view header, std::string_view data = {},
                                  std::optional<std::uint64_t> size = {}) {
  const std::uint64_t written = size.value_or(header.size());
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &written, 8);
  return bytes.append(header).append(data);
}

// The error that `run` throws, as "<code>: <message>"; "no error" if it throws none.
template <typename Run>
std::string ErrorOf(const Run& run) {
  try {
    run();
  } catch (const Error& error) {
    return std::string(ErrorCodeName(error.code())) + ": " + error.what();
  }
  return "no error";
}

}  // namespace elsa::io

#endif  // ELSA_IO_TESTING_H_
