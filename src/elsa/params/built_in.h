// Data files of this project that the library carries with it (data/tech, data/paper), so that an
// installed program needs no folder beside it. cmake/EmbedData.cmake compiles them in.
#ifndef ELSA_PARAMS_BUILT_IN_H_
#define ELSA_PARAMS_BUILT_IN_H_

#include <cstddef>
#include <string_view>
#include <vector>

namespace elsa {

// The text of data/*/<name>.toml. Errors: kInvalidArgument listing the names.
std::string_view BuiltInData(std::string_view name);

namespace internal {

struct BuiltInFile {
  std::string_view name;
  std::string_view text;
};
extern const BuiltInFile kBuiltInFiles[];
extern const std::size_t kBuiltInFileCount;

}  // namespace internal
}  // namespace elsa

#endif  // ELSA_PARAMS_BUILT_IN_H_
