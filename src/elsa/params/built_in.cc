#include "elsa/params/built_in.h"

#include <span>
#include <string>

#include "elsa/base/error.h"

namespace elsa {

std::string_view BuiltInData(std::string_view name) {
  std::string known;
  for (const auto& file : std::span(internal::kBuiltInFiles, internal::kBuiltInFileCount)) {
    if (file.name == name) return file.text;
    known += (known.empty() ? "" : ", ") + std::string(file.name);
  }
  throw Error(ErrorCode::kInvalidArgument,
              "built-in data: expected one of " + known + ", got '" + std::string(name) + "'");
}

}  // namespace elsa
