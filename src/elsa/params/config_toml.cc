// ParseConfig: TOML text to Config. The only file that knows toml++.
#include <toml++/toml.h>

#include <algorithm>
#include <sstream>

#include "elsa/base/error.h"
#include "elsa/params/config.h"
#include "elsa/params/config_check.h"

namespace elsa {
namespace {

std::string_view SectionOf(std::string_view key) { return key.substr(0, key.find('.')); }
std::string_view NameOf(std::string_view key) { return key.substr(key.find('.') + 1); }

// A parsed text and the name it goes by in messages.
class Document {
 public:
  Document(std::string_view text, std::string_view name) : name_(name) {
    try {
      root_ = toml::parse(text, name);
    } catch (const toml::parse_error& error) {
      Fail(error.source(), "TOML", "well-formed text", error.description());
    }
  }

  const toml::table& root() const { return root_; }

  // The value of a key, or null.
  const toml::node* Find(std::string_view key) const {
    return root_[SectionOf(key)][NameOf(key)].node();
  }

  // Where a key stands, or else its section, or else the text's beginning.
  const toml::source_region& Where(std::string_view key) const {
    if (const toml::node* node = Find(key)) return node->source();
    const toml::node* section = root_.get(SectionOf(key));
    return section != nullptr ? section->source() : root_.source();
  }

  [[noreturn]] void Fail(const toml::source_region& at, std::string_view key,
                         std::string_view expected, std::string_view got) const {
    std::ostringstream message;
    message << name_ << ":" << std::max<toml::source_index>(at.begin.line, 1) << ": "
            << Printable(key) << ": expected " << expected << ", got " << Printable(got);
    throw Error(ErrorCode::kInvalidFormat, message.str());
  }

 private:
  std::string name_;
  toml::table root_;
};

std::string TypeName(const toml::node& node) {
  std::ostringstream out;
  out << "a value of type " << node.type();
  return out.str();
}

// "one of a, b, c": the sections, or the names in one section.
std::string Known(std::string_view section) {
  std::string words;
  std::string_view last;
  for (const Field& field : Fields()) {
    const bool in_section = SectionOf(field.key) == section;
    const std::string_view word = section.empty() ? SectionOf(field.key) : NameOf(field.key);
    if ((!section.empty() && !in_section) || word == last) continue;
    words += (words.empty() ? "one of " : ", ") + std::string(word);
    last = word;
  }
  return words;
}

void RefuseUnknownKeys(const Document& document) {
  for (const auto& [section, node] : document.root()) {
    const auto has_section = [&s = section](const Field& f) { return SectionOf(f.key) == s.str(); };
    if (std::none_of(Fields().begin(), Fields().end(), has_section)) {
      document.Fail(section.source(), section.str(), Known(""), "an unknown section");
    }
    if (!node.is_table()) {
      document.Fail(node.source(), section.str(), "a table", TypeName(node));
    }
    for (const auto& [name, value] : *node.as_table()) {
      const std::string key = std::string(section.str()) + "." + std::string(name.str());
      const auto is_key = [&key](const Field& field) { return field.key == key; };
      if (std::none_of(Fields().begin(), Fields().end(), is_key)) {
        document.Fail(name.source(), key, Known(section.str()), "an unknown key");
      }
    }
  }
}

void Read(const Document& document, const Field& field, Config* config) {
  const toml::node* node = document.Find(field.key);
  if (node == nullptr) {
    document.Fail(document.Where(field.key), field.key, RangeText(field), "no such key");
  }
  if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
    if (!node->is_integer()) {
      document.Fail(node->source(), field.key, RangeText(field), TypeName(*node));
    }
    config->** integer = node->as_integer()->get();
    return;
  }
  if (!node->is_string()) {
    document.Fail(node->source(), field.key, RangeText(field), TypeName(*node));
  }
  const std::string& word = node->as_string()->get();
  try {
    config->*std::get<HashKind Config::*>(field.member) = ParseHashKind(word);
  } catch (const Error&) {
    document.Fail(node->source(), field.key, RangeText(field), "'" + word + "'");
  }
}

}  // namespace

Config ParseConfig(std::string_view toml, std::string_view name) {
  const Document document(toml, name);
  RefuseUnknownKeys(document);
  Config config;
  for (const Field& field : Fields()) Read(document, field, &config);
  if (const auto problem = FindProblem(config)) {
    document.Fail(document.Where(problem->key), problem->key, problem->expected, problem->got);
  }
  return config;
}

}  // namespace elsa
