#include "elsa/io/strict_json.h"

#include <algorithm>
#include <limits>
#include <unordered_set>
#include <vector>

#include "elsa/io/message.h"
#include "elsa/io/utf8.h"

namespace elsa::io {
namespace {

using nlohmann::json;

std::string Position(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte, text.size()));
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const std::size_t newline = before.rfind('\n');
  const std::size_t column = before.size() - (newline == before.npos ? 0 : newline + 1) + 1;
  return "line " + std::to_string(line) + ", column " + std::to_string(column);
}

// Watches the parser: containers open now, and the keys seen in each.
class Watcher {
 public:
  Watcher(int max_depth, const std::string& where) : max_depth_(max_depth), where_(where) {}

  bool operator()(int /*depth*/, json::parse_event_t event, json& parsed) {
    switch (event) {
      case json::parse_event_t::object_start:
      case json::parse_event_t::array_start:
        if (static_cast<int>(keys_.size()) == max_depth_) {
          Fail(ErrorCode::kInvalidFormat, where_ + ": JSON",
               "at most " + std::to_string(max_depth_) + " nested objects and arrays", "more");
        }
        keys_.emplace_back();
        break;
      case json::parse_event_t::object_end:
      case json::parse_event_t::array_end:
        keys_.pop_back();
        break;
      case json::parse_event_t::key: {
        const auto& key = parsed.get_ref<const std::string&>();
        if (!keys_.back().insert(key).second) {
          Fail(ErrorCode::kInvalidFormat, where_ + ": JSON", "each key once per object",
               Quoted(key) + " twice");
        }
        break;
      }
      case json::parse_event_t::value:
        break;
    }
    return true;
  }

 private:
  int max_depth_;
  const std::string& where_;
  std::vector<std::unordered_set<std::string>> keys_;
};

}  // namespace

json ParseStrictJson(std::string_view text, int max_depth, const std::string& where) {
  if (const auto bad = FindInvalidUtf8(text)) {
    Fail(ErrorCode::kInvalidFormat, where + ": JSON", "UTF-8",
         "other bytes at " + Position(text, *bad));
  }
  // Traps of the parser: it skips a byte order mark and takes a NUL byte for the end of the text.
  if (text.starts_with("\xEF\xBB\xBF")) {
    Fail(ErrorCode::kInvalidFormat, where + ": JSON", "no byte order mark", "one");
  }
  if (const std::size_t nul = text.find('\0'); nul != text.npos) {
    Fail(ErrorCode::kInvalidFormat, where + ": JSON", "no NUL byte",
         "one at " + Position(text, nul));
  }
  try {
    return json::parse(text.begin(), text.end(), Watcher(max_depth, where));
  } catch (const json::parse_error& error) {
    Fail(ErrorCode::kInvalidFormat, where + ": JSON", "a JSON document",
         "a syntax error at " + Position(text, error.byte == 0 ? 0 : error.byte - 1));
  } catch (const json::exception&) {
    // The one other error of the parser: a number beyond double.
    Fail(ErrorCode::kInvalidFormat, where + ": JSON", "numbers that fit a double", "a larger one");
  }
}

std::string JsonString(std::string_view text, const std::string& where) {
  if (FindInvalidUtf8(text)) {
    Fail(ErrorCode::kInvalidArgument, where, "UTF-8 text", "other bytes");
  }
  return json(text).dump();
}

void JsonField::Fail(std::string_view expected) const {
  Fail(expected, Printable(value_->dump(-1, ' ', false, json::error_handler_t::replace)));
}

void JsonField::Fail(std::string_view expected, std::string_view got) const {
  io::Fail(ErrorCode::kInvalidFormat, path_, expected, got);
}

void JsonField::RequireKeys(std::initializer_list<std::string_view> required,
                            std::initializer_list<std::string_view> optional) const {
  if (!value_->is_object()) Fail("an object");
  for (const std::string_view key : required) {
    if (!Has(key)) Fail("the key " + Quoted(key), "none");
  }
  for (const auto& [key, value] : value_->items()) {
    const auto is_key = [&key = key](std::string_view known) { return known == key; };
    if (std::none_of(required.begin(), required.end(), is_key) &&
        std::none_of(optional.begin(), optional.end(), is_key)) {
      Fail("no unknown key", Quoted(key));
    }
  }
}

bool JsonField::Has(std::string_view key) const {
  return value_->is_object() && value_->find(key) != value_->end();
}

JsonField JsonField::At(std::string_view key) const {
  std::string path = path_;
  path.append(separator_).append(Printable(key));
  return {*value_->find(key), std::move(path), "."};
}

std::size_t JsonField::Size() const {
  if (!value_->is_array()) Fail("an array");
  return value_->size();
}

JsonField JsonField::operator[](std::size_t index) const {
  return {(*value_)[index], path_ + '[' + std::to_string(index) + ']', "."};
}

const std::string& JsonField::String() const {
  if (!value_->is_string()) Fail("a string");
  return value_->get_ref<const std::string&>();
}

bool JsonField::Bool() const {
  if (!value_->is_boolean()) Fail("true or false");
  return value_->get<bool>();
}

double JsonField::Number() const {
  if (!value_->is_number()) Fail("a number");
  return value_->get<double>();
}

std::int64_t JsonField::Integer() const {
  if (!value_->is_number_unsigned() ||
      value_->get<std::uint64_t>() >
          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    Fail("an integer >= 0");
  }
  return value_->get<std::int64_t>();
}

}  // namespace elsa::io
