#include "elsa/params/toml.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <cmath>

#include "elsa/base/error.h"
#include "elsa/params/config_check.h"

namespace elsa {
namespace {

std::string_view Trim(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r";
  const std::size_t begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlank) - begin + 1);
}

bool IsBareKey(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) || c == '_' || c == '-');
  });
}

// The line without its comment. A '#' inside quotes is no comment.
std::string_view WithoutComment(std::string_view line) {
  char quote = 0;
  for (std::size_t i = 0; i < line.size(); ++i) {
    const char c = line[i];
    if (quote == 0 && c == '#') return line.substr(0, i);
    if (quote == 0 && (c == '"' || c == '\'')) {
      quote = c;
    } else if (c == quote) {
      quote = 0;
    }
  }
  return line;
}

bool IsDigits(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(),
                                      [](unsigned char c) { return c >= '0' && c <= '9'; });
}

}  // namespace

std::string_view TomlSection(std::string_view key) { return key.substr(0, key.find('.')); }
std::string_view TomlName(std::string_view key) { return key.substr(key.find('.') + 1); }

std::string TomlInteger(std::string_view text) {
  std::string plain;
  if (text.starts_with('-')) plain = "-";
  if (text.starts_with('-') || text.starts_with('+')) text.remove_prefix(1);
  if (text.empty() || (text.size() > 1 && text[0] == '0')) return {};
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool digit = text[i] >= '0' && text[i] <= '9';
    if (digit) plain += text[i];
    // An underscore stands between two digits.
    const bool between = i > 0 && i + 1 < text.size() && text[i - 1] != '_';
    if (!digit && !(text[i] == '_' && between)) return {};
  }
  return plain;
}

std::optional<double> TomlNumber(std::string_view text) {
  // TOML: an integer, then a fraction of at least one digit, an exponent, or both.
  const std::size_t exponent = text.find_first_of("eE");
  const std::size_t point = text.substr(0, exponent).find('.');
  std::string plain = TomlInteger(text.substr(0, std::min(point, exponent)));
  if (plain.empty()) return std::nullopt;
  if (point != std::string_view::npos) {
    const std::string_view fraction = text.substr(0, exponent).substr(point + 1);
    if (!IsDigits(fraction)) return std::nullopt;
    plain += "." + std::string(fraction);
  }
  if (exponent != std::string_view::npos) {
    std::string_view power = text.substr(exponent + 1);
    plain += power.starts_with('-') ? "e-" : "e";
    if (power.starts_with('-') || power.starts_with('+')) power.remove_prefix(1);
    if (!IsDigits(power)) return std::nullopt;
    plain += power;
  }
  double value = 0;  // not strtod: its decimal point follows the locale
  const auto result = std::from_chars(plain.data(), plain.data() + plain.size(), value);
  if (result.ec != std::errc() || !std::isfinite(value)) return std::nullopt;
  return value;
}

std::string_view TomlWord(std::string_view text) {
  if (text.size() < 2 || (text[0] != '"' && text[0] != '\'') || text.back() != text[0]) return {};
  const std::string_view word = text.substr(1, text.size() - 2);
  return word.find_first_of("\"'\\") == std::string_view::npos ? word : std::string_view();
}

TomlDocument::TomlDocument(std::string_view text, std::string_view name) : name_(name) {
  std::string section;
  std::size_t line = 0;
  while (!text.empty()) {
    ++line;
    const std::size_t end = text.find('\n');
    const std::string_view content = Trim(WithoutComment(text.substr(0, end)));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (content.starts_with('[')) {
      section = ReadSection(content, line);
    } else if (!content.empty()) {
      ReadKey(content, section, line);
    }
  }
}

std::size_t TomlDocument::LineOf(std::string_view key) const {
  if (const auto found = entries_.find(std::string(key)); found != entries_.end()) {
    return found->second.line;
  }
  const auto section = sections_.find(std::string(TomlSection(key)));
  return section != sections_.end() ? section->second : 1;
}

void TomlDocument::Fail(std::size_t line, std::string_view what, std::string_view expected,
                        std::string_view got) const {
  throw Error(ErrorCode::kInvalidFormat, name_ + ":" + std::to_string(line) + ": " +
                                             Printable(what) + ": expected " +
                                             std::string(expected) + ", got " + Printable(got));
}

std::string TomlDocument::ReadSection(std::string_view content, std::size_t line) {
  std::string_view section;
  if (content.size() > 2 && content.back() == ']') {
    section = Trim(content.substr(1, content.size() - 2));
  }
  if (!IsBareKey(section)) Fail(line, "TOML", "[section]", content);
  const auto [at, is_new] = sections_.emplace(section, line);
  if (!is_new) Fail(line, section, "each section once", "a second one");
  return at->first;
}

void TomlDocument::ReadKey(std::string_view content, const std::string& section, std::size_t line) {
  const std::size_t equals = content.find('=');
  const std::string_view key = Trim(content.substr(0, equals));
  if (equals == std::string_view::npos || !IsBareKey(key)) {
    Fail(line, "TOML", "[section] or key = value", content);
  }
  if (section.empty()) Fail(line, key, "a [section] before it", "none");
  const std::string_view value = Trim(content.substr(equals + 1));
  if (!entries_.emplace(section + "." + std::string(key), Entry{value, line}).second) {
    Fail(line, section + "." + std::string(key), "each key once", "a second one");
  }
}

void TomlReader::Fail(std::string_view key, std::string_view expected, std::string_view got) const {
  document_.Fail(document_.LineOf(key), key, expected, got.empty() ? "nothing" : got);
}

bool TomlReader::HasSection(std::string_view section) const {
  known_.emplace(section);
  return document_.sections().contains(std::string(section));
}

bool TomlReader::Has(std::string_view key) const {
  known_.emplace(TomlSection(key));
  known_.emplace(key);
  return document_.entries().contains(std::string(key));
}

std::string_view TomlReader::Raw(std::string_view key, std::string_view expected) {
  if (!Has(key)) Fail(key, expected, "no such key");
  return document_.entries().at(std::string(key)).value;
}

std::string TomlReader::Words(std::string_view key) {
  constexpr std::string_view kExpected = "words in quotes";
  const std::string_view raw = Raw(key, kExpected);
  const std::string_view words = TomlWord(raw);
  if (words.empty()) Fail(key, kExpected, raw);
  return std::string(words);
}

double TomlReader::Number(std::string_view key) {
  constexpr std::string_view kExpected = "a number";
  const std::string_view raw = Raw(key, kExpected);
  const auto value = TomlNumber(raw);
  if (!value) Fail(key, kExpected, raw);
  return *value;
}

double TomlReader::PositiveNumber(std::string_view key) {
  constexpr std::string_view kExpected = "a positive number";
  const std::string_view raw = Raw(key, kExpected);
  const auto value = TomlNumber(raw);
  if (!value || !(*value > 0)) Fail(key, kExpected, raw);
  return *value;
}

std::int64_t TomlReader::PositiveInteger(std::string_view key) {
  constexpr std::string_view kExpected = "a positive integer";
  const std::string_view raw = Raw(key, kExpected);
  const std::string text = TomlInteger(raw);
  std::int64_t value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || result.ec != std::errc() || value <= 0) Fail(key, kExpected, raw);
  return value;
}

void TomlReader::RefuseUnread() const {
  for (const auto& [section, line] : document_.sections()) {
    if (!known_.contains(section)) {
      std::string known;
      for (const std::string& word : known_) {
        if (word.find('.') == std::string::npos) known += (known.empty() ? "one of " : ", ") + word;
      }
      document_.Fail(line, section, known, "an unknown section");
    }
  }
  for (const auto& [key, entry] : document_.entries()) {
    if (known_.contains(key)) continue;
    std::string known;
    for (const std::string& word : known_) {
      if (word.find('.') == std::string::npos || TomlSection(word) != TomlSection(key)) continue;
      known += (known.empty() ? "one of " : ", ") + std::string(TomlName(word));
    }
    document_.Fail(entry.line, key, known, "an unknown key");
  }
}

}  // namespace elsa
