#include "elsa/params/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "elsa/base/error.h"
#include "elsa/params/repository_file_test.h"

namespace elsa {
namespace {

std::string_view SectionOf(std::string_view key) { return key.substr(0, key.find('.')); }
std::string_view NameOf(std::string_view key) { return key.substr(key.find('.') + 1); }

// A field's value as TOML.
std::string TomlValue(const Config& config, const Field& field) {
  const std::string text = ValueText(config, field);
  return IsInteger(field) ? text : '"' + text + '"';
}

// The paper's machine, one key per line from line 2 or 13 on; `key` gets `value`, or no line at
// all if `value` is empty.
std::string PaperTomlWith(std::string_view key, const std::string& value) {
  std::string text;
  std::string_view section;
  for (const Field& field : Fields()) {
    if (SectionOf(field.key) != section) {
      section = SectionOf(field.key);
      text += "[" + std::string(section) + "]\n";
    }
    if (field.key == key && value.empty()) continue;
    text += std::string(NameOf(field.key)) + " = " +
            (field.key == key ? value : TomlValue(Config(), field)) + "\n";
  }
  return text;
}

// The message of the error that the text must cause.
std::string MessageOf(const std::string& toml) {
  try {
    ParseConfig(toml, "x.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidFormat);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "no error";
}

std::string MessageOf(const Config& config) {
  try {
    ValidateConfig(config);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    return error.what();
  }
  return "no error";
}

TEST(Config, DefaultIsThePapersMachine) {
  EXPECT_EQ(ParseConfig(RepositoryFile("configs/paper.toml"), "paper.toml"), Config());
}

TEST(Config, SingleFileIsThePapersExampleOfOnePipeline) {
  Config expected;
  expected.banks = 1;
  expected.hash_multipliers = 64;
  expected.division_multipliers = 8;
  expected.accelerators = 1;
  EXPECT_EQ(ParseConfig(RepositoryFile("configs/single.toml"), "single.toml"), expected);
}

TEST(Config, EveryFileNamesThePapersSectionBesideEveryKey) {
  for (const char* path : {"configs/tiny.toml", "configs/single.toml", "configs/paper.toml",
                           "configs/recommended.toml"}) {
    std::istringstream lines(RepositoryFile(path));
    int keys = 0;
    for (std::string line; std::getline(lines, line);) {
      const std::size_t equals = line.find(" = ");
      if (line.starts_with("#") || equals == std::string::npos) continue;
      ++keys;
      const std::size_t comment = line.find("# ");
      ASSERT_NE(comment, std::string::npos) << path << ": " << line;
      EXPECT_NE(line.find("-", comment), std::string::npos) << path << ": " << line;
    }
    EXPECT_EQ(keys, static_cast<int>(Fields().size())) << path;
  }
}

TEST(Config, FieldTableHasEveryMemberOnce) {
  std::set<std::string_view> keys;
  std::set<std::string> distinct;  // members told apart by giving each its own value
  Config config;
  std::int64_t mark = 1000;
  for (const Field& field : Fields()) {
    EXPECT_TRUE(keys.insert(field.key).second) << field.key;
    EXPECT_FALSE(field.doc.empty() || field.section.empty()) << field.key;
    if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
      config.** integer = ++mark;
    }
  }
  for (const Field& field : Fields()) {
    if (IsInteger(field)) distinct.insert(ValueText(config, field));
  }
  EXPECT_EQ(distinct.size(), static_cast<std::size_t>(mark - 1000));
  // Integers, words and words padded to 8 bytes. That each word has its own member shows in
  // Digest.ChangesWithEverySingleField.
  EXPECT_EQ(Fields().size() * 8, sizeof(Config));
}

TEST(Config, RecommendedFileIsThePapersMachineInTheRecommendedFormats) {
  Config expected;
  SetFormats(&expected, "recommended");
  EXPECT_EQ(ParseConfig(RepositoryFile("configs/recommended.toml"), "recommended.toml"), expected);
}

TEST(FormatSets, AreRecognisedWhateverTheMachine) {
  Config config;
  config.banks = 2;
  EXPECT_EQ(FormatSetOf(config), "paper-literal");
  SetFormats(&config, "recommended");
  EXPECT_EQ(FormatSetOf(config), "recommended");
  EXPECT_EQ(config.banks, 2);
  config.norm_bits = 7;
  EXPECT_EQ(FormatSetOf(config), "custom");
  SetFormats(&config, "paper-literal");
  config.banks = 4;
  EXPECT_EQ(config, Config());
  EXPECT_THROW(SetFormats(&config, "best"), Error);
}

TEST(Config, LayoutOfTheTextDoesNotMatter) {
  std::string text = "# reversed, spaced, no newline at the end\r\n";
  std::string_view section;
  for (std::size_t i = Fields().size(); i-- > 0;) {
    const Field& field = Fields()[i];
    if (SectionOf(field.key) != section) {
      section = SectionOf(field.key);
      text += "\r\n\t[ " + std::string(section) + " ]# '\r\n";
    }
    text += (i + 1 < Fields().size() ? "\r\n  " : "  ") + std::string(NameOf(field.key)) + "=\t" +
            TomlValue(Config(), field) + "# \"x\" = \xc3\xa9";
  }
  EXPECT_EQ(ParseConfig(text, "x.toml"), Config());
  EXPECT_EQ(Digest(ParseConfig(text, "x.toml")), Digest(Config()));
  EXPECT_EQ(ParseConfig(PaperTomlWith("machine.clock_hz", "+1_000_000_000"), "x.toml"), Config());
  EXPECT_EQ(ParseConfig(PaperTomlWith("machine.hash", "'kronecker3'"), "x.toml"), Config());
}

TEST(Config, RefusesEachMissingKeyAtItsSection) {
  for (const Field& field : Fields()) {
    const std::string text = PaperTomlWith(field.key, "");
    const auto section = text.find("[" + std::string(SectionOf(field.key)) + "]");
    const auto line = 1 + std::count(text.begin(), text.begin() + section, '\n');
    EXPECT_EQ(MessageOf(text), "x.toml:" + std::to_string(line) + ": " + std::string(field.key) +
                                   ": expected " + RangeText(field) + ", got no such key");
  }
  EXPECT_EQ(MessageOf(std::string()),
            "x.toml:1: machine.n: expected integer 1 to 65536, got no such key");
}

TEST(Config, RefusesEachKeyOutOfRangeOrOfAnotherTypeAtItsLine) {
  int line = 0;
  std::string_view section;
  for (const Field& field : Fields()) {
    line += SectionOf(field.key) != section ? 2 : 1;
    section = SectionOf(field.key);
    const auto expect = [&](const std::string& value, const std::string& got) {
      EXPECT_EQ(MessageOf(PaperTomlWith(field.key, value)),
                "x.toml:" + std::to_string(line) + ": " + std::string(field.key) + ": expected " +
                    RangeText(field) + ", got " + got);
    };
    expect(" # empty", "nothing");
    if (!IsInteger(field)) {
      for (const char* value : {"\"hadamard\"", "\"sha\"", "3", "kronecker3", "\"dense", "\"dense'",
                                "\"\"", "\"", "\"den\" \"se\"", "\"den\\x73e\""}) {
        expect(value, value);
      }
      continue;
    }
    for (const std::int64_t value : {field.min - 1, field.max + 1}) {
      expect(std::to_string(value), std::to_string(value));
    }
    for (const char* value :
         {"64.0", "\"64\"", "true", "[64]", "{ a = 64 }", "64 64", "0x40", "064", "_6", "6_",
          "6__4", "+", "-", "6e1", "64 = 64", "99999999999999999999"}) {
      expect(value, value);
    }
  }
}

TEST(Config, RefusesUnknownKeysAndSections) {
  const std::string good = PaperTomlWith("", "");
  EXPECT_EQ(MessageOf("[machine]\nbankz = 4\n"),
            "x.toml:2: machine.bankz: expected one of n, d, k, hash, banks, selectors_per_bank, "
            "hash_multipliers, division_multipliers, queue_depth, query_buffers, remainder, "
            "clock_hz, accelerators, got an unknown key");
  EXPECT_EQ(MessageOf(good + "[power]\nvolt = 1\n"),
            "x.toml:" + std::to_string(Fields().size() + 4) +
                ": power: expected one of machine, host, format, got an unknown section");
}

TEST(Config, RefusesTextThatIsNotAConfiguration) {
  const std::string key_expected = ": TOML: expected [section] or key = value, got ";
  EXPECT_EQ(MessageOf("\n[machine]\nn\n"), "x.toml:3" + key_expected + "n");
  EXPECT_EQ(MessageOf("[machine]\n= 3\n"), "x.toml:2" + key_expected + "= 3");
  EXPECT_EQ(MessageOf("[machine]\nn m = 3\n"), "x.toml:2" + key_expected + "n m = 3");
  EXPECT_EQ(MessageOf("[machine]\n\"n\" = 3\n"), "x.toml:2" + key_expected + "\"n\" = 3");
  EXPECT_EQ(MessageOf("machine.n = 3\n"), "x.toml:1" + key_expected + "machine.n = 3");
  EXPECT_EQ(MessageOf("\xff\xfe\n"), "x.toml:1" + key_expected + "??");
  EXPECT_EQ(MessageOf(std::string("\0\0", 2)), "x.toml:1" + key_expected + "??");
  for (const char* header : {"[", "[]", "[ ]", "[machine", "[[machine]]", "[ma chine]",
                             "[machine] 3", "[%]", "[[[a]]]", "[a.b]", "[\"machine\"]"}) {
    EXPECT_EQ(MessageOf(std::string("# x\n ") + header),
              std::string("x.toml:2: TOML: expected [section], got ") + header);
  }
  EXPECT_EQ(MessageOf("n = 3\n"), "x.toml:1: n: expected a [section] before it, got none");
  EXPECT_EQ(MessageOf("[machine]\nn = 3\nn = 3\n"),
            "x.toml:3: machine.n: expected each key once, got a second one");
  EXPECT_EQ(MessageOf("[machine]\n[format]\n[machine]\n"),
            "x.toml:3: machine: expected each section once, got a second one");
}

TEST(Config, MessagesStayOneShortLine) {
  EXPECT_EQ(MessageOf("[machine]\nn = a\tb\x1b[31m\n"), MessageOf("[machine]\nn = a?b?[31m\n"));
  EXPECT_LT(MessageOf("[machine]\n" + std::string(100000, 'a') + " = 1\n").size(), 1000u);
  EXPECT_LT(MessageOf(PaperTomlWith("machine.hash", '"' + std::string(100000, 'a') + '"')).size(),
            1000u);
}

TEST(Config, RefusesWhatNoMachineCanBe) {
  const auto message = [](auto member, std::int64_t value) {
    Config config;
    config.*member = value;
    return MessageOf(config);
  };
  EXPECT_EQ(message(&Config::banks, 3),
            "machine.banks: expected a divisor of machine.n = 512, got 3");
  EXPECT_EQ(message(&Config::selectors_per_bank, 129),
            "machine.selectors_per_bank: expected at most the 128 keys of a bank, got 129");
  EXPECT_EQ(message(&Config::d, 62),
            "machine.d: expected a product of 3 integers above 1 for hash kronecker3, got 62");
  EXPECT_EQ(message(&Config::hash_multipliers, 200),
            "machine.hash_multipliers: expected a divisor of the 768 multiplications of one hash "
            "(nearest: 192 or 256), got 200");
  EXPECT_EQ(message(&Config::hash_multipliers, 1000),
            "machine.hash_multipliers: expected a divisor of the 768 multiplications of one hash "
            "(nearest: 768), got 1000");
  EXPECT_EQ(message(&Config::division_multipliers, 24),
            "machine.division_multipliers: expected a divisor of machine.d = 64, got 24");
  EXPECT_EQ(message(&Config::exp_table_entries, 33),
            "format.exp_table_entries: expected a power of two, got 33");
  EXPECT_EQ(message(&Config::reciprocal_table_entries, 64),
            "format.reciprocal_table_entries: expected a power of two, at most 2^5 "
            "(sum_fraction_bits), got 64");
  EXPECT_EQ(message(&Config::reciprocal_table_entries, 31),
            "format.reciprocal_table_entries: expected a power of two, at most 2^5 "
            "(sum_fraction_bits), got 31");
  EXPECT_EQ(message(&Config::qkv_fraction_bits, 8),
            "format.qkv_fraction_bits: expected 1 to 11 bits together with "
            "format.qkv_integer_bits = 5, so that dot products fit 32 bits, got 8");
  EXPECT_EQ(message(&Config::hash_stage_fraction_bits, 9),
            "format.hash_stage_fraction_bits: expected at most the 8 that a product has "
            "(qkv_fraction_bits + hash_fraction_bits), got 9");
  EXPECT_EQ(message(&Config::sqrt_table_entries, 3),
            "format.sqrt_table_entries: expected a power of two, got 3");
  EXPECT_EQ(message(&Config::norm_bits, 8), "no error");
  Config integers;
  integers.accumulator = Accumulator::kInteger;
  integers.accumulator_fraction_bits = 13;
  EXPECT_EQ(MessageOf(integers),
            "format.accumulator_fraction_bits: expected at most 12, so that sums fit 32 bits, got "
            "13");
}

TEST(Config, SetValueReadsWhatValueTextWrites) {
  Config machine;
  machine.banks = 2;
  machine.hash = HashKind::kDense;
  machine.norm_bits = 7;
  Config copy;
  for (const Field& field : Fields()) SetValue(&copy, field, ValueText(machine, field));
  EXPECT_EQ(copy, machine);
}

TEST(Config, SetValueRefusesOtherTextAndChangesNothing) {
  for (const Field& field : Fields()) {
    for (const char* text : {"", "four", "4x", " 4", "99999999999999999999", "sha", "4.0"}) {
      Config config;
      try {
        SetValue(&config, field, text);
        ADD_FAILURE() << field.key << " took '" << text << "'";
      } catch (const Error& error) {
        EXPECT_EQ(error.what(), std::string(field.key) + ": expected " + RangeText(field) +
                                    ", got '" + text + "'");
      }
      EXPECT_EQ(config, Config());
    }
  }
}

TEST(Config, TextErrorsOfTwoKeysNameTheLine) {
  EXPECT_EQ(MessageOf(PaperTomlWith("machine.banks", "3")),
            "x.toml:6: machine.banks: expected a divisor of machine.n = 512, got 3");
}

TEST(Config, OtherHashFormsOfThePaperAreMachinesToo) {
  Config config;
  config.hash = HashKind::kKronecker2;  // 1024 multiplications
  EXPECT_EQ(MessageOf(config), "no error");
  config.hash = HashKind::kDense;  // 4096
  EXPECT_EQ(MessageOf(config), "no error");
  config.hash = HashKind::kGaussian;
  EXPECT_EQ(MessageOf(config),
            "machine.hash: expected one of kronecker3, kronecker2, dense, got gaussian");
}

TEST(Digest, IsTheFnv1aOfOneLinePerField) {
  // Computed once by a separate program. A new parameter changes it, and with it every result.
  EXPECT_EQ(Digest(Config()), "173d7e1ef1dffdf0");
}

TEST(Digest, ChangesWithEverySingleField) {
  std::set<std::string> digests{Digest(Config())};
  for (const Field& field : Fields()) {
    Config config;
    if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
      config.** integer += 1;
    } else {
      const std::string words = RangeText(field);
      SetValue(&config, field, words.substr(words.rfind(' ') + 1));  // the last is no default
    }
    EXPECT_TRUE(digests.insert(Digest(config)).second) << field.key;
  }
  EXPECT_EQ(digests.size(), Fields().size() + 1);
}

}  // namespace
}  // namespace elsa
