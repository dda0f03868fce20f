#include "elsa/io/message.h"

#include <system_error>

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
  const bool shortened = text.size() > longest;
  if (shortened) {
    std::size_t keep = longest;
    // Never cut through a UTF-8 sequence.
    while (keep > 0 && (static_cast<unsigned char>(text[keep]) & 0xC0) == 0x80) --keep;
    text = text.substr(0, keep);
  }
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      out.append("\\x").push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    } else {
      out.push_back(c);
    }
  }
  if (shortened) out.append("...");
  return out;
}

std::string Quoted(std::string_view text) { return '"' + Printable(text) + '"'; }

}  // namespace elsa::io
