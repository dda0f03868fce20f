// ParseConfig: the TOML that configurations need, and no more: [section], key = 64, key = "word",
// comments. What this reader and another both accept means the same to both.
//
// Our choice, instead of toml++ 3.3: malformed text makes that abort ("[[[a]]]", its pull request
// 301; "[,") or run into undefined behaviour (some characters beyond ASCII).
#include <algorithm>
#include <cctype>
#include <map>

#include "elsa/base/error.h"
#include "elsa/params/config.h"
#include "elsa/params/config_check.h"

namespace elsa {
namespace {

std::string_view SectionOf(std::string_view key) { return key.substr(0, key.find('.')); }
std::string_view NameOf(std::string_view key) { return key.substr(key.find('.') + 1); }

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

// A TOML integer in decimal digits without its underscores, or "" if `text` is none.
std::string PlainInteger(std::string_view text) {
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

// The word in quotes, or "" if `text` is not one. Escapes have no use in a word of a configuration.
std::string_view QuotedWord(std::string_view text) {
  if (text.size() < 2 || (text[0] != '"' && text[0] != '\'') || text.back() != text[0]) return {};
  const std::string_view word = text.substr(1, text.size() - 2);
  return word.find_first_of("\"'\\") == std::string_view::npos ? word : std::string_view();
}

// The text's keys with their lines, checked against nothing yet but the grammar.
class Document {
 public:
  Document(std::string_view text, std::string_view name) : name_(name) {
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

  struct Entry {
    std::string_view value;  // as written
    std::size_t line;
  };
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::size_t>& sections() const { return sections_; }

  // The line of a key, or else of its section, or else the first.
  std::size_t LineOf(std::string_view key) const {
    if (const auto found = entries_.find(std::string(key)); found != entries_.end()) {
      return found->second.line;
    }
    const auto section = sections_.find(std::string(SectionOf(key)));
    return section != sections_.end() ? section->second : 1;
  }

  [[noreturn]] void Fail(std::size_t line, std::string_view what, std::string_view expected,
                         std::string_view got) const {
    throw Error(ErrorCode::kInvalidFormat, name_ + ":" + std::to_string(line) + ": " +
                                               Printable(what) + ": expected " +
                                               std::string(expected) + ", got " + Printable(got));
  }

 private:
  std::string ReadSection(std::string_view content, std::size_t line) {
    std::string_view section;
    if (content.size() > 2 && content.back() == ']') {
      section = Trim(content.substr(1, content.size() - 2));
    }
    if (!IsBareKey(section)) Fail(line, "TOML", "[section]", content);
    const auto [at, is_new] = sections_.emplace(section, line);
    if (!is_new) Fail(line, section, "each section once", "a second one");
    return at->first;
  }

  void ReadKey(std::string_view content, const std::string& section, std::size_t line) {
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

  std::string name_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::size_t> sections_;
};

// "one of a, b, c": the sections, or the names in one section.
std::string Known(std::string_view section) {
  std::string words;
  std::string_view last;
  for (const Field& field : Fields()) {
    const std::string_view word = section.empty() ? SectionOf(field.key) : NameOf(field.key);
    if ((!section.empty() && SectionOf(field.key) != section) || word == last) continue;
    words += (words.empty() ? "one of " : ", ") + std::string(word);
    last = word;
  }
  return words;
}

void RefuseUnknownKeys(const Document& document) {
  const auto any = [](const auto& test) {
    return std::any_of(Fields().begin(), Fields().end(), test);
  };
  for (const auto& [section, line] : document.sections()) {
    if (!any([&s = section](const Field& field) { return SectionOf(field.key) == s; })) {
      document.Fail(line, section, Known(""), "an unknown section");
    }
  }
  for (const auto& [key, entry] : document.entries()) {
    if (!any([&k = key](const Field& field) { return field.key == k; })) {
      document.Fail(entry.line, key, Known(SectionOf(key)), "an unknown key");
    }
  }
}

void Read(const Document& document, const Field& field, Config* config) {
  const auto found = document.entries().find(std::string(field.key));
  if (found == document.entries().end()) {
    document.Fail(document.LineOf(field.key), field.key, RangeText(field), "no such key");
  }
  const std::string_view value = found->second.value;
  const std::string text = IsInteger(field) ? PlainInteger(value) : std::string(QuotedWord(value));
  if (!TrySetValue(config, field, text)) {
    document.Fail(found->second.line, field.key, RangeText(field),
                  value.empty() ? "nothing" : value);
  }
}

}  // namespace

Config ParseConfig(std::string_view toml, std::string_view name) {
  const Document document(toml, name);
  RefuseUnknownKeys(document);
  Config config;
  for (const Field& field : Fields()) Read(document, field, &config);
  if (const auto problem = FindProblem(config)) {
    document.Fail(document.LineOf(problem->key), problem->key, problem->expected, problem->got);
  }
  return config;
}

}  // namespace elsa
