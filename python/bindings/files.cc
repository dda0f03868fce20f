// Traces for calibration and inspection, and the raw file formats for tests against the official
// readers and writers.
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <utility>

#include "bindings.h"
#include "elsa/base/error.h"
#include "elsa/io/dtype.h"
#include "elsa/io/npy.h"
#include "elsa/io/safetensors.h"
#include "elsa/io/trace_file.h"

namespace elsa::python {
namespace {

nb::bytes BytesOf(std::span<const std::byte> data) { return nb::bytes(data.data(), data.size()); }

std::span<const std::byte> SpanOf(const nb::bytes& data) {
  return {static_cast<const std::byte*>(data.data()), data.size()};
}

nb::tuple ShapeTuple(const std::vector<std::int64_t>& shape) { return nb::tuple(nb::cast(shape)); }

io::Dtype DtypeOf(const std::string& name) {
  if (const auto dtype = io::FindDtype(name)) return *dtype;
  throw Error(ErrorCode::kInvalidArgument,
              "dtype: expected a safetensors type such as F32, got \"" + name + "\"");
}

nb::tuple ReadSafetensors(const std::string& path) {
  const io::SafetensorsFile file = io::SafetensorsFile::Open(path);
  nb::dict metadata;
  for (const auto& [key, text] : file.metadata()) metadata[key.c_str()] = text;
  nb::dict tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    tensors[nb::str(name.data(), name.size())] = nb::make_tuple(
        std::string(io::Name(tensor.dtype)), ShapeTuple(tensor.shape), BytesOf(tensor.data));
  }
  return nb::make_tuple(metadata, tensors);
}

void WriteSafetensors(const std::string& path, const nb::dict& tensors,
                      const std::map<std::string, std::string>& metadata) {
  std::vector<io::TensorToWrite> list;
  std::vector<nb::bytes> alive;  // the spans below point into these
  for (const auto& [name, tensor] : tensors) {
    const nb::tuple entry = nb::cast<nb::tuple>(tensor);
    alive.push_back(nb::cast<nb::bytes>(entry[2]));
    list.push_back({nb::cast<std::string>(name), DtypeOf(nb::cast<std::string>(entry[0])),
                    nb::cast<std::vector<std::int64_t>>(entry[1]), SpanOf(alive.back())});
  }
  io::WriteSafetensors(path, std::move(list), {metadata.begin(), metadata.end()});
}

nb::tuple ReadNpy(const std::string& path) {
  const io::NpyFile file = io::NpyFile::Open(path);
  return nb::make_tuple(std::string(io::Name(file.dtype())), ShapeTuple(file.shape()),
                        BytesOf(file.data()));
}

void WriteNpy(const std::string& path, const std::string& dtype,
              const std::vector<std::int64_t>& shape, const nb::bytes& data) {
  io::WriteNpy(path, DtypeOf(dtype), shape, SpanOf(data));
}

// A layer's tensors together with what they point into.
struct LayerOwner {
  nb::object trace;
  io::LayerTensors tensors;
};

nb::object ArrayOf(const View<const float, 4>& view, const nb::object& owner) {
  if (!view) return nb::none();
  std::size_t shape[4];
  for (int i = 0; i < 4; ++i) shape[i] = static_cast<std::size_t>(view.shape[i]);
  return nb::cast(
      nb::ndarray<nb::numpy, const float>(view.data, 4, shape, owner, view.stride.data()));
}

void RequireIndex(const io::Trace& trace, const char* what, std::int64_t index,
                  std::int64_t count) {
  if (index >= 0 && index < count) return;
  throw Error(ErrorCode::kInvalidArgument, trace.path() + ": " + what + ": expected 0 to " +
                                               std::to_string(count - 1) + ", got " +
                                               std::to_string(index));
}

// (q, k, v, bias or None) as read-only arrays on the memory map where the file allows it.
nb::tuple TraceLayer(const nb::object& self, std::int64_t layer) {
  const auto& trace = nb::cast<const io::Trace&>(self);
  RequireIndex(trace, "layer", layer, trace.layers());
  auto* layer_owner = new LayerOwner{self, trace.Layer(layer)};
  const nb::capsule owner(layer_owner,
                          [](void* pointer) noexcept { delete static_cast<LayerOwner*>(pointer); });
  const io::LayerTensors& t = layer_owner->tensors;
  return nb::make_tuple(ArrayOf(t.q, owner), ArrayOf(t.k, owner), ArrayOf(t.v, owner),
                        ArrayOf(t.bias, owner));
}

}  // namespace

void BindFiles(nb::module_& module) {
  module.def("read_safetensors", &ReadSafetensors, nb::arg("path"));
  module.def("write_safetensors", &WriteSafetensors, nb::arg("path"), nb::arg("tensors"),
             nb::arg("metadata") = std::map<std::string, std::string>());
  module.def("read_npy", &ReadNpy, nb::arg("path"));
  module.def("write_npy", &WriteNpy, nb::arg("path"), nb::arg("dtype"), nb::arg("shape"),
             nb::arg("data"));

  nb::class_<io::Trace>(module, "Trace")
      .def_static(
          "open", [](const std::filesystem::path& path) { return io::Trace::Open(path.string()); },
          nb::arg("path"))
      .def_prop_ro("path", &io::Trace::path)
      .def_prop_ro("model", &io::Trace::model)
      .def_prop_ro("scale", &io::Trace::scale)
      .def_prop_ro("causal", &io::Trace::causal)
      .def_prop_ro("layers", &io::Trace::layers)
      .def_prop_ro("batch", &io::Trace::batch)
      .def_prop_ro("n_q", &io::Trace::n_q)
      .def_prop_ro("n_k", &io::Trace::n_k)
      .def_prop_ro("lengths", &io::Trace::lengths)
      .def_prop_ro("has_tokens", &io::Trace::has_tokens)
      .def(
          "tokens",
          [](const io::Trace& trace, std::int64_t batch) {
            RequireIndex(trace, "batch", batch, trace.batch());
            return trace.has_tokens() ? trace.tokens(batch) : std::vector<std::string>();
          },
          nb::arg("batch"))
      .def("layer", &TraceLayer, nb::arg("layer"))
      .def("check_finite", &io::Trace::CheckFinite, nb::call_guard<nb::gil_scoped_release>());
}

}  // namespace elsa::python
