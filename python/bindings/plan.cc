// Plans, hashes and the angle correction. Source: Sec. III-B, III-C.
#include "elsa/params/plan.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <span>
#include <string>
#include <utility>

#include "bindings.h"
#include "elsa/io/plan_file.h"
#include "elsa/reference/angle.h"
#include "elsa/reference/hash.h"

namespace elsa::python {
namespace {

using Rows = nb::ndarray<const float, nb::ndim<2>, nb::device::cpu>;

// The hash of every row as booleans. Shapes: rows [n, hash.d or fewer], result [n, k].
nb::ndarray<nb::numpy, bool> SignBits(const HashSpec& hash, const Rows& rows) {
  const auto count = static_cast<std::int64_t>(rows.shape(0));
  const auto d = static_cast<std::int64_t>(rows.shape(1));
  std::vector<float> packed;
  packed.reserve(count * d);
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t c = 0; c < d; ++c) {
      packed.push_back(rows.data()[r * rows.stride(0) + c * rows.stride(1)]);
    }
  }
  const reference::HashBits words = reference::HashVectors(hash, packed, d);
  const std::int64_t words_each = (hash.k + 63) / 64;
  auto* bits = new bool[count * hash.k];
  nb::capsule owner(bits, [](void* pointer) noexcept { delete[] static_cast<bool*>(pointer); });
  for (std::int64_t r = 0; r < count; ++r) {
    for (std::int64_t i = 0; i < hash.k; ++i) {
      bits[r * hash.k + i] = (words[r * words_each + i / 64] >> (i % 64) & 1) != 0;
    }
  }
  return {bits, {rows.shape(0), static_cast<std::size_t>(hash.k)}, owner};
}

// [(bits, [(rows, cols, values), ...]), ...], one entry per batch.
nb::list Factors(const HashSpec& hash) {
  nb::list batches;
  for (const HashBatch& batch : hash.batches) {
    nb::list factors;
    for (const Matrix& m : batch.factors) {
      factors.append(nb::make_tuple(m.rows, m.cols, nb::cast(m.values)));
    }
    batches.append(nb::make_tuple(batch.bits, factors));
  }
  return batches;
}

nb::list CalibrationList(const Plan& plan) {
  nb::list layers;
  for (const auto& layer : plan.calibration) {
    nb::list heads;
    for (const HeadCalibration& head : layer) {
      nb::dict dict;
      dict["queries"] = head.queries;
      dict["threshold_stddev"] = head.threshold_stddev;
      dict["kept_fraction"] = head.kept_fraction;
      dict["mass_kept"] = head.mass_kept;
      heads.append(dict);
    }
    layers.append(heads);
  }
  return layers;
}

}  // namespace

void BindPlan(nb::module_& module) {
  nb::class_<HashSpec>(module, "Hash")
      .def_prop_ro("kind", [](const HashSpec& hash) { return std::string(Name(hash.kind)); })
      .def_ro("d", &HashSpec::d)
      .def_ro("bits", &HashSpec::k)
      .def_ro("seed", &HashSpec::seed)
      .def_prop_ro("factors", &Factors)
      .def("sign_bits", &SignBits, nb::arg("rows").noconvert());
  module.def(
      "make_hash",
      [](const std::string& kind, std::int64_t d, std::int64_t bits, std::uint64_t seed) {
        return reference::MakeHash(ParseHashKind(kind), d, bits, seed);
      },
      nb::arg("kind"), nb::arg("d"), nb::arg("bits"), nb::arg("seed"));
  module.def("measure_theta_bias", &reference::MeasureThetaBias, nb::arg("hash"),
             nb::arg("d").none(), nb::arg("pairs"), nb::arg("seed"),
             nb::call_guard<nb::gil_scoped_release>());

  nb::class_<Plan>(module, "Plan")
      .def(nb::init<>())
      .def("copy", [](const Plan& plan) { return plan; })
      .def("validate", &ValidatePlan)
      .def_static(
          "from_json",
          [](const std::string& text, const std::string& name) {
            return io::ParsePlan(text, name);
          },
          nb::arg("text"), nb::arg("name"))
      .def("to_json", &io::FormatPlan)
      .def_static("load", &io::ReadPlan, nb::arg("path"))
      .def(
          "save", [](const Plan& plan, const std::string& path) { io::WritePlan(path, plan); },
          nb::arg("path"))
      .def("__eq__", [](const Plan& a, const Plan& b) { return a == b; })
      .def_rw("model", &Plan::model)
      .def_rw("target", &Plan::target)
      .def_rw("centring_min_keys", &Plan::centring_min_keys)
      .def_rw("bias_in_test", &Plan::bias_in_test)
      .def_rw("dense_below", &Plan::dense_below)
      .def_rw("always_keep_first", &Plan::always_keep_first)
      .def_rw("always_keep_recent", &Plan::always_keep_recent)
      .def_rw("hash", &Plan::hash)
      .def_rw("theta_bias_rad", &Plan::theta_bias_rad)
      .def_rw("thresholds", &Plan::thresholds)
      .def_prop_ro("calibration", &CalibrationList)
      .def("append_layer",
           // Takes over the last layer of a plan that was learned on one layer alone.
           [](Plan& plan, const Plan& layer) {
             plan.thresholds.push_back(layer.thresholds.at(0));
             plan.calibration.push_back(layer.calibration.at(0));
           })
      .def_prop_ro("profile", [](const Plan& plan) { return std::string(ProfileName(plan)); })
      .def_prop_rw(
          "rule", [](const Plan& plan) { return std::string(Name(plan.rule)); },
          [](Plan& plan, const std::string& name) { plan.rule = ParseRule(name); })
      .def_prop_rw(
          "remainder", [](const Plan& plan) { return std::string(Name(plan.remainder)); },
          [](Plan& plan, const std::string& name) { plan.remainder = ParseRemainder(name); })
      .def_prop_rw(
          "centring", [](const Plan& plan) { return std::string(Name(plan.centring)); },
          [](Plan& plan, const std::string& name) { plan.centring = ParseCentring(name); });
}

}  // namespace elsa::python
