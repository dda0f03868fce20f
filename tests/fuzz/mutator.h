// Random damage to text and bytes, repeatable from a seed.
#ifndef ELSA_TESTS_FUZZ_MUTATOR_H_
#define ELSA_TESTS_FUZZ_MUTATOR_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "elsa/base/random.h"

namespace elsa {

// The seed of this run: ELSA_FUZZ_SEED if it is set, else a fixed one.
inline std::uint64_t FuzzSeed() {
  const char* text = std::getenv("ELSA_FUZZ_SEED");
  return text == nullptr ? 20210614 : std::strtoull(text, nullptr, 10);
}

// One to four random edits: bytes flipped, cut, doubled or replaced, numbers swapped for extreme
// ones, fragments of the format's own words put in.
inline std::string Mutated(std::string text, Random* random) {
  constexpr std::array<std::string_view, 24> kFragments = {
      "\"",   "{",    "}",        "[",
      "]",    ",",    ":",        "null",
      "-1",   "0",    "1e9",      "true",
      "{}",   "\\u0", "\"a\":1,", std::string_view("\0", 1),
      "\xff", " ",    "\n",       "18446744073709551615",
      "-0",   "1.5",  "()",       "9223372036854775807"};
  const auto at = [&](std::size_t size) { return static_cast<std::size_t>(random->Below(size)); };
  const std::uint64_t edits = 1 + random->Below(4);
  for (std::uint64_t edit = 0; edit < edits; ++edit) {
    if (text.empty()) return text;
    const std::size_t where = at(text.size());
    const std::size_t length = 1 + at(std::min<std::size_t>(text.size() - where, 16));
    switch (random->Below(7)) {
      case 0:  // one bit
        text[where] = static_cast<char>(text[where] ^ (1 << random->Below(8)));
        break;
      case 1:
        text.erase(where, length);
        break;
      case 2:
        text.insert(at(text.size()), text.substr(where, length));
        break;
      case 3:
        text.resize(where);
        break;
      case 4:
        text.insert(where, kFragments[at(kFragments.size())]);
        break;
      case 5:
        text.replace(where, length, kFragments[at(kFragments.size())]);
        break;
      default: {  // the next digit becomes another one
        const std::size_t digit = text.find_first_of("0123456789", where);
        if (digit != text.npos) text[digit] = static_cast<char>('0' + random->Below(10));
      }
    }
  }
  return text;
}

}  // namespace elsa

#endif  // ELSA_TESTS_FUZZ_MUTATOR_H_
