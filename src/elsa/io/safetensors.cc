#include "elsa/io/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <tuple>
#include <utility>

#include "elsa/io/atomic_file.h"
#include "elsa/io/message.h"
#include "elsa/io/strict_json.h"

namespace elsa::io {
namespace {

using nlohmann::json;

constexpr std::size_t kSizeBytes = 8;
// The official limit.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
// {header}{tensor}[shape]: a valid header has no deeper container.
constexpr int kHeaderDepth = 3;
constexpr std::string_view kMetadataKey = "__metadata__";

struct Span {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  const std::string* tensor = nullptr;
};

[[noreturn]] void FailFormat(const std::string& where, std::string_view expected,
                             std::string_view got) {
  Fail(ErrorCode::kInvalidFormat, where, expected, got);
}

std::string_view HeaderText(std::span<const std::byte> bytes, const std::string& where) {
  if (bytes.size() < kSizeBytes) {
    FailFormat(where, "a file of at least 8 bytes", std::to_string(bytes.size()));
  }
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), kSizeBytes);
  if (size > kMaxHeaderBytes) {
    FailFormat(where, "at most 100000000 bytes", std::to_string(size));
  }
  if (size > bytes.size() - kSizeBytes) {
    FailFormat(where, std::to_string(size) + " bytes as the file's first 8 bytes say",
               std::to_string(bytes.size() - kSizeBytes));
  }
  std::string_view text(reinterpret_cast<const char*>(bytes.data()) + kSizeBytes, size);
  if (!text.starts_with('{')) {
    FailFormat(where, "a JSON object from the first byte on",
               text.empty() ? "nothing" : Quoted(text.substr(0, 1)));
  }
  // Only spaces may follow the object; the parser would take any JSON white space.
  text = text.substr(0, text.find_last_not_of(' ') + 1);
  if (!text.ends_with('}')) {
    FailFormat(where, "nothing but spaces behind the object", Quoted(text.substr(text.size() - 1)));
  }
  return text;
}

Span ParseTensor(const JsonField& field, TensorEntry* entry) {
  field.RequireKeys({"dtype", "shape", "data_offsets"});
  const JsonField dtype_field = field.At("dtype");
  const std::optional<Dtype> dtype = FindDtype(dtype_field.String());
  if (!dtype) dtype_field.Fail("a safetensors dtype");
  entry->dtype = *dtype;

  const JsonField shape_field = field.At("shape");
  entry->shape.reserve(shape_field.Size());
  for (std::size_t i = 0; i < shape_field.Size(); ++i) {
    entry->shape.push_back(shape_field[i].Integer());
  }
  const std::int64_t size =
      CountBytes(entry->dtype, entry->shape, ErrorCode::kInvalidFormat, field.path());

  const JsonField offsets = field.At("data_offsets");
  if (offsets.Size() != 2) offsets.Fail("two integers");
  const Span span{offsets[0].Integer(), offsets[1].Integer(), nullptr};
  if (span.end < span.begin) offsets.Fail("begin <= end");
  if (span.end - span.begin != size) {
    offsets.Fail(std::to_string(size) + " bytes for " + ShapeText(entry->shape) + ' ' +
                     std::string(Name(entry->dtype)),
                 std::to_string(span.end - span.begin));
  }
  return span;
}

// The spans, in file order, must cover the data exactly.
void CheckCoverage(std::vector<Span> spans, std::int64_t data_size, const std::string& name) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::int64_t expected = 0;
  for (const Span& span : spans) {
    if (span.begin != expected) {
      FailFormat(name + ": " + Printable(*span.tensor) + ": data_offsets",
                 "to begin at " + std::to_string(expected) + " (no holes, no overlaps)",
                 std::to_string(span.begin));
    }
    expected = span.end;
  }
  if (expected != data_size) {
    FailFormat(name + ": header", "tensors that end with the data at " + std::to_string(data_size),
               std::to_string(expected));
  }
}

// The header with its padding. `tensors` are in file order.
std::string FormatHeader(const std::vector<TensorToWrite>& tensors,
                         const std::map<std::string, std::string, std::less<>>& metadata,
                         const std::string& path) {
  std::string header = "{";
  if (!metadata.empty()) {
    header += JsonString(kMetadataKey, path) + ":{";
    for (const auto& [key, value] : metadata) {
      if (header.back() != '{') header += ',';
      header += JsonString(key, path + ": metadata") + ':' + JsonString(value, path + ": metadata");
    }
    header += '}';
  }
  std::size_t offset = 0;
  for (const TensorToWrite& tensor : tensors) {
    if (header.size() > 1) header += ',';
    header += JsonString(tensor.name, path + ": tensor name") + ":{\"dtype\":\"" +
              std::string(Name(tensor.dtype)) + "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      if (i > 0) header += ',';
      header += std::to_string(tensor.shape[i]);
    }
    header += "],\"data_offsets\":[" + std::to_string(offset) + ',';
    offset += tensor.data.size();
    header += std::to_string(offset) + "]}";
  }
  header += '}';
  header.append((8 - header.size() % 8) % 8, ' ');
  if (header.size() > kMaxHeaderBytes) {
    Fail(ErrorCode::kInvalidArgument, path + ": header", "at most 100000000 bytes",
         std::to_string(header.size()));
  }
  return header;
}

}  // namespace

SafetensorsFile SafetensorsFile::Open(const std::string& path) {
  MappedFile map(path);
  SafetensorsFile file = Parse(map.bytes(), Printable(path));
  file.map_ = std::move(map);
  return file;
}

SafetensorsFile SafetensorsFile::Parse(std::span<const std::byte> bytes, const std::string& name) {
  const std::string header_name = name + ": header";
  const std::string_view text = HeaderText(bytes, header_name);
  const json header = ParseStrictJson(text, kHeaderDepth, header_name);
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, bytes.data(), kSizeBytes);
  const std::span<const std::byte> data = bytes.subspan(kSizeBytes + header_size);

  SafetensorsFile file;
  file.name_ = name;
  file.bytes_ = bytes;
  std::vector<Span> spans;
  for (const auto& [key, value] : header.items()) {
    if (key == kMetadataKey) {
      const JsonField field(value, name + ": metadata");
      if (!value.is_object()) field.Fail("an object of strings");
      for (const auto& [meta_key, meta_value] : value.items()) {
        file.metadata_[meta_key] = field.At(meta_key).String();
      }
      continue;
    }
    TensorEntry& entry = file.tensors_[key];
    Span span = ParseTensor(JsonField(value, name + ": " + Printable(key)), &entry);
    span.tensor = &file.tensors_.find(key)->first;
    spans.push_back(span);
  }
  CheckCoverage(spans, static_cast<std::int64_t>(data.size()), name);
  for (const Span& span : spans) {
    file.tensors_.find(*span.tensor)->second.data = data.subspan(
        static_cast<std::size_t>(span.begin), static_cast<std::size_t>(span.end - span.begin));
  }
  return file;
}

const TensorEntry* SafetensorsFile::Find(std::string_view name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? nullptr : &found->second;
}

void WriteSafetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                      const std::map<std::string, std::string, std::less<>>& metadata) {
  const std::string where = Printable(path);
  std::sort(tensors.begin(), tensors.end(), [](const TensorToWrite& a, const TensorToWrite& b) {
    return a.dtype != b.dtype ? a.dtype > b.dtype : a.name < b.name;
  });
  std::vector<std::string_view> names;
  for (const TensorToWrite& tensor : tensors) {
    const std::string tensor_where = where + ": " + Printable(tensor.name);
    const auto size = static_cast<std::size_t>(
        CountBytes(tensor.dtype, tensor.shape, ErrorCode::kInvalidArgument, tensor_where));
    if (tensor.data.size() != size) {
      Fail(ErrorCode::kInvalidArgument, tensor_where + ": data", std::to_string(size) + " bytes",
           std::to_string(tensor.data.size()));
    }
    if (tensor.name == kMetadataKey) {
      Fail(ErrorCode::kInvalidArgument, tensor_where, "a tensor name", "the reserved key");
    }
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  if (const auto twice = std::adjacent_find(names.begin(), names.end()); twice != names.end()) {
    Fail(ErrorCode::kInvalidArgument, where + ": " + Printable(*twice), "each name once", "twice");
  }

  const std::string header = FormatHeader(tensors, metadata, where);
  const std::uint64_t header_size = header.size();
  AtomicFile file(path);
  file.Write(std::as_bytes(std::span(&header_size, 1)));
  file.Write(header);
  for (const TensorToWrite& tensor : tensors) file.Write(tensor.data);
  file.Commit();
}

}  // namespace elsa::io
