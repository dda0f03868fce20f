#include "elsa/io/trace_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <limits>
#include <optional>
#include <set>
#include <utility>

#include "elsa/io/half.h"
#include "elsa/io/message.h"
#include "elsa/io/strict_json.h"

namespace elsa::io {
namespace {

constexpr std::string_view kVersion = "1";

[[noreturn]] void FailFormat(const std::string& where, std::string_view expected,
                             std::string_view got) {
  Fail(ErrorCode::kInvalidFormat, where, expected, got);
}

std::string TensorName(std::int64_t layer, std::string_view part) {
  return "layer." + std::to_string(layer) + '.' + std::string(part);
}

// Whether `name` is layer.<L>.q, .k, .v or .bias with L a plain decimal below `layers`.
bool IsLayerTensor(std::string_view name, std::int64_t layers) {
  constexpr std::string_view kPrefix = "layer.";
  if (!name.starts_with(kPrefix)) return false;
  const std::string_view rest = name.substr(kPrefix.size());
  std::int64_t layer = -1;
  std::from_chars(rest.data(), rest.data() + rest.size(), layer);
  if (layer < 0 || layer >= layers) return false;
  for (const std::string_view part : {"q", "k", "v", "bias"}) {
    if (name == TensorName(layer, part)) return true;
  }
  return false;
}

bool IsFloat(Dtype dtype) {
  return dtype == Dtype::kF32 || dtype == Dtype::kF16 || dtype == Dtype::kBf16;
}

// The values as float32: in place if they are aligned floats, else converted into `owned`.
const float* AsFloat(const TensorEntry& entry, std::vector<std::vector<float>>* owned) {
  const std::byte* bytes = entry.data.data();
  if (entry.dtype == Dtype::kF32 && reinterpret_cast<std::uintptr_t>(bytes) % alignof(float) == 0) {
    return reinterpret_cast<const float*>(bytes);
  }
  const std::size_t size = static_cast<std::size_t>(BitsPerElement(entry.dtype)) / 8;
  std::vector<float>& values = owned->emplace_back(entry.data.size() / size);
  if (entry.dtype == Dtype::kF32) {
    std::memcpy(values.data(), bytes, entry.data.size());
    return values.data();
  }
  const bool half = entry.dtype == Dtype::kF16;
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, bytes + 2 * i, 2);
    values[i] = half ? HalfToFloat(bits) : Bf16ToFloat(bits);
  }
  return values.data();
}

std::array<std::int64_t, 4> Shape4(const TensorEntry& entry) {
  return {entry.shape[0], entry.shape[1], entry.shape[2], entry.shape[3]};
}

// Throws at the first value of rows [b, h, 0..rows, 0..cols] that `good` does not like.
template <typename Good>
void CheckValues(const View<const float, 4>& view, std::int64_t b, std::int64_t rows,
                 std::int64_t cols, const std::string& where, std::string_view expected,
                 const Good& good) {
  for (std::int64_t h = 0; h < view.shape[1]; ++h) {
    for (std::int64_t i = 0; i < rows; ++i) {
      const float* row = &view(b, h, i, 0);
      const float* bad = std::find_if_not(row, row + cols, good);
      if (bad == row + cols) continue;
      const std::int64_t at[] = {b, h, i, bad - row};
      FailFormat(where + " at " + ShapeText(at), expected, std::to_string(*bad));
    }
  }
}

}  // namespace

Trace Trace::Open(const std::string& path) {
  Trace trace;
  trace.file_ = SafetensorsFile::Open(path);
  trace.path_ = path;
  trace.ReadMetadata();
  trace.ReadShapes();
  trace.ReadLengths();
  trace.ReadTokens();
  return trace;
}

void Trace::ReadMetadata() {
  const std::string where = file_.name() + ": metadata";
  const auto& metadata = file_.metadata();
  const auto value = [&](std::string_view key) -> const std::string& {
    const auto found = metadata.find(key);
    if (found == metadata.end()) FailFormat(where, "the key " + Quoted(key), "none");
    return found->second;
  };
  // The version first: another version may have other keys and tensors.
  if (const std::string& version = value("elsa.trace"); version != kVersion) {
    Fail(ErrorCode::kUnsupported, where + ": elsa.trace: format version", kVersion,
         Quoted(version));
  }
  const std::set<std::string_view> known = {"elsa.trace",  "elsa.model",         "elsa.scale",
                                            "elsa.causal", "elsa.source_digest", "tokens"};
  for (const auto& [key, text] : metadata) {
    if (!known.contains(key)) FailFormat(where, "no unknown key", Quoted(key));
  }
  model_ = value("elsa.model");
  source_digest_ = value("elsa.source_digest");

  const std::string& scale = value("elsa.scale");
  const char* const end = scale.data() + scale.size();
  const auto parsed = std::from_chars(scale.data(), end, scale_);
  if (parsed.ec != std::errc() || parsed.ptr != end || !std::isfinite(scale_) || scale_ <= 0) {
    FailFormat(where + ": elsa.scale", "a decimal number > 0", Quoted(scale));
  }
  const std::string& causal = value("elsa.causal");
  if (causal != "true" && causal != "false") {
    FailFormat(where + ": elsa.causal", "\"true\" or \"false\"", Quoted(causal));
  }
  causal_ = causal == "true";
}

void Trace::ReadShapes() {
  const auto require = [&](std::int64_t layer, std::string_view part) -> const TensorEntry& {
    const std::string name = TensorName(layer, part);
    const std::string where = file_.name() + ": " + name;
    const TensorEntry* entry = file_.Find(name);
    if (entry == nullptr) FailFormat(where, "the tensor", "none");
    if (!IsFloat(entry->dtype)) {
      FailFormat(where + ": dtype", "F32, F16 or BF16", Name(entry->dtype));
    }
    if (entry->shape.size() != 4) {
      FailFormat(where + ": rank",
                 part == "bias" ? "4 [batch, heads, n_q, n_k]" : "4 [batch, heads, n, d]",
                 std::to_string(entry->shape.size()) + ' ' + ShapeText(entry->shape));
    }
    if (std::find(entry->shape.begin(), entry->shape.end(), 0) != entry->shape.end()) {
      FailFormat(where + ": shape", "extents >= 1", ShapeText(entry->shape));
    }
    return *entry;
  };
  const auto check = [&](std::int64_t layer, std::string_view part, const char* what,
                         std::int64_t expected, std::int64_t got) {
    if (expected == got) return;
    FailFormat(file_.name() + ": " + TensorName(layer, part) + ": " + what,
               std::to_string(expected), std::to_string(got));
  };
  std::int64_t layer = 0;
  do {
    const auto q = Shape4(require(layer, "q"));
    const auto k = Shape4(require(layer, "k"));
    const auto v = Shape4(require(layer, "v"));
    if (layer == 0) {
      batch_ = q[0];
      n_q_ = q[2];
      n_k_ = k[2];
    }
    check(layer, "q", "batch", batch_, q[0]);
    check(layer, "k", "batch", batch_, k[0]);
    check(layer, "v", "batch", batch_, v[0]);
    if (q[1] % k[1] != 0) {
      FailFormat(file_.name() + ": " + TensorName(layer, "k") + ": heads",
                 "a divisor of the " + std::to_string(q[1]) + " heads of Q", std::to_string(k[1]));
    }
    check(layer, "v", "heads", k[1], v[1]);
    check(layer, "q", "n", n_q_, q[2]);
    check(layer, "k", "n", n_k_, k[2]);
    check(layer, "v", "n", n_k_, v[2]);
    check(layer, "k", "d", q[3], k[3]);
    check(layer, "v", "d", q[3], v[3]);
    LayerShape shape{.heads = q[1], .kv_heads = k[1], .d = q[3], .has_bias = false};
    if (file_.Find(TensorName(layer, "bias")) != nullptr) {
      const auto bias = Shape4(require(layer, "bias"));
      if (bias[0] != 1) check(layer, "bias", "batch", batch_, bias[0]);
      if (bias[1] != 1) check(layer, "bias", "heads", shape.heads, bias[1]);
      check(layer, "bias", "n_q", n_q_, bias[2]);
      check(layer, "bias", "n_k", n_k_, bias[3]);
      shape.has_bias = true;
    }
    shapes_.push_back(shape);
    ++layer;
  } while (file_.Find(TensorName(layer, "q")) != nullptr);

  for (const auto& [name, entry] : file_.tensors()) {
    if (name == "lengths" || IsLayerTensor(name, layers())) continue;
    FailFormat(file_.name(),
               "only lengths and layer.<L>.q, .k, .v, .bias with L from 0 to " +
                   std::to_string(layers() - 1),
               "the tensor " + Quoted(name));
  }
}

void Trace::ReadLengths() {
  lengths_.assign(static_cast<std::size_t>(batch_), n_k_);
  const TensorEntry* entry = file_.Find("lengths");
  if (entry == nullptr) return;
  const std::string where = file_.name() + ": lengths";
  if (entry->dtype != Dtype::kI64) FailFormat(where + ": dtype", "I64", Name(entry->dtype));
  if (entry->shape != std::vector<std::int64_t>{batch_}) {
    FailFormat(where + ": shape", '[' + std::to_string(batch_) + ']', ShapeText(entry->shape));
  }
  std::memcpy(lengths_.data(), entry->data.data(), entry->data.size());
  for (std::size_t b = 0; b < lengths_.size(); ++b) {
    if (lengths_[b] < 0 || lengths_[b] > n_k_) {
      FailFormat(where + '[' + std::to_string(b) + ']', "0 to " + std::to_string(n_k_),
                 std::to_string(lengths_[b]));
    }
  }
  has_lengths_ = true;
}

void Trace::ReadTokens() {
  const auto found = file_.metadata().find("tokens");
  if (found == file_.metadata().end()) return;
  const std::string where = file_.name() + ": metadata: tokens";
  // [sequence][position]
  const nlohmann::json document = ParseStrictJson(found->second, 2, where);
  const JsonField root(document, where);
  if (root.Size() != lengths_.size()) {
    root.Fail(std::to_string(batch_) + " arrays", std::to_string(root.Size()));
  }
  tokens_.resize(lengths_.size());
  for (std::size_t b = 0; b < tokens_.size(); ++b) {
    const JsonField row = root[b];
    const auto count = static_cast<std::int64_t>(row.Size());
    if (count < lengths_[b] || count > n_k_) {
      row.Fail(std::to_string(lengths_[b]) + " to " + std::to_string(n_k_) + " strings",
               std::to_string(count));
    }
    for (std::size_t i = 0; i < row.Size(); ++i) tokens_[b].push_back(row[i].String());
  }
}

const std::vector<std::string>& Trace::tokens(std::int64_t b) const {
  static const std::vector<std::string> kNone;
  return has_tokens() ? tokens_[static_cast<std::size_t>(b)] : kNone;
}

LayerTensors Trace::Layer(std::int64_t layer) const {
  if (layer < 0 || layer >= layers()) {
    Fail(ErrorCode::kInvalidArgument, file_.name() + ": layer",
         "0 to " + std::to_string(layers() - 1), std::to_string(layer));
  }
  LayerTensors tensors;
  const auto view = [&](std::string_view part) {
    const TensorEntry& entry = *file_.Find(TensorName(layer, part));
    return View<const float, 4>(AsFloat(entry, &tensors.owned), Shape4(entry));
  };
  tensors.q = view("q");
  tensors.k = view("k");
  tensors.v = view("v");
  if (shape(layer).has_bias) {
    tensors.bias = view("bias");
    const std::array<std::int64_t, 2> full = {batch_, shape(layer).heads};
    for (std::size_t axis = 0; axis < 2; ++axis) {
      if (tensors.bias.shape[axis] == 1) tensors.bias.stride[axis] = 0;
      tensors.bias.shape[axis] = full[axis];
    }
  }
  return tensors;
}

void Trace::CheckFinite() const {
  const auto finite = [](float value) { return std::isfinite(value); };
  const auto additive = [](float value) {
    return value < std::numeric_limits<float>::infinity();  // false for NaN too
  };
  for (std::int64_t layer = 0; layer < layers(); ++layer) {
    const LayerTensors tensors = Layer(layer);
    const std::string where = file_.name() + ": " + TensorName(layer, "");
    const std::int64_t d = shape(layer).d;
    for (std::int64_t b = 0; b < batch_; ++b) {
      const std::int64_t keys = lengths_[static_cast<std::size_t>(b)];
      const std::string_view number = "a finite number";
      CheckValues(tensors.q, b, RealQueries(b), d, where + 'q', number, finite);
      CheckValues(tensors.k, b, keys, d, where + 'k', number, finite);
      CheckValues(tensors.v, b, keys, d, where + 'v', number, finite);
      if (!tensors.bias) continue;
      CheckValues(tensors.bias, b, RealQueries(b), keys, where + "bias",
                  "a finite number or -infinity", additive);
    }
  }
}

std::string Trace::Digest() const {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a's offset basis and, below, its prime
  for (const std::byte byte : file_.bytes()) {
    hash = (hash ^ static_cast<std::uint64_t>(byte)) * 0x100000001b3;
  }
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(hash));
  return digits;
}

void WriteTrace(const std::string& path, const TraceToWrite& trace) {
  std::vector<std::vector<float>> packed;
  packed.reserve(4 * trace.layers.size());  // spans below point into it
  std::vector<TensorToWrite> tensors;
  const auto add = [&](std::size_t layer, std::string_view part, const View<const float, 4>& view) {
    if (!view) return;
    std::vector<float>& values = packed.emplace_back();
    values.reserve(static_cast<std::size_t>(view.size()));
    for (std::int64_t b = 0; b < view.shape[0]; ++b) {
      for (std::int64_t h = 0; h < view.shape[1]; ++h) {
        for (std::int64_t i = 0; i < view.shape[2]; ++i) {
          for (std::int64_t c = 0; c < view.shape[3]; ++c) values.push_back(view(b, h, i, c));
        }
      }
    }
    tensors.push_back({TensorName(static_cast<std::int64_t>(layer), part), Dtype::kF32,
                       std::vector<std::int64_t>(view.shape.begin(), view.shape.end()),
                       std::as_bytes(std::span(values))});
  };
  for (std::size_t layer = 0; layer < trace.layers.size(); ++layer) {
    add(layer, "q", trace.layers[layer].q);
    add(layer, "k", trace.layers[layer].k);
    add(layer, "v", trace.layers[layer].v);
    add(layer, "bias", trace.layers[layer].bias);
  }
  if (!trace.lengths.empty()) {
    tensors.push_back({"lengths",
                       Dtype::kI64,
                       {std::ssize(trace.lengths)},
                       std::as_bytes(std::span(trace.lengths))});
  }
  char scale[32];
  const auto end = std::to_chars(scale, scale + sizeof scale, trace.scale).ptr;
  std::map<std::string, std::string, std::less<>> metadata = {
      {"elsa.trace", std::string(kVersion)},
      {"elsa.model", trace.model},
      {"elsa.scale", std::string(scale, end)},
      {"elsa.causal", trace.causal ? "true" : "false"},
      {"elsa.source_digest", trace.source_digest}};
  if (!trace.tokens.empty()) {
    std::string text = "[";
    for (const std::vector<std::string>& row : trace.tokens) {
      text += text.size() > 1 ? ",[" : "[";
      for (std::size_t i = 0; i < row.size(); ++i) {
        if (i > 0) text += ',';
        text += JsonString(row[i], Printable(path) + ": tokens");
      }
      text += ']';
    }
    metadata["tokens"] = text + ']';
  }
  WriteSafetensors(path, std::move(tensors), metadata);
}

}  // namespace elsa::io
