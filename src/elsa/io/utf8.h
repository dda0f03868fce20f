// Well-formed UTF-8, by table 3-7 of the Unicode standard. Private to io.
#ifndef ELSA_IO_UTF8_H_
#define ELSA_IO_UTF8_H_

#include <cstddef>
#include <optional>
#include <string_view>

namespace elsa::io {

// Length in bytes of the character that `text` begins with; 0 if it begins with none.
std::size_t LeadingCharacter(std::string_view text);

// Where the text stops being UTF-8, if it does.
std::optional<std::size_t> FindInvalidUtf8(std::string_view text);

}  // namespace elsa::io

#endif  // ELSA_IO_UTF8_H_
