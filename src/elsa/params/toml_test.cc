#include "elsa/params/toml.h"

#include <gtest/gtest.h>

#include "elsa/base/error.h"

namespace elsa {
namespace {

// The message of the error that reading the text causes.
template <typename Read>
std::string MessageOf(const std::string& text, const Read& read) {
  try {
    TomlReader reader(text, "x.toml");
    read(&reader);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    return error.what();
  }
  return "no error";
}

TEST(Toml, NumbersAreIntegersAndDecimalFractions) {
  EXPECT_EQ(TomlNumber("3"), 3.0);
  EXPECT_EQ(TomlNumber("1_000"), 1000.0);
  EXPECT_EQ(TomlNumber("0.25"), 0.25);
  EXPECT_EQ(TomlNumber("-0.5"), -0.5);
  EXPECT_EQ(TomlNumber("+2.5"), 2.5);
  EXPECT_EQ(TomlNumber("4.5e-3"), 0.0045);
  EXPECT_EQ(TomlNumber("14e12"), 14e12);
  EXPECT_EQ(TomlNumber("1E+2"), 100.0);
}

TEST(Toml, WhatTomlCallsNoNumberIsNone) {
  for (const char* text :
       {"",      ".5",    "5.",    "1.e5", "1e",  "01",   "0x10", "inf",  "nan",  "1.2.3",
        "1e5.5", "1e999", "\"1\"", "1 2",  "--1", "1__0", "e5",   "1.5x", "1.-5", "1e--5"}) {
    EXPECT_FALSE(TomlNumber(text).has_value()) << text;
  }
}

TEST(TomlReader, ReadsEachTypeAndRefusesNothingThatWasRead) {
  TomlReader reader("# top\n[a]\nwords = \"one, two # three\"  # four\nx = -1.5\ny=2\n[b]\nz = 7\n",
                    "x.toml");
  EXPECT_EQ(reader.Words("a.words"), "one, two # three");
  EXPECT_EQ(reader.Number("a.x"), -1.5);
  EXPECT_EQ(reader.PositiveNumber("a.y"), 2);
  EXPECT_EQ(reader.PositiveInteger("b.z"), 7);
  EXPECT_TRUE(reader.HasSection("b"));
  EXPECT_FALSE(reader.HasSection("c"));
  EXPECT_FALSE(reader.Has("b.w"));
  EXPECT_NO_THROW(reader.RefuseUnread());
}

TEST(TomlReader, ErrorsNameFileLineKeyExpectedAndGot) {
  const std::string text = "[a]\nx = 1\ny = -2\nz =\n";
  const auto read = [&](const auto& call) { return MessageOf(text, call); };
  EXPECT_EQ(read([](TomlReader* r) { r->Words("a.x"); }),
            "x.toml:2: a.x: expected words in quotes, got 1");
  EXPECT_EQ(read([](TomlReader* r) { r->PositiveNumber("a.y"); }),
            "x.toml:3: a.y: expected a positive number, got -2");
  EXPECT_EQ(read([](TomlReader* r) { r->PositiveInteger("a.y"); }),
            "x.toml:3: a.y: expected a positive integer, got -2");
  EXPECT_EQ(read([](TomlReader* r) { r->Number("a.z"); }),
            "x.toml:4: a.z: expected a number, got nothing");
  EXPECT_EQ(read([](TomlReader* r) { r->Number("a.w"); }),
            "x.toml:1: a.w: expected a number, got no such key");
  EXPECT_EQ(read([](TomlReader* r) { r->Number("b.w"); }),
            "x.toml:1: b.w: expected a number, got no such key");
  EXPECT_EQ(read([](TomlReader* r) {
              r->Number("a.x");
              r->Number("a.y");
              r->RefuseUnread();
            }),
            "x.toml:4: a.z: expected one of x, y, got an unknown key");
  EXPECT_EQ(read([](TomlReader* r) {
              r->HasSection("b");
              r->HasSection("c");
              r->RefuseUnread();
            }),
            "x.toml:1: a: expected one of b, c, got an unknown section");
}

TEST(TomlReader, TheGrammarIsThatOfConfigurations) {
  const auto nothing = [](TomlReader*) {};
  EXPECT_EQ(MessageOf("[[[a]]]\n", nothing), "x.toml:1: TOML: expected [section], got [[[a]]]");
  EXPECT_EQ(MessageOf("[a]\n[a]\n", nothing),
            "x.toml:2: a: expected each section once, got a second one");
  EXPECT_EQ(MessageOf("[a]\nx = 1\nx = 1\n", nothing),
            "x.toml:3: a.x: expected each key once, got a second one");
  EXPECT_EQ(MessageOf("x = 1\n", nothing), "x.toml:1: x: expected a [section] before it, got none");
}

}  // namespace
}  // namespace elsa
