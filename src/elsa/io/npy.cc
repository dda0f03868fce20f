#include "elsa/io/npy.h"

#include <array>
#include <charconv>
#include <optional>
#include <string_view>
#include <utility>

#include "elsa/io/atomic_file.h"
#include "elsa/io/message.h"

namespace elsa::io {
namespace {

constexpr std::string_view kMagic("\x93NUMPY", 6);
// Our choice: the header holds three fields; numpy itself distrusts more than 10000 bytes.
constexpr std::uint64_t kMaxHeaderBytes = 65536;
// numpy's limit on the rank is 64.
constexpr std::size_t kMaxRank = 64;

struct NpyType {
  std::string_view descr;
  Dtype dtype;
};
constexpr std::array<NpyType, 13> kTypes = {{{"|b1", Dtype::kBool},
                                             {"|u1", Dtype::kU8},
                                             {"|i1", Dtype::kI8},
                                             {"<u2", Dtype::kU16},
                                             {"<i2", Dtype::kI16},
                                             {"<f2", Dtype::kF16},
                                             {"<u4", Dtype::kU32},
                                             {"<i4", Dtype::kI32},
                                             {"<f4", Dtype::kF32},
                                             {"<u8", Dtype::kU64},
                                             {"<i8", Dtype::kI64},
                                             {"<f8", Dtype::kF64},
                                             {"<c8", Dtype::kC64}}};

[[noreturn]] void FailFormat(const std::string& where, std::string_view expected,
                             std::string_view got) {
  Fail(ErrorCode::kInvalidFormat, where, expected, got);
}

// Reads the header's Python dictionary literal. Never evaluates anything: it knows one dictionary
// with three keys, single- or double-quoted strings without escapes, True, False and tuples of
// decimal integers.
class HeaderReader {
 public:
  HeaderReader(std::string_view text, const std::string& where) : text_(text), where_(where) {}

  void Read() {
    Expect('{');
    while (!Take('}')) {
      ReadItem();
      if (Take(',')) continue;
      Expect('}');
      break;
    }
    if (!Rest().empty()) FailHere("nothing behind the dictionary");
    if (!descr || !fortran_order || !shape) {
      FailFormat(where_, "the keys descr, fortran_order and shape", "fewer");
    }
  }

  std::optional<std::string> descr;
  std::optional<bool> fortran_order;
  std::optional<std::vector<std::int64_t>> shape;

 private:
  [[noreturn]] void FailHere(const std::string& expected) {
    const std::string_view rest = Rest();
    FailFormat(where_, expected, rest.empty() ? "the end" : Quoted(rest.substr(0, 24)));
  }

  // What is left, without leading spaces.
  std::string_view Rest() {
    const std::size_t start = text_.find_first_not_of(' ');
    text_.remove_prefix(start == text_.npos ? text_.size() : start);
    return text_;
  }

  bool Take(char c) {
    if (!Rest().starts_with(c)) return false;
    text_.remove_prefix(1);
    return true;
  }

  void Expect(char c) {
    if (!Take(c)) FailHere(Quoted({&c, 1}));
  }

  std::string ReadString() {
    const std::string_view rest = Rest();
    const char quote = rest.empty() ? ' ' : rest[0];
    if (quote != '\'' && quote != '"') FailHere("a string");
    const std::size_t end = rest.find(quote, 1);
    const std::string_view body = rest.substr(1, end == rest.npos ? end : end - 1);
    if (end == rest.npos || body.find('\\') != body.npos) FailHere("a plain string");
    text_.remove_prefix(end + 1);
    return std::string(body);
  }

  bool ReadBool() {
    for (const std::string_view word : {"True", "False"}) {
      if (!Rest().starts_with(word)) continue;
      text_.remove_prefix(word.size());
      return word == "True";
    }
    FailHere("True or False");
  }

  std::int64_t ReadInteger() {
    const std::string_view rest = Rest();
    std::int64_t value = -1;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    const auto length = static_cast<std::size_t>(end - rest.data());
    if (error != std::errc() || value < 0 || rest[0] == '-' || (rest[0] == '0' && length > 1)) {
      FailHere("an integer from 0 to 2^63 - 1");
    }
    text_.remove_prefix(length);
    return value;
  }

  // "()", "(3,)", "(3, 4)", "(3, 4,)"; "(3)" is no tuple.
  std::vector<std::int64_t> ReadTuple() {
    std::vector<std::int64_t> values;
    Expect('(');
    bool comma = true;
    while (!Take(')')) {
      if (!comma) FailHere("\",\" or \")\"");
      if (values.size() == kMaxRank) FailHere("at most 64 extents");
      values.push_back(ReadInteger());
      comma = Take(',');
    }
    if (values.size() == 1 && !comma) FailFormat(where_ + ": shape", "a tuple", "a number");
    return values;
  }

  void ReadItem() {
    const std::string key = ReadString();
    Expect(':');
    if (key == "descr" && !descr) {
      if (!Rest().starts_with('\'') && !Rest().starts_with('"')) {
        Fail(ErrorCode::kUnsupported, where_ + ": descr", "a simple type", "a record");
      }
      descr = ReadString();
    } else if (key == "fortran_order" && !fortran_order) {
      fortran_order = ReadBool();
    } else if (key == "shape" && !shape) {
      shape = ReadTuple();
    } else {
      FailFormat(where_, "the keys descr, fortran_order and shape, each once", Quoted(key));
    }
  }

  std::string_view text_;
  const std::string& where_;
};

Dtype TypeOf(const std::string& descr, const std::string& where) {
  for (const NpyType& type : kTypes) {
    if (type.descr == descr) return type.dtype;
  }
  Fail(ErrorCode::kUnsupported, where + ": descr",
       "a little-endian bool, integer, float or complex64 such as \"<f4\"", Quoted(descr));
}

// The header's text without the newline that must end it, and where the data begin.
std::pair<std::string_view, std::size_t> HeaderText(std::span<const std::byte> bytes,
                                                    const std::string& where) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic)) {
    FailFormat(where, "the magic bytes \\x93NUMPY", Quoted(text.substr(0, kMagic.size())));
  }
  if (text.size() < 8) FailFormat(where, "a version", "the end of the file");
  const auto byte = [&](std::size_t i) { return std::to_integer<std::uint64_t>(bytes[i]); };
  if (byte(6) < 1 || byte(6) > 3 || byte(7) != 0) {
    Fail(ErrorCode::kUnsupported, where + ": version", "1.0, 2.0 or 3.0",
         std::to_string(byte(6)) + '.' + std::to_string(byte(7)));
  }
  // Version 1.0 has a 2-byte header size, the others 4 bytes.
  const std::size_t start = byte(6) == 1 ? 10 : 12;
  if (text.size() < start) FailFormat(where, "a header size", "the end of the file");
  std::uint64_t size = 0;
  for (std::size_t i = start; i > 8; --i) size = size << 8 | byte(i - 1);
  if (size > kMaxHeaderBytes) FailFormat(where, "at most 65536 bytes", std::to_string(size));
  if (size > text.size() - start) {
    FailFormat(where, std::to_string(size) + " bytes as its size says",
               std::to_string(text.size() - start));
  }
  const std::string_view header = text.substr(start, size);
  if (!header.ends_with('\n')) FailFormat(where, "a newline at its end", "none");
  return {header.substr(0, header.size() - 1), start + size};
}

}  // namespace

NpyFile NpyFile::Open(const std::string& path) {
  MappedFile map(path);
  NpyFile file = Parse(map.bytes(), Printable(path));
  file.map_ = std::move(map);
  return file;
}

NpyFile NpyFile::Parse(std::span<const std::byte> bytes, const std::string& name) {
  const std::string where = name + ": header";
  const auto [text, data_begin] = HeaderText(bytes, where);
  HeaderReader header(text, where);
  header.Read();
  NpyFile file;
  file.dtype_ = TypeOf(*header.descr, where);
  if (*header.fortran_order) {
    Fail(ErrorCode::kUnsupported, where + ": fortran_order",
         "C order (numpy.ascontiguousarray before saving)", "Fortran order");
  }
  file.shape_ = *header.shape;
  const std::int64_t size = CountBytes(file.dtype_, file.shape_, ErrorCode::kInvalidFormat, where);
  file.data_ = bytes.subspan(data_begin);
  if (file.data_.size() != static_cast<std::uint64_t>(size)) {
    FailFormat(name + ": data",
               std::to_string(size) + " bytes for " + ShapeText(file.shape_) + ' ' + *header.descr,
               std::to_string(file.data_.size()));
  }
  return file;
}

void WriteNpy(const std::string& path, Dtype dtype, std::span<const std::int64_t> shape,
              std::span<const std::byte> data) {
  const std::string where = Printable(path);
  std::string_view descr;
  for (const NpyType& type : kTypes) {
    if (type.dtype == dtype) descr = type.descr;
  }
  if (descr.empty()) {
    Fail(ErrorCode::kInvalidArgument, where + ": dtype", "a type that NumPy has", Name(dtype));
  }
  if (shape.size() > kMaxRank) {
    Fail(ErrorCode::kInvalidArgument, where + ": shape", "at most 64 extents", ShapeText(shape));
  }
  const std::int64_t size = CountBytes(dtype, shape, ErrorCode::kInvalidArgument, where);
  if (data.size() != static_cast<std::uint64_t>(size)) {
    Fail(ErrorCode::kInvalidArgument, where + ": data", std::to_string(size) + " bytes",
         std::to_string(data.size()));
  }
  std::string header = "{'descr': '" + std::string(descr) + "', 'fortran_order': False, 'shape': (";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) header += ' ';
    header += std::to_string(shape[i]) + ',';
  }
  if (shape.size() > 1) header.pop_back();
  header += "), }";
  // Magic, version and size take 10 bytes; spaces, then a newline, fill up to a multiple of 64.
  header.append(63 - (10 + header.size()) % 64, ' ');
  header += '\n';
  std::string start(kMagic);
  start += {'\x01', '\x00', static_cast<char>(header.size() & 0xFF),
            static_cast<char>(header.size() >> 8)};
  AtomicFile file(path);
  file.Write(start);
  file.Write(header);
  file.Write(data);
  file.Commit();
}

}  // namespace elsa::io
