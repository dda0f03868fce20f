// The TOML that the project's files need, and no more: [section], key = 64, key = 0.5, key =
// "words", comments. What this reader and another both accept means the same to both. It reads
// text; what keys mean is the caller's business (ParseConfig, elsa/cost). Files are read by the
// caller of those.
//
// Our choice, instead of toml++ 3.3: malformed text makes that abort ("[[[a]]]", its pull request
// 301; "[,") or run into undefined behaviour (some characters beyond ASCII).
#ifndef ELSA_PARAMS_TOML_H_
#define ELSA_PARAMS_TOML_H_

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

namespace elsa {

// "section.name" apart.
std::string_view TomlSection(std::string_view key);
std::string_view TomlName(std::string_view key);

// A TOML integer in decimal digits without its underscores, or "" if `text` is none.
std::string TomlInteger(std::string_view text);

// A TOML integer or decimal fraction, 3, -0.5 or 4.0e-5, or nothing if `text` is none.
std::optional<double> TomlNumber(std::string_view text);

// The word in quotes, or "" if `text` is not one. Without escapes: no file needs them.
std::string_view TomlWord(std::string_view text);

// A text's keys with their lines, checked against nothing yet but the grammar.
class TomlDocument {
 public:
  // `name` stands for the text in messages, usually the file's name.
  // Errors: kInvalidFormat, "x.toml:3: TOML: expected [section] or key = value, got a".
  TomlDocument(std::string_view text, std::string_view name);

  struct Entry {
    std::string_view value;  // as written; a view of the text
    std::size_t line;
  };
  // By "section.name".
  const std::map<std::string, Entry>& entries() const { return entries_; }
  const std::map<std::string, std::size_t>& sections() const { return sections_; }

  // The line of a key, or else of its section, or else the first.
  std::size_t LineOf(std::string_view key) const;

  // Throws kInvalidFormat: "x.toml:12: machine.banks: expected integer 1 to 256, got 0".
  [[noreturn]] void Fail(std::size_t line, std::string_view what, std::string_view expected,
                         std::string_view got) const;

 private:
  std::string ReadSection(std::string_view content, std::size_t line);
  void ReadKey(std::string_view content, const std::string& section, std::size_t line);

  std::string name_;
  std::map<std::string, Entry> entries_;
  std::map<std::string, std::size_t> sections_;
};

// Reads a text key by key and remembers which: at the end, RefuseUnread names what nobody knows.
// Errors of all: kInvalidFormat as TomlDocument::Fail.
class TomlReader {
 public:
  TomlReader(std::string_view text, std::string_view name) : document_(text, name) {}

  bool HasSection(std::string_view section) const;
  bool Has(std::string_view key) const;
  // Words in quotes, not empty.
  std::string Words(std::string_view key);
  double Number(std::string_view key);
  double PositiveNumber(std::string_view key);
  std::int64_t PositiveInteger(std::string_view key);
  // The value as written.
  std::string_view Raw(std::string_view key, std::string_view expected);

  // Every section must have been asked for (HasSection or a key of it), and every key read.
  void RefuseUnread() const;

  const TomlDocument& document() const { return document_; }

 private:
  [[noreturn]] void Fail(std::string_view key, std::string_view expected,
                         std::string_view got) const;

  TomlDocument document_;
  mutable std::set<std::string> known_;  // sections and keys that were asked for
};

}  // namespace elsa

#endif  // ELSA_PARAMS_TOML_H_
