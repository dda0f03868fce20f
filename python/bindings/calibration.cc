// Learning thresholds and angle corrections. Source: Sec. III-E.
#include "elsa/reference/calibration.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/vector.h>

#include <utility>

#include "bindings.h"

namespace elsa::python {
namespace {

template <typename Meter>
void Observe(Meter& meter, std::int64_t layer, FloatArray query, FloatArray key, FloatArray value,
             std::optional<BoolArray> mask, std::optional<FloatArray> bias,
             std::vector<std::int64_t> query_lengths, std::vector<std::int64_t> key_lengths,
             double scale, bool causal, int threads) {
  const InputArguments arguments{std::move(query),       std::move(key),  std::move(value),
                                 std::move(mask),        std::move(bias), std::move(query_lengths),
                                 std::move(key_lengths), scale,           causal};
  const nb::gil_scoped_release release;
  meter.Observe(layer, arguments.Inputs(), threads);
}

template <typename Meter>
nb::class_<Meter> BindMeter(nb::module_& module, const char* name) {
  return nb::class_<Meter>(module, name)
      .def(nb::init<Plan, std::int64_t, std::int64_t>(), nb::arg("plan"), nb::arg("layers"),
           nb::arg("heads"))
      .def("observe", &Observe<Meter>, nb::arg("layer"), nb::arg("query").noconvert(),
           nb::arg("key").noconvert(), nb::arg("value").noconvert(),
           nb::arg("mask").noconvert().none(), nb::arg("bias").noconvert().none(),
           nb::arg("query_lengths"), nb::arg("key_lengths"), nb::arg("scale"), nb::arg("causal"),
           nb::arg("threads") = 0)
      .def("finish", &Meter::Finish);
}

}  // namespace

void BindCalibration(nb::module_& module) {
  BindMeter<reference::Calibrator>(module, "Calibrator");
  BindMeter<reference::ThetaBiasMeter>(module, "ThetaBiasMeter");
}

}  // namespace elsa::python
