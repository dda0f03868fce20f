#include "elsa/io/npy.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "elsa/io/testing.h"

namespace elsa::io {
namespace {

using namespace std::string_literals;

std::string RawNpy(const std::string& header, const std::string& data, char major = 1) {
  std::string bytes = "\x93NUMPY"s + major + '\0';
  const std::size_t size = header.size();
  bytes += static_cast<char>(size & 0xFF);
  bytes += static_cast<char>(size >> 8 & 0xFF);
  if (major != 1) bytes += std::string(2, '\0');
  return bytes + header + data;
}

std::string Header(const std::string& descr, const std::string& shape) {
  return "{'descr': " + descr + ", 'fortran_order': False, 'shape': " + shape + ", }   \n";
}

NpyFile Parse(const std::string& bytes) {
  return NpyFile::Parse(std::as_bytes(std::span(bytes)), "f");
}

std::string ErrorOfFile(const std::string& bytes) {
  return ErrorOf([&] { Parse(bytes); });
}

TEST(NpyReader, ReadsShapeTypeAndData) {
  const std::string bytes = RawNpy(Header("'<i2'", "(2, 3)"), "0123456789ab");
  const NpyFile file = Parse(bytes);
  EXPECT_EQ(file.dtype(), Dtype::kI16);
  EXPECT_EQ(file.shape(), (std::vector<std::int64_t>{2, 3}));
  ASSERT_EQ(file.data().size(), 12u);
  EXPECT_EQ(static_cast<char>(file.data()[11]), 'b');
}

TEST(NpyReader, ReadsVersionsOneToThree) {
  for (const char major : {1, 2, 3}) {
    EXPECT_EQ(Parse(RawNpy(Header("'|u1'", "(2,)"), "ab", major)).shape()[0], 2);
  }
}

TEST(NpyReader, ReadsRankZeroAndZeroSize) {
  EXPECT_TRUE(Parse(RawNpy(Header("'<f4'", "()"), "abcd")).shape().empty());
  EXPECT_EQ(Parse(RawNpy(Header("'<f4'", "(0, 5)"), "")).data().size(), 0u);
}

TEST(NpyReader, ReadsEveryLayoutOfTheSameDictionary) {
  for (const std::string header :
       {"{'descr':'|u1','fortran_order':False,'shape':(2,)}\n",
        "{\"shape\" : ( 2 , ) , \"descr\" : \"|u1\" , \"fortran_order\" : False , } \n",
        "{'fortran_order': False, 'shape': (2,), 'descr': '|u1'}\n"}) {
    EXPECT_EQ(ErrorOfFile(RawNpy(header, "ab")), "no error") << header;
  }
  EXPECT_EQ(ErrorOfFile(RawNpy("{'descr':'|u1','fortran_order':False,'shape':(1,2,)}\n", "ab")),
            "no error");
}

TEST(NpyReader, KnowsEveryTypeItSharesWithNumpy) {
  const std::vector<std::tuple<std::string, Dtype, std::size_t>> types = {
      {"|b1", Dtype::kBool, 1}, {"|u1", Dtype::kU8, 1},  {"|i1", Dtype::kI8, 1},
      {"<u2", Dtype::kU16, 2},  {"<i2", Dtype::kI16, 2}, {"<f2", Dtype::kF16, 2},
      {"<u4", Dtype::kU32, 4},  {"<i4", Dtype::kI32, 4}, {"<f4", Dtype::kF32, 4},
      {"<u8", Dtype::kU64, 8},  {"<i8", Dtype::kI64, 8}, {"<f8", Dtype::kF64, 8},
      {"<c8", Dtype::kC64, 8}};
  for (const auto& [descr, dtype, size] : types) {
    EXPECT_EQ(
        Parse(RawNpy(Header('\'' + descr + '\'', "(3,)"), std::string(3 * size, 'x'))).dtype(),
        dtype);
  }
}

TEST(NpyReader, RefusesWhatIsNotNpy) {
  for (const std::string& bad :
       {""s, "\x93NUMP"s, "PK\3\4 a zip file"s, "\x93NUMPZ\1\0\0\0"s, "\x93NUMPY"s, "\x93NUMPY\1"s,
        "\x93NUMPY\1\0"s, "\x93NUMPY\1\0\2"s, "\x93NUMPY\2\0\2\0\0"s}) {
    EXPECT_NE(ErrorOfFile(bad).find("invalid_format: f: header: expected"), std::string::npos)
        << ErrorOfFile(bad);
  }
}

TEST(NpyReader, RefusesOtherVersions) {
  for (const char major : {0, 4, -1}) {
    EXPECT_NE(ErrorOfFile(RawNpy(Header("'|u1'", "(2,)"), "ab", major))
                  .find("unsupported: f: header: version: expected 1.0, 2.0 or 3.0"),
              std::string::npos);
  }
  std::string minor = RawNpy(Header("'|u1'", "(2,)"), "ab");
  minor[7] = 1;
  EXPECT_EQ(ErrorOfFile(minor),
            "unsupported: f: header: version: expected 1.0, 2.0 or 3.0, got 1.1");
}

TEST(NpyReader, RefusesAHeaderBeyondTheFileOrTooLarge) {
  EXPECT_EQ(ErrorOfFile("\x93NUMPY\1\0\5\0{}"s),
            "invalid_format: f: header: expected 5 bytes as its size says, got 2");
  EXPECT_EQ(ErrorOfFile("\x93NUMPY\2\0\xff\xff\xff\xff{}"s),
            "invalid_format: f: header: expected at most 65536 bytes, got 4294967295");
}

TEST(NpyReader, RefusesEverythingThatIsNotThatOneDictionary) {
  for (const std::string& bad : {
           "\n"s,
           "{}\n"s,
           "{,}\n"s,
           "{'descr': '|u1', 'fortran_order': False}\n"s,
           "{'descr': '|u1', 'descr': '|u1', 'fortran_order': False, 'shape': (2,)}\n"s,
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2,), 'x': 1}\n"s,
           "{'descr': '|u1' 'fortran_order': False, 'shape': (2,)}\n"s,
           "{'descr' '|u1', 'fortran_order': False, 'shape': (2,)}\n"s,
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)} x\n"s,
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}\0\n"s,
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)\n"s,
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}"s,  // no newline
           "{'descr': '|u1', 'fortran_order': False, 'shape': (2,)}\n\n"s,
           "{'descr': '|u1', 'fortran_order': false, 'shape': (2,)}\n"s,
           "{'descr': '|u1', 'fortran_order': 0, 'shape': (2,)}\n"s,
           "{'descr': '|u1, 'fortran_order': False, 'shape': (2,)}\n"s,
           "{'descr': '\\x7cu1', 'fortran_order': False, 'shape': (2,)}\n"s,
           "{'descr': |u1, 'fortran_order': False, 'shape': (2,)}\n"s,
           "__import__('os')\n"s,
       }) {
    EXPECT_NE(ErrorOfFile(RawNpy(bad, "ab")), "no error") << bad;
  }
}

TEST(NpyReader, RefusesShapesThatAreNotTuplesOfExtents) {
  for (const std::string bad : {"(2)",
                                "2",
                                "[2]",
                                "(2,,)",
                                "(,)",
                                "(2 1)",
                                "(-2,)",
                                "(+2,)",
                                "(2.0,)",
                                "(2L,)",
                                "(02,)",
                                "(0x2,)",
                                "(True,)",
                                "('2',)",
                                "((2,),)",
                                "(-0,)",
                                "(9223372036854775808,)",
                                "(2*1,)",
                                "(2",
                                "(2,",
                                "None"}) {
    EXPECT_NE(ErrorOfFile(RawNpy(Header("'|u1'", bad), "ab")).find("invalid_format: f: header"),
              std::string::npos)
        << bad;
  }
  std::string rank65 = "(";
  for (int i = 0; i < 65; ++i) rank65 += "1, ";
  EXPECT_NE(ErrorOfFile(RawNpy(Header("'|u1'", rank65 + ")"), "a")).find("at most 64 extents"),
            std::string::npos);
}

TEST(NpyReader, RefusesOverflow) {
  for (const std::string bad :
       {"(4294967296, 4294967296)", "(0, 4294967296, 4294967296)", "(9223372036854775807,)"}) {
    EXPECT_NE(ErrorOfFile(RawNpy(Header("'|u1'", bad), ""))
                  .find("shape: expected a size in bits below 2^63"),
              std::string::npos)
        << bad;
  }
}

TEST(NpyReader, RefusesDataOfAnotherSize) {
  EXPECT_EQ(ErrorOfFile(RawNpy(Header("'<f4'", "(2,)"), "1234567")),
            "invalid_format: f: data: expected 8 bytes for [2] <f4, got 7");
  EXPECT_EQ(ErrorOfFile(RawNpy(Header("'<f4'", "(2,)"), "123456789")),
            "invalid_format: f: data: expected 8 bytes for [2] <f4, got 9");
}

TEST(NpyReader, NamesWhatItDoesNotSupport) {
  EXPECT_EQ(
      ErrorOfFile(RawNpy("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 2)}\n", "12345678")),
      "unsupported: f: header: fortran_order: expected C order (numpy.ascontiguousarray before "
      "saving), got Fortran order");
  for (const std::string bad : {"'>f4'", "'=f4'", "'f4'", "'|O'", "'<U4'", "'<c16'", "'<M8[s]'"}) {
    EXPECT_NE(ErrorOfFile(RawNpy(Header(bad, "(1,)"), "1234"))
                  .find("unsupported: f: header: descr: expected a little-endian"),
              std::string::npos)
        << bad;
  }
  EXPECT_NE(ErrorOfFile(RawNpy(Header("[('x', '<f4')]", "(1,)"), "1234"))
                .find("unsupported: f: header: descr: expected a simple type, got a record"),
            std::string::npos);
}

TEST(NpyWriter, WhatItWritesReadsBackEqual) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.npy";
  const std::string data = "0123456789abcdefghijklmn";
  const std::vector<std::vector<std::int64_t>> shapes = {{}, {6}, {2, 3}, {1, 6, 1}, {3, 0}};
  for (const auto& shape : shapes) {
    std::size_t size = 4;
    for (const std::int64_t extent : shape) size *= static_cast<std::size_t>(extent);
    const auto bytes = std::as_bytes(std::span(data)).first(size);
    WriteNpy(path, Dtype::kF32, shape, bytes);
    const NpyFile file = NpyFile::Open(path);
    EXPECT_EQ(file.dtype(), Dtype::kF32);
    EXPECT_EQ(file.shape(), shape);
    EXPECT_TRUE(std::equal(bytes.begin(), bytes.end(), file.data().begin(), file.data().end()));
    EXPECT_EQ((ReadText(path).size() - size) % 64, 0u);
  }
  EXPECT_EQ(folder.Entries(), 1u);
}

TEST(NpyWriter, WritesTheBytesThatNumpyWrites) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.npy";
  const std::vector<std::int64_t> shape = {3, 4};
  const std::string data(48, '\0');
  WriteNpy(path, Dtype::kF32, shape, std::as_bytes(std::span(data)));
  // numpy.save of numpy.zeros((3, 4), 'f4'), as NumPy 2.4 wrote it.
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
  header += std::string(128 - 10 - 1 - header.size(), ' ') + '\n';
  EXPECT_EQ(ReadText(path), "\x93NUMPY\1\0v\0"s + header + data);
}

TEST(NpyWriter, RefusesWhatNumpyDoesNotHave) {
  const TemporaryFolder folder;
  const std::string path = folder / "x.npy";
  const std::vector<std::int64_t> shape = {2};
  const std::string data = "0123";
  const auto error = [&](Dtype dtype) {
    return ErrorOf([&] { WriteNpy(path, dtype, shape, std::as_bytes(std::span(data))); });
  };
  EXPECT_EQ(error(Dtype::kBf16),
            "invalid_argument: " + path + ": dtype: expected a type that NumPy has, got BF16");
  EXPECT_EQ(error(Dtype::kF32), "invalid_argument: " + path + ": data: expected 8 bytes, got 4");
  EXPECT_EQ(folder.Entries(), 0u);
}

}  // namespace
}  // namespace elsa::io
