#include "elsa/io/message.h"

#include <system_error>

#include "elsa/io/utf8.h"

namespace elsa::io {

void Fail(ErrorCode code, std::string_view where, std::string_view expected, std::string_view got) {
  std::string message(where);
  message.append(": expected ").append(expected).append(", got ").append(got);
  throw Error(code, message);
}

void FailSystem(std::string_view path, std::string_view what, int error) {
  Fail(ErrorCode::kIo, Printable(path).append(": ").append(what), "success",
       std::generic_category().message(error));
}

std::string Printable(std::string_view text, std::size_t longest) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t length = LeadingCharacter(text.substr(at));
    const std::size_t step = length == 0 ? 1 : length;
    if (at + step > longest) return out + "...";
    const auto byte = static_cast<unsigned char>(text[at]);
    if (length == 0 || byte < 0x20 || byte == 0x7F) {
      out.append("\\x").push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    } else {
      out.append(text.substr(at, step));
    }
    at += step;
  }
  return out;
}

std::string Quoted(std::string_view text) { return '"' + Printable(text) + '"'; }

}  // namespace elsa::io
