// The CPU engine. Shapes of the usual ranks are put together here and not in Python, because on a
// short sequence that would cost more than the attention; what is unusual goes back (see below).
#include "cpu.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include "bindings.h"
#include "elsa/base/error.h"
#include "elsa/cpu/target.h"
#include "elsa/params/plan.h"

namespace elsa::python {

cpu::Select ParseSelect(const std::string& name) {
  if (name == "auto") return cpu::Select::kAuto;
  if (name == "always") return cpu::Select::kAlways;
  throw Error(ErrorCode::kInvalidArgument, "select: expected auto or always, got " + name);
}

cpu::Executor& ExecutorOf(int threads) {
  constexpr int kMost = 1024;  // Our choice: a pool is kept for ever, and nobody gains from more
  return cpu::SharedExecutor(std::min(threads, kMost));
}

bool UnitRows(const cpu::Tensor& t) { return t.shape[3] <= 1 || t.stride[3] == 1; }

bool ReadFloats(Borrowed& borrowed, nb::handle object, int rank) {
  return borrowed.Read(object) && borrowed.kind() != Borrowed::Kind::kBool &&
         borrowed.rank() == rank && UnitRows(borrowed.As4<const std::byte>());
}

bool ReadMask(Borrowed& borrowed, nb::handle object, int rank,
              const std::array<std::int64_t, 4>& pairs, View<const std::uint8_t, 4>& mask,
              cpu::Tensor& bias) {
  using Kind = Borrowed::Kind;
  if (object.is_none()) return true;
  // The lowest finite float16 masks too, but is an ordinary number to the engine.
  if (!borrowed.Read(object) || borrowed.kind() == Kind::kF16 || borrowed.rank() > rank) {
    return false;
  }
  const auto strides = borrowed.StridesOver(pairs);
  if (!strides) return false;
  if (borrowed.kind() == Kind::kBool) {
    if (mask) return false;
    mask = {static_cast<const std::uint8_t*>(borrowed.data()), pairs, *strides};
  } else {
    if (bias) return false;
    bias = {static_cast<const std::byte*>(borrowed.data()), borrowed.dtype(), pairs, *strides};
  }
  return true;
}

bool ReadLogSumExp(Borrowed& borrowed, nb::handle object, int rank, View<float, 3>& view) {
  if (object.is_none()) return true;
  if (!borrowed.Read(object) || borrowed.kind() != Borrowed::Kind::kF32 || !borrowed.writable() ||
      borrowed.rank() != rank - 1) {
    return false;
  }
  const auto t = borrowed.As4<std::byte>();
  view = {reinterpret_cast<float*>(t.data),
          {t.shape[1], t.shape[2], t.shape[3]},
          {t.stride[1], t.stride[2], t.stride[3]}};
  return true;
}

namespace {

nb::dict PathDict(const cpu::HeadReport& head) {
  nb::dict paths;
  for (int i = 0; i < static_cast<int>(std::size(head.heads_by_path)); ++i) {
    const std::string name(Name(static_cast<cpu::Path>(i)));
    if (head.heads_by_path[i] > 0) paths[name.c_str()] = head.heads_by_path[i];
  }
  return paths;
}

}  // namespace

nb::tuple ReportTuple(const cpu::Report& report) {
  nb::list heads;
  for (const cpu::HeadReport& head : report.heads) {
    heads.append(nb::make_tuple(StatsTuple(head.stats), PathDict(head)));
  }
  return nb::make_tuple(std::string(Name(report.target)), std::string(Name(report.precision)),
                        heads);
}

namespace {

using Lengths = std::vector<std::int64_t>;

// The tensors of a call, held while it runs.
struct Tensors {
  Borrowed query, key, value, mask, bias, out, log_sum_exp;
};

// Whether query, key and value have one rank, one batch and fitting heads.
bool ReadRows(Tensors& t, nb::handle query, nb::handle key, nb::handle value, bool grouped,
              cpu::Inputs& inputs) {
  if (!t.query.Read(query)) return false;
  const int rank = t.query.rank();
  if (rank < 2 || !ReadFloats(t.key, key, rank) || !ReadFloats(t.value, value, rank)) return false;
  inputs.query = t.query.As4<const std::byte>();
  inputs.key = t.key.As4<const std::byte>();
  inputs.value = t.value.As4<const std::byte>();
  const auto& q = inputs.query.shape;
  const auto& k = inputs.key.shape;
  return t.query.kind() != Borrowed::Kind::kBool && UnitRows(inputs.query) && q[0] == k[0] &&
         q[0] == inputs.value.shape[0] && (grouped || q[1] == k[1]);
}

// Writes into `out`. Returns the report if `count`, else None; or NotImplemented, with nothing
// done, if a tensor cannot be read in place or the shapes do not fit: Python then converts or says
// what is wrong.
nb::object CpuAttention(nb::handle query, nb::handle key, nb::handle value, nb::handle mask,
                        nb::handle bias, const Lengths& query_lengths, const Lengths& key_lengths,
                        std::optional<double> scale, bool causal, bool grouped, const Plan* plan,
                        std::int64_t layer, nb::handle out, nb::handle log_sum_exp, int threads,
                        const std::string& precision, const std::string& select, bool count) {
  Tensors t;
  cpu::Inputs inputs;
  cpu::AttendOptions options;
  options.precision = cpu::ParsePrecision(precision);
  options.select = ParseSelect(select);
  const auto read = [&] {
    if (!ReadRows(t, query, key, value, grouped, inputs)) return false;
    const int rank = t.query.rank();
    const auto& q = inputs.query.shape;
    const std::array<std::int64_t, 4> pairs{q[0], q[1], q[2], inputs.key.shape[2]};
    return ReadMask(t.mask, mask, rank, pairs, inputs.mask, inputs.bias) &&
           ReadMask(t.bias, bias, rank, pairs, inputs.mask, inputs.bias) &&
           ReadFloats(t.out, out, rank) && t.out.writable() &&
           ReadLogSumExp(t.log_sum_exp, log_sum_exp, rank, options.log_sum_exp);
  };
  if (!read()) return nb::borrow(Py_NotImplemented);
  const auto d = static_cast<double>(inputs.query.shape[3]);
  inputs.scale = scale.value_or(d > 0 ? std::pow(d, -0.5) : 1);  // as inputs.py
  inputs.causal = causal;
  inputs.query_lengths = query_lengths;
  inputs.key_lengths = key_lengths;
  cpu::Report report;
  {
    const nb::gil_scoped_release release;
    options.executor = &ExecutorOf(threads);
    report = cpu::Attend(inputs, plan, layer, t.out.As4<std::byte>(), options);
  }
  return count ? nb::object(ReportTuple(report)) : nb::none();
}

nb::list Targets() {
  nb::list list;
  for (const cpu::TargetInfo& info : cpu::Targets()) {
    list.append(nb::make_tuple(std::string(info.name), info.runs, std::string(info.compiled_for)));
  }
  return list;
}

}  // namespace

void BindCpu(nb::module_& module) {
  module.def("cpu_attention", &CpuAttention, nb::arg("query"), nb::arg("key"), nb::arg("value"),
             nb::arg("mask").none(), nb::arg("bias").none(), nb::arg("query_lengths"),
             nb::arg("key_lengths"), nb::arg("scale").none(), nb::arg("causal"), nb::arg("grouped"),
             nb::arg("plan").none(), nb::arg("layer"), nb::arg("out"),
             nb::arg("log_sum_exp").none(), nb::arg("threads"), nb::arg("precision"),
             nb::arg("select"), nb::arg("count"));
  module.def("cpu_targets", &Targets);
  module.def("cpu_selected_target", [] { return std::string(Name(cpu::SelectedTarget())); });
  module.def("cpu_processor", &cpu::ProcessorName);
}

}  // namespace elsa::python
