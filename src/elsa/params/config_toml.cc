// ParseConfig: what the keys of a configuration mean. The TOML itself is elsa/params/toml.h's.
#include <algorithm>

#include "elsa/params/config.h"
#include "elsa/params/config_check.h"
#include "elsa/params/toml.h"

namespace elsa {
namespace {

// "one of a, b, c": the sections, or the names in one section.
std::string Known(std::string_view section) {
  std::string words;
  std::string_view last;
  for (const Field& field : Fields()) {
    const std::string_view word = section.empty() ? TomlSection(field.key) : TomlName(field.key);
    if ((!section.empty() && TomlSection(field.key) != section) || word == last) continue;
    words += (words.empty() ? "one of " : ", ") + std::string(word);
    last = word;
  }
  return words;
}

void RefuseUnknownKeys(const TomlDocument& document) {
  const auto any = [](const auto& test) {
    return std::any_of(Fields().begin(), Fields().end(), test);
  };
  for (const auto& [section, line] : document.sections()) {
    if (!any([&s = section](const Field& field) { return TomlSection(field.key) == s; })) {
      document.Fail(line, section, Known(""), "an unknown section");
    }
  }
  for (const auto& [key, entry] : document.entries()) {
    if (!any([&k = key](const Field& field) { return field.key == k; })) {
      document.Fail(entry.line, key, Known(TomlSection(key)), "an unknown key");
    }
  }
}

void Read(const TomlDocument& document, const Field& field, Config* config) {
  const auto found = document.entries().find(std::string(field.key));
  if (found == document.entries().end()) {
    document.Fail(document.LineOf(field.key), field.key, RangeText(field), "no such key");
  }
  const std::string_view value = found->second.value;
  const std::string text = IsInteger(field) ? TomlInteger(value) : std::string(TomlWord(value));
  if (!TrySetValue(config, field, text)) {
    document.Fail(found->second.line, field.key, RangeText(field),
                  value.empty() ? "nothing" : value);
  }
}

}  // namespace

Config ParseConfig(std::string_view toml, std::string_view name) {
  const TomlDocument document(toml, name);
  RefuseUnknownKeys(document);
  Config config;
  for (const Field& field : Fields()) Read(document, field, &config);
  if (const auto problem = FindProblem(config)) {
    document.Fail(document.LineOf(problem->key), problem->key, problem->expected, problem->got);
  }
  return config;
}

}  // namespace elsa
