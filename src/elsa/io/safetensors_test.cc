#include "elsa/io/safetensors.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "elsa/io/testing.h"

namespace elsa::io {
namespace {

SafetensorsFile Parse(const std::string& bytes) {
  return SafetensorsFile::Parse(std::as_bytes(std::span(bytes)), "f");
}

std::string ErrorOfFile(const std::string& bytes) {
  return ErrorOf([&] { Parse(bytes); });
}

// A file whose only tensor "a" has this JSON.
std::string ErrorOfTensor(const std::string& tensor, const std::string& data = "") {
  return ErrorOfFile(RawSafetensors("{\"a\":" + tensor + "}", data));
}

TEST(SafetensorsReader, ReadsTensorsAndMetadata) {
  const std::string bytes = RawSafetensors(
      R"({"__metadata__":{"k":"v"},"b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},)"
      R"("a":{"data_offsets":[0,8],"dtype":"F32","shape":[2,1]}})",
      "01234567xyz");
  const SafetensorsFile file = Parse(bytes);
  EXPECT_EQ(file.metadata().size(), 1u);
  EXPECT_EQ(file.metadata().at("k"), "v");
  ASSERT_EQ(file.tensors().size(), 2u);
  const TensorEntry* a = file.Find("a");
  ASSERT_NE(a, nullptr);
  EXPECT_EQ(a->dtype, Dtype::kF32);
  EXPECT_EQ(a->shape, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(a->data.size(), 8u);
  EXPECT_EQ(static_cast<char>(a->data[0]), '0');
  EXPECT_EQ(static_cast<char>(file.Find("b")->data[2]), 'z');
  EXPECT_EQ(file.Find("c"), nullptr);
}

TEST(SafetensorsReader, AcceptsRankZero) {
  const SafetensorsFile file =
      Parse(RawSafetensors(R"({"a":{"dtype":"F16","shape":[],"data_offsets":[0,2]}})", "ab"));
  EXPECT_TRUE(file.Find("a")->shape.empty());
}

TEST(SafetensorsReader, AcceptsZeroSizeTensorsAnywhereBetweenTensors) {
  const SafetensorsFile file =
      Parse(RawSafetensors(R"({"z":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},)"
                           R"("m":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                           R"("a":{"dtype":"F32","shape":[2,0],"data_offsets":[1,1]}})",
                           "x"));
  EXPECT_EQ(file.tensors().size(), 3u);
  EXPECT_EQ(file.Find("a")->data.size(), 0u);
}

TEST(SafetensorsReader, AcceptsNoTensors) {
  EXPECT_TRUE(Parse(RawSafetensors("{}")).tensors().empty());
  EXPECT_TRUE(Parse(RawSafetensors(R"({"__metadata__":{}})")).tensors().empty());
}

TEST(SafetensorsReader, AcceptsSpacesBehindTheHeader) {
  EXPECT_TRUE(Parse(RawSafetensors("{}     ")).tensors().empty());
}

TEST(SafetensorsReader, KnowsEveryOfficialDtype) {
  // Bits per element as the format defines them; 8 elements fill whole bytes of every type.
  const std::vector<std::pair<std::string, int>> official = {
      {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
      {"I64", 64},        {"U64", 64}};
  for (const auto& [name, bits] : official) {
    const SafetensorsFile file = Parse(
        RawSafetensors("{\"a\":{\"dtype\":\"" + name + "\",\"shape\":[8],\"data_offsets\":[0," +
                           std::to_string(bits) + "]}}",
                       std::string(static_cast<std::size_t>(bits), 'x')));
    EXPECT_EQ(Name(file.Find("a")->dtype), name);
  }
}

TEST(SafetensorsReader, RefusesFilesUnderEightBytes) {
  EXPECT_EQ(ErrorOfFile(""),
            "invalid_format: f: header: expected a file of at least 8 bytes, got 0");
  EXPECT_EQ(ErrorOfFile("1234567"),
            "invalid_format: f: header: expected a file of at least 8 bytes, got 7");
}

TEST(SafetensorsReader, RefusesAHeaderOver100MB) {
  EXPECT_EQ(ErrorOfFile(RawSafetensors("{}", "", 100'000'001)),
            "invalid_format: f: header: expected at most 100000000 bytes, got 100000001");
  EXPECT_EQ(
      ErrorOfFile(RawSafetensors("{}", "", 0xFFFFFFFFFFFFFFFFu)),
      "invalid_format: f: header: expected at most 100000000 bytes, got 18446744073709551615");
}

TEST(SafetensorsReader, RefusesAHeaderBeyondTheFile) {
  EXPECT_EQ(ErrorOfFile(RawSafetensors("{}", "", 3)),
            "invalid_format: f: header: expected 3 bytes as the file's first 8 bytes say, got 2");
  EXPECT_NE(ErrorOfFile(RawSafetensors("{}", "", 100'000'000)), "no error");
}

TEST(SafetensorsReader, RefusesAHeaderThatIsNotUtf8) {
  for (const std::string bad : {"\xff", "\xc0\xaf", "\xed\xa0\x80", "\xe2\x28\xa1",
                                "\xf4\x90\x80\x80", "\x80", "\xf0\x9f\x98"}) {
    EXPECT_EQ(
        ErrorOfFile(RawSafetensors("{\"__metadata__\":{\"a\":\"" + bad + "\"}}")),
        "invalid_format: f: header: JSON: expected UTF-8, got other bytes at line 1, column 23");
  }
  EXPECT_EQ(ErrorOfFile(RawSafetensors("{\"__metadata__\":{\"a\":\"\xf0\x9f\x98\x80 \u00e9\"}}")),
            "no error");
}

TEST(SafetensorsReader, RefusesAHeaderThatIsNotAnObjectFromItsFirstByte) {
  for (const std::string bad : {"", "[]", "null", "3", " {}", "\"{}\"", "\xEF\xBB\xBF{}"}) {
    EXPECT_NE(ErrorOfFile(RawSafetensors(bad)).find("expected a JSON object from the first byte"),
              std::string::npos)
        << bad;
  }
}

TEST(SafetensorsReader, RefusesBrokenJson) {
  for (const std::string bad :
       {"{", "{}}", "{,}", "{'a':1}", "{\"a\":}", "{\"a\" 1}", "{//\n}",
        "{\"__metadata__\":{\"a\":\"\x01\"}}", "{\"__metadata__\":{\"a\":\"\\ud800\"}}"}) {
    EXPECT_NE(ErrorOfFile(RawSafetensors(bad)).find("invalid_format: f: header: "),
              std::string::npos)
        << bad;
  }
}

TEST(SafetensorsReader, RefusesAnythingButSpacesBehindTheHeader) {
  using namespace std::string_literals;
  for (const std::string& bad : {"{}x"s, "{}\n"s, "{}\t"s, "{}\0"s, "{}  \0  "s, "{} ]"s}) {
    EXPECT_NE(ErrorOfFile(RawSafetensors(bad)).find("expected nothing but spaces behind"),
              std::string::npos);
  }
  // A NUL ends nothing: what stands behind it is not hidden.
  EXPECT_NE(ErrorOfFile(RawSafetensors("{}\0{}"s)).find("expected no NUL byte"), std::string::npos);
  EXPECT_NE(ErrorOfFile(RawSafetensors("{} {}"s)), "no error");
}

TEST(SafetensorsReader, RefusesDuplicateKeysAtEveryLevel) {
  const std::string tensor = R"({"dtype":"U8","shape":[1],"data_offsets":[0,1]})";
  EXPECT_EQ(ErrorOfFile(RawSafetensors("{\"a\":" + tensor + ",\"a\":" + tensor + "}", "x")),
            "invalid_format: f: header: JSON: expected each key once per object, got \"a\" twice");
  EXPECT_EQ(ErrorOfFile(RawSafetensors("{\"a\":" + tensor + ",\"\\u0061\":" + tensor + "}", "x")),
            "invalid_format: f: header: JSON: expected each key once per object, got \"a\" twice");
  EXPECT_EQ(ErrorOfFile(RawSafetensors(R"({"__metadata__":{},"__metadata__":{}})")),
            "invalid_format: f: header: JSON: expected each key once per object, got "
            "\"__metadata__\" twice");
  EXPECT_EQ(ErrorOfFile(RawSafetensors(R"({"__metadata__":{"k":"1","k":"1"}})")),
            "invalid_format: f: header: JSON: expected each key once per object, got \"k\" twice");
  EXPECT_EQ(
      ErrorOfTensor(R"({"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]})", "x"),
      "invalid_format: f: header: JSON: expected each key once per object, got \"dtype\" twice");
}

TEST(SafetensorsReader, RefusesMetadataThatIsNotStrings) {
  for (const std::string bad : {"1", "null", "true", "[]", "{}", "[\"a\"]"}) {
    EXPECT_EQ(ErrorOfFile(RawSafetensors("{\"__metadata__\":{\"k\":" + bad + "}}")),
              "invalid_format: f: metadata: k: expected a string, got " + bad);
  }
  for (const std::string bad : {"1", "null", "[]", "\"x\""}) {
    EXPECT_EQ(ErrorOfFile(RawSafetensors("{\"__metadata__\":" + bad + "}")),
              "invalid_format: f: metadata: expected an object of strings, got " + bad);
  }
}

TEST(SafetensorsReader, RefusesUnknownDtypes) {
  for (const std::string bad : {"\"F128\"", "\"f32\"", "\"\"", "\"F32 \""}) {
    EXPECT_EQ(ErrorOfTensor("{\"dtype\":" + bad + R"(,"shape":[1],"data_offsets":[0,4]})", "abcd"),
              "invalid_format: f: a: dtype: expected a safetensors dtype, got " + bad);
  }
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":4,"shape":[1],"data_offsets":[0,4]})", "abcd"),
            "invalid_format: f: a: dtype: expected a string, got 4");
}

TEST(SafetensorsReader, RefusesMissingAndUnknownFields) {
  EXPECT_EQ(ErrorOfTensor(R"({"shape":[1],"data_offsets":[0,1]})", "x"),
            "invalid_format: f: a: expected the key \"dtype\", got none");
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"U8","data_offsets":[0,1]})", "x"),
            "invalid_format: f: a: expected the key \"shape\", got none");
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"U8","shape":[1]})", "x"),
            "invalid_format: f: a: expected the key \"data_offsets\", got none");
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0})", "x"),
            "invalid_format: f: a: expected no unknown key, got \"x\"");
  EXPECT_EQ(ErrorOfTensor(R"(["U8",[1],[0,1]])", "x"),
            "invalid_format: f: a: expected an object, got [\"U8\",[1],[0,1]]");
}

TEST(SafetensorsReader, RefusesOffsetsThatAreNotTwoOrderedIntegers) {
  const auto error = [](const std::string& offsets) {
    return ErrorOfTensor("{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":" + offsets + "}", "x");
  };
  EXPECT_EQ(error("[0]"), "invalid_format: f: a: data_offsets: expected two integers, got [0]");
  EXPECT_EQ(error("[0,1,1]"),
            "invalid_format: f: a: data_offsets: expected two integers, got [0,1,1]");
  EXPECT_EQ(error("[]"), "invalid_format: f: a: data_offsets: expected two integers, got []");
  EXPECT_EQ(error("1"), "invalid_format: f: a: data_offsets: expected an array, got 1");
  EXPECT_EQ(error("[1,0]"), "invalid_format: f: a: data_offsets: expected begin <= end, got [1,0]");
  for (const std::string bad : {"-1", "1.0", "1e0", "-0", "\"1\"", "null", "true",
                                "9223372036854775808", "18446744073709551616"}) {
    EXPECT_NE(error("[0," + bad + "]").find("data_offsets[1]: expected an integer >= 0, got "),
              std::string::npos)
        << bad << ": " << error("[0," + bad + "]");
  }
}

TEST(SafetensorsReader, RefusesShapesThatAreNotNonNegativeIntegers) {
  for (const std::string bad : {"-1", "1.0", "1e0", "-0", "\"1\"", "null"}) {
    EXPECT_NE(
        ErrorOfTensor("{\"dtype\":\"U8\",\"shape\":[" + bad + "],\"data_offsets\":[0,1]}", "x")
            .find("a: shape[0]: expected an integer >= 0"),
        std::string::npos)
        << bad;
  }
}

TEST(SafetensorsReader, RefusesOverflowInProducts) {
  for (const std::string bad :
       {"4294967296,4294967296", "9223372036854775807,3", "1152921504606846976,1",
        // A zero does not hide the overflow, whichever side it stands on.
        "4294967296,4294967296,0", "0,4294967296,4294967296",
        "2147483648,2147483648,2147483648,0"}) {
    EXPECT_NE(ErrorOfTensor("{\"dtype\":\"U8\",\"shape\":[" + bad + "],\"data_offsets\":[0,0]}")
                  .find("f: a: shape: expected a size in bits below 2^63"),
              std::string::npos)
        << bad;
  }
}

TEST(SafetensorsReader, RefusesASpanThatIsNotShapeTimesDtype) {
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,7]})", "1234567"),
            "invalid_format: f: a: data_offsets: expected 8 bytes for [2] F32, got 7");
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"F32","shape":[2],"data_offsets":[0,9]})", "123456789"),
            "invalid_format: f: a: data_offsets: expected 8 bytes for [2] F32, got 9");
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"U8","shape":[0],"data_offsets":[0,1]})", "1"),
            "invalid_format: f: a: data_offsets: expected 0 bytes for [0] U8, got 1");
}

TEST(SafetensorsReader, RefusesPartsOfAByte) {
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"F4","shape":[3],"data_offsets":[0,2]})", "12"),
            "invalid_format: f: a: shape: expected whole bytes of F4, got [3]");
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]})", "123"),
            "no error");
}

TEST(SafetensorsReader, RefusesHoles) {
  EXPECT_EQ(ErrorOfTensor(R"({"dtype":"U8","shape":[1],"data_offsets":[1,2]})", "xy"),
            "invalid_format: f: a: data_offsets: expected to begin at 0 (no holes, no overlaps), "
            "got 1");
  EXPECT_EQ(ErrorOfFile(RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                       R"("b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
                                       "xyz")),
            "invalid_format: f: b: data_offsets: expected to begin at 1 (no holes, no overlaps), "
            "got 2");
}

TEST(SafetensorsReader, RefusesOverlaps) {
  EXPECT_EQ(ErrorOfFile(RawSafetensors(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                       R"("b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
                                       "xyz")),
            "invalid_format: f: b: data_offsets: expected to begin at 2 (no holes, no overlaps), "
            "got 1");
  // The same bytes twice, and a zero-size tensor inside another.
  EXPECT_NE(ErrorOfFile(RawSafetensors(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                       R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                       "x")),
            "no error");
  EXPECT_NE(ErrorOfFile(RawSafetensors(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
                                       R"("b":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
                                       "xy")),
            "no error");
}

TEST(SafetensorsReader, RefusesALastEndThatIsNotTheDataSize) {
  const std::string tensor = R"({"dtype":"U8","shape":[2],"data_offsets":[0,2]})";
  EXPECT_EQ(ErrorOfTensor(tensor, "xyz"),
            "invalid_format: f: header: expected tensors that end with the data at 3, got 2");
  EXPECT_EQ(ErrorOfTensor(tensor, "x"),
            "invalid_format: f: header: expected tensors that end with the data at 1, got 2");
  EXPECT_NE(ErrorOfFile(RawSafetensors("{}", "x")), "no error");
}

TEST(SafetensorsReader, RefusesDeepNestingWithoutRecursion) {
  const std::string deep(5'000'000, '[');
  EXPECT_EQ(ErrorOfFile(RawSafetensors("{\"a\":" + deep + "}")),
            "invalid_format: f: header: JSON: expected at most 3 nested objects and arrays, got "
            "more");
}

TEST(SafetensorsReader, KeepsHostileNamesOnOneLine) {
  const std::string error = ErrorOfFile(
      RawSafetensors("{\"a\\n\\u001b" + std::string(1000, 'x') + "\":{\"dtype\":\"U8\"}}"));
  EXPECT_EQ(error.find('\n'), std::string::npos);
  EXPECT_EQ(error.find('\x1b'), std::string::npos);
  EXPECT_LT(error.size(), 300u);
}

TEST(SafetensorsReader, NamesTheMissingFile) {
  EXPECT_EQ(ErrorOf([] { SafetensorsFile::Open("no/such.safetensors"); }),
            "io: no/such.safetensors: open: expected success, got No such file or directory");
}

TEST(SafetensorsWriter, WhatItWritesReadsBackEqual) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::vector<float> floats = {1.5f, -2.0f, 3.25f};
  const std::string text = "hello\"\\\n\x01\u00e9";
  WriteSafetensors(path,
                   {{"bytes", Dtype::kU8, {5}, std::as_bytes(std::span(text)).first(5)},
                    {"floats", Dtype::kF32, {3, 1}, std::as_bytes(std::span(floats))},
                    {"none", Dtype::kI64, {0}, {}},
                    {text, Dtype::kU8, {}, std::as_bytes(std::span(text)).first(1)}},
                   {{"m", text}});
  const SafetensorsFile file = SafetensorsFile::Open(path);
  EXPECT_EQ(file.metadata().at("m"), text);
  ASSERT_EQ(file.tensors().size(), 4u);
  const TensorEntry* entry = file.Find("floats");
  EXPECT_EQ(entry->shape, (std::vector<std::int64_t>{3, 1}));
  std::vector<float> read(3);
  std::memcpy(read.data(), entry->data.data(), 12);
  EXPECT_EQ(read, floats);
  EXPECT_EQ(file.Find("none")->shape, (std::vector<std::int64_t>{0}));
  EXPECT_TRUE(file.Find(text)->shape.empty());
  EXPECT_EQ(folder.Entries(), 1u);
}

TEST(SafetensorsWriter, OrdersByTypeThenNameAndPadsToEightBytes) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::string data = "0123456789abcdef";
  const auto bytes = std::as_bytes(std::span(data));
  WriteSafetensors(path,
                   {{"b", Dtype::kU8, {1}, bytes.subspan(0, 1)},
                    {"z", Dtype::kI64, {1}, bytes.subspan(1, 8)},
                    {"a", Dtype::kU8, {2}, bytes.subspan(9, 2)},
                    {"c", Dtype::kF32, {1}, bytes.subspan(11, 4)}},
                   {{"two", "2"}, {"one", "1"}});
  const std::string written = ReadText(path);
  const std::string header = R"({"__metadata__":{"one":"1","two":"2"},)"
                             R"("z":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},)"
                             R"("c":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},)"
                             R"("a":{"dtype":"U8","shape":[2],"data_offsets":[12,14]},)"
                             R"("b":{"dtype":"U8","shape":[1],"data_offsets":[14,15]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(written, RawSafetensors(padded, "12345678bcde9a0"));
}

TEST(SafetensorsWriter, RefusesWhatTheReaderWouldRefuse) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.safetensors";
  const std::string data = "0123";
  const auto bytes = std::as_bytes(std::span(data));
  const auto error = [&](std::vector<TensorToWrite> tensors,
                         std::map<std::string, std::string, std::less<>> metadata = {}) {
    return ErrorOf([&] { WriteSafetensors(path, tensors, metadata); });
  };
  EXPECT_EQ(error({{"a", Dtype::kF32, {2}, bytes}}),
            "invalid_argument: " + path + ": a: data: expected 8 bytes, got 4");
  EXPECT_EQ(error({{"a", Dtype::kF32, {-1}, bytes}}),
            "invalid_argument: " + path + ": a: shape: expected extents >= 0, got [-1]");
  EXPECT_EQ(error({{"a", Dtype::kF32, {1}, bytes}, {"a", Dtype::kU8, {4}, bytes}}),
            "invalid_argument: " + path + ": a: expected each name once, got twice");
  EXPECT_EQ(error({{"__metadata__", Dtype::kF32, {1}, bytes}}),
            "invalid_argument: " + path +
                ": __metadata__: expected a tensor name, got the "
                "reserved key");
  EXPECT_NE(error({{"\xff", Dtype::kF32, {1}, bytes}}).find("expected UTF-8 text"),
            std::string::npos);
  EXPECT_NE(error({}, {{"k", "\xff"}}).find("expected UTF-8 text"), std::string::npos);
  EXPECT_EQ(folder.Entries(), 0u);
}

}  // namespace
}  // namespace elsa::io
