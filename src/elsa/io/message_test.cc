#include "elsa/io/message.h"

#include <gtest/gtest.h>

#include <string>

#include "elsa/io/testing.h"
#include "elsa/io/utf8.h"

namespace elsa::io {
namespace {

TEST(Message, HasOneForm) {
  EXPECT_EQ(ErrorOf([] { Fail(ErrorCode::kMismatch, "f: x", "1", "2"); }),
            "mismatch: f: x: expected 1, got 2");
  EXPECT_EQ(ErrorOf([] { FailSystem("f", "open", 2); }),
            "io: f: open: expected success, got No such file or directory");
}

TEST(Printable, KeepsTextAndEscapesTheRest) {
  EXPECT_EQ(Printable("layer.0.q \u00e9\u20ac\U0001F600"), "layer.0.q \u00e9\u20ac\U0001F600");
  EXPECT_EQ(Printable(std::string_view("a\n\x1b\x7f\0", 5)), "a\\x0a\\x1b\\x7f\\x00");
  EXPECT_EQ(Printable("\xff\xc3(\xed\xa0\x80"), "\\xff\\xc3(\\xed\\xa0\\x80");
  EXPECT_EQ(Quoted("a"), "\"a\"");
}

TEST(Printable, CutsBetweenCharacters) {
  EXPECT_EQ(Printable("abcdef", 6), "abcdef");
  EXPECT_EQ(Printable("abcdef", 5), "abcde...");
  EXPECT_EQ(Printable("ab\u20ac", 4), "ab...");
}

// The characters of every length at both ends of their ranges, by counting instead of a table.
TEST(Utf8, AcceptsExactlyTheShortestFormOfEveryCodePoint) {
  const auto decode = [](std::string_view text) -> long {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    if (text.size() == 2) return (byte(0) & 0x1F) << 6 | (byte(1) & 0x3F);
    return (byte(0) & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F);
  };
  // All 2-byte strings, then all 3-byte strings with a 3-byte lead.
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string two = {static_cast<char>(first), static_cast<char>(second)};
      const bool lead2 = (first & 0xE0) == 0xC0;
      const bool good2 = lead2 && (second & 0xC0) == 0x80 && decode(two) >= 0x80;
      if (first >= 0x80) {
        ASSERT_EQ(LeadingCharacter(two), good2 ? 2u : 0u) << first << ' ' << second;
      }
      if ((first & 0xF0) != 0xE0) continue;
      for (int third = 0; third < 256; ++third) {
        const std::string three = two + static_cast<char>(third);
        const long code = decode(three);
        const bool good3 = (second & 0xC0) == 0x80 && (third & 0xC0) == 0x80 && code >= 0x800 &&
                           (code < 0xD800 || code > 0xDFFF);
        ASSERT_EQ(LeadingCharacter(three), good3 ? 3u : 0u)
            << first << ' ' << second << ' ' << third;
      }
    }
  }
  EXPECT_EQ(LeadingCharacter("\xf0\x90\x80\x80"), 4u);
  EXPECT_EQ(LeadingCharacter("\xf0\x8f\xbf\xbf"), 0u);
  EXPECT_EQ(LeadingCharacter("\xf4\x8f\xbf\xbf"), 4u);
  EXPECT_EQ(LeadingCharacter("\xf4\x90\x80\x80"), 0u);
  EXPECT_EQ(LeadingCharacter("\xf5\x80\x80\x80"), 0u);
  EXPECT_EQ(LeadingCharacter(""), 0u);
}

TEST(Utf8, NamesTheFirstBadByte) {
  EXPECT_EQ(FindInvalidUtf8("ab\u20ac"), std::nullopt);
  EXPECT_EQ(FindInvalidUtf8("ab\u20ac\xe2\x82"), 5u);
}

}  // namespace
}  // namespace elsa::io
