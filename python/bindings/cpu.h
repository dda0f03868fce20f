// What the bindings of cpu::Attend and of cpu::KvCache share.
#ifndef ELSA_PYTHON_CPU_H_
#define ELSA_PYTHON_CPU_H_

#include <nanobind/nanobind.h>

#include <array>
#include <cstdint>
#include <string>

#include "borrowed.h"
#include "elsa/base/view.h"
#include "elsa/cpu/attention.h"
#include "elsa/cpu/executor.h"
#include "elsa/cpu/tensor.h"

namespace elsa::python {

// Errors: kInvalidArgument naming the words.
cpu::Select ParseSelect(const std::string& name);

// A pool of that many threads; 0 is one per processor.
cpu::Executor& ExecutorOf(int threads);

// Whether rows are without gaps, as the engine takes them.
bool UnitRows(const cpu::Tensor& t);

// Whether the object is a tensor of floats of that rank with rows that the engine takes.
bool ReadFloats(Borrowed& borrowed, nb::handle object, int rank);

// `object`, unless it is None, as a mask (bool) or bias (floats) over `pairs`. False if it cannot
// be read in place, has more dimensions than `rank`, does not broadcast, or is the second of its
// kind.
bool ReadMask(Borrowed& borrowed, nb::handle object, int rank,
              const std::array<std::int64_t, 4>& pairs, View<const std::uint8_t, 4>& mask,
              cpu::Tensor& bias);

// `object`, unless it is None, as float32 [batch, heads, n_q] to write to; `rank` is the query's.
bool ReadLogSumExp(Borrowed& borrowed, nb::handle object, int rank, View<float, 3>& view);

// (target, precision, [(fields of HeadStats, {path: heads}) per head])
nb::tuple ReportTuple(const cpu::Report& report);

}  // namespace elsa::python

#endif  // ELSA_PYTHON_CPU_H_
