#include "elsa/output.h"

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <sstream>

namespace elsa {
namespace {

std::size_t Width(const std::string& text) {
  return std::count_if(text.begin(), text.end(),
                       [](unsigned char c) { return (c & 0xC0) != 0x80; });
}

}  // namespace

void PrintJson(const Json& object) {
  std::cout << object.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte != 0x7F) {
      out += c;
      continue;
    }
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, "\\x%02x", byte);
    out += escaped;
  }
  return out;
}

Json WordsJson(std::string_view text) {
  Json words = Json::array();
  std::istringstream stream{std::string(text)};
  for (std::string word; stream >> word;) words.push_back(word);
  return words;
}

std::string Fixed(double value, int digits) {
  char text[400];  // the largest double has 309 digits before the point
  std::snprintf(text, sizeof text, "%.*f", digits, value);
  return text;
}

void Table::Print() const {
  std::vector<std::string> header;
  for (const Column& column : columns_) header.push_back(column.name);
  std::vector<std::size_t> widths(columns_.size(), 0);
  const auto widen = [&](const std::vector<std::string>& cells) {
    for (std::size_t c = 0; c < cells.size(); ++c) widths[c] = std::max(widths[c], Width(cells[c]));
  };
  widen(header);
  for (const auto& row : rows_) widen(row);
  const auto print = [&](const std::vector<std::string>& cells) {
    std::string line;
    for (std::size_t c = 0; c < cells.size(); ++c) {
      const std::string space(widths[c] - Width(cells[c]), ' ');
      line += (c > 0 ? "  " : "") + (columns_[c].left ? cells[c] + space : space + cells[c]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    std::cout << line << "\n";
  };
  print(header);
  for (const auto& row : rows_) print(row);
}

}  // namespace elsa
