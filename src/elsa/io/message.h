// One-line error messages of the file layer: "<where>: <what>: expected X, got Y".
// Private to io; other layers throw elsa::Error themselves.
#ifndef ELSA_IO_MESSAGE_H_
#define ELSA_IO_MESSAGE_H_

#include <cstddef>
#include <string>
#include <string_view>

#include "elsa/base/error.h"

namespace elsa::io {

// Throws elsa::Error{code} with the message "<where>: expected <expected>, got <got>".
[[noreturn]] void Fail(ErrorCode code, std::string_view where, std::string_view expected,
                       std::string_view got);

// Throws elsa::Error{kIo} "<path>: <what>: expected success, got <the system's reason for errno>".
[[noreturn]] void FailSystem(std::string_view path, std::string_view what, int error);

// The text as it may stand in a message, so that a hostile name in a file cannot break the line or
// fill the screen: control characters and bytes that are not UTF-8 are escaped, and what goes
// beyond `longest` bytes is cut off. Our choice: 120 bytes name any real tensor and fit a line or
// two.
std::string Printable(std::string_view text, std::size_t longest = 120);

// Printable text in double quotes.
std::string Quoted(std::string_view text);

}  // namespace elsa::io

#endif  // ELSA_IO_MESSAGE_H_
