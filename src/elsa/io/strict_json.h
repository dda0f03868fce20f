// JSON that may come from anyone: valid UTF-8, one document, no duplicate keys at any level,
// bounded depth, and errors that name the field. Private to io (nlohmann-json must not leave this
// layer).
#ifndef ELSA_IO_STRICT_JSON_H_
#define ELSA_IO_STRICT_JSON_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace elsa::io {

// Parses one JSON document with at most `max_depth` nested containers.
// Errors: kInvalidFormat naming `where`, and line and column where they are known.
nlohmann::json ParseStrictJson(std::string_view text, int max_depth, const std::string& where);

// The text as a JSON string with its quotes. Errors: kInvalidArgument naming `where`: not UTF-8.
std::string JsonString(std::string_view text, const std::string& where);

// A value inside a document together with the path that led to it. Every getter throws
// kInvalidFormat "<path>: expected ..., got ..." if the value is not what is asked for.
class JsonField {
 public:
  // `value` must outlive the field. The children of the root are "<where>: key".
  JsonField(const nlohmann::json& value, std::string where)
      : value_(&value), path_(std::move(where)), separator_(": ") {}

  const std::string& path() const { return path_; }
  // An object that has all of `required`, maybe some of `optional`, and no other key.
  void RequireKeys(std::initializer_list<std::string_view> required,
                   std::initializer_list<std::string_view> optional = {}) const;
  bool Has(std::string_view key) const;
  JsonField At(std::string_view key) const;  // the key must be present
  std::size_t Size() const;                  // of an array
  JsonField operator[](std::size_t index) const;
  bool IsNull() const { return value_->is_null(); }
  bool IsArray() const { return value_->is_array(); }
  const std::string& String() const;
  bool Bool() const;
  double Number() const;
  // A non-negative integer written as one: neither 1.0 nor -0 nor 1e3.
  std::int64_t Integer() const;
  const nlohmann::json& json() const { return *value_; }

  [[noreturn]] void Fail(std::string_view expected) const;  // got: this value
  [[noreturn]] void Fail(std::string_view expected, std::string_view got) const;

 private:
  JsonField(const nlohmann::json& value, std::string path, std::string_view separator)
      : value_(&value), path_(std::move(path)), separator_(separator) {}

  const nlohmann::json* value_;
  std::string path_;
  std::string_view separator_;
};

}  // namespace elsa::io

#endif  // ELSA_IO_STRICT_JSON_H_
