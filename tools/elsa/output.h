// What a subcommand prints on stdout: one JSON object, or text with tables for people.
// Errors and progress do not come through here: main.cc and progress.h.
#ifndef ELSA_TOOLS_OUTPUT_H_
#define ELSA_TOOLS_OUTPUT_H_

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace elsa {

using Json = nlohmann::ordered_json;

// Prints one object and a newline. Bytes that are not UTF-8 (file names may be anything) are
// replaced; numbers that are not finite become null.
void PrintJson(const Json& object);

// The text with control characters written as \xNN, so that what stands in a file or a name can
// neither break a line nor steer a terminal.
std::string Escaped(std::string_view text);

// The words of a text, which spaces separate, as an array.
Json WordsJson(std::string_view text);

// The number with that many digits after the point.
std::string Fixed(double value, int digits);

// Columns as wide as their widest cell, on stdout. Widths count code points, so that tokens in
// other scripts line up (East Asian wide characters do not).
class Table {
 public:
  struct Column {
    std::string name;
    bool left = false;  // aligned left instead of right
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {}
  // One cell per column.
  void AddRow(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  void Print() const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace elsa

#endif  // ELSA_TOOLS_OUTPUT_H_
