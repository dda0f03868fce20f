// What the files of the Python extension share. Thin on purpose: arguments become views, errors
// become Python exceptions, and every decision about shapes and types is in attention.py.
#ifndef ELSA_PYTHON_BINDINGS_H_
#define ELSA_PYTHON_BINDINGS_H_

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/params/config.h"
#include "elsa/reference/attention.h"
#include "elsa/reference/attention_inputs.h"
#include "elsa/sim/report.h"

namespace elsa::python {

namespace nb = nanobind;

// Arrays are read where they are: any strides, never converted (`.noconvert()` on the arguments).
using FloatArray = nb::ndarray<const float, nb::ndim<4>, nb::device::cpu>;
using BoolArray = nb::ndarray<const bool, nb::ndim<4>, nb::device::cpu>;
using OutArray = nb::ndarray<float, nb::ndim<4>, nb::device::cpu>;

template <typename T, typename Array>
View<T, 4> ViewOf(const Array& array) {
  View<T, 4> view;
  view.data = reinterpret_cast<T*>(array.data());
  for (int i = 0; i < 4; ++i) {
    view.shape[i] = static_cast<std::int64_t>(array.shape(i));
    view.stride[i] = array.stride(i);
  }
  return view;
}

// The words that every function on attention takes, in this order.
struct InputArguments {
  FloatArray query, key, value;
  std::optional<BoolArray> mask;
  std::optional<FloatArray> bias;
  std::vector<std::int64_t> query_lengths, key_lengths;
  double scale;
  bool causal;

  // Views into the arguments, which must stay alive.
  reference::AttentionInputs Inputs() const {
    reference::AttentionInputs inputs;
    inputs.query = ViewOf<const float>(query);
    inputs.key = ViewOf<const float>(key);
    inputs.value = ViewOf<const float>(value);
    if (mask) inputs.mask = ViewOf<const std::uint8_t>(*mask);
    if (bias) inputs.bias = ViewOf<const float>(*bias);
    inputs.query_lengths = query_lengths;
    inputs.key_lengths = key_lengths;
    inputs.scale = scale;
    inputs.causal = causal;
    return inputs;
  }
};

// The fields of HeadStats in the order of stats.py.
nb::tuple StatsTuple(const reference::HeadStats& stats);

// {"time_s", "modules": [{"module", "value", "dynamic", "static", ...}, ...]}, in picojoules.
nb::dict EnergyDict(const Config& config, const std::string& technology, const sim::Report& report);

void BindPlan(nb::module_& module);
void BindAttention(nb::module_& module);
void BindCalibration(nb::module_& module);
void BindFiles(nb::module_& module);
void BindConfig(nb::module_& module);
void BindAccelerator(nb::module_& module);
void BindCost(nb::module_& module);
void BindCpu(nb::module_& module);
void BindKvCache(nb::module_& module);

}  // namespace elsa::python

#endif  // ELSA_PYTHON_BINDINGS_H_
