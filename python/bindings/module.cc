// The module elsa_attention._core and its mapping of errors.
#include <exception>

#include "bindings.h"
#include "elsa/base/error.h"

namespace elsa::python {
namespace {

PyObject* ExceptionOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kIo:
      return PyExc_OSError;
    case ErrorCode::kUnsupported:
      return PyExc_RuntimeError;
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kInvalidFormat:
    case ErrorCode::kMismatch:
      return PyExc_ValueError;
  }
  return PyExc_RuntimeError;
}

}  // namespace
}  // namespace elsa::python

NB_MODULE(_core, module) {
  using namespace elsa::python;
  module.doc() = "The C++ core of ELSA. Use elsa_attention; this module has no stable interface.";
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const elsa::Error& error) {
      PyErr_SetString(ExceptionOf(error.code()), error.what());
    }
  });
  BindPlan(module);
  BindAttention(module);
  BindCalibration(module);
  BindFiles(module);
  BindConfig(module);
  BindAccelerator(module);
  BindCost(module);
  BindCpu(module);
  BindKvCache(module);
}
