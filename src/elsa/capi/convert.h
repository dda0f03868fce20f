// From the structs of elsa_c.h to those of the C++ engine.
#ifndef ELSA_CAPI_CONVERT_H_
#define ELSA_CAPI_CONVERT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>

#include "elsa/base/view.h"
#include "elsa/capi/guard.h"
#include "elsa/cpu/attention.h"
#include "elsa/cpu/executor.h"
#include "elsa/cpu/target.h"
#include "elsa/cpu/tensor.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {

// Checks the struct_size that a caller set: at least that of the first version of the struct, and
// no more than the library knows unless the rest is zero.
// Errors: kInvalidArgument, kUnsupported for what a newer header added.
void RequireStruct(const char* name, const void* given, std::size_t given_size,
                   std::size_t first_size, std::size_t known_size);

// The library's version of a struct of the caller's: what an older header lacks is zero.
template <typename Struct>
Struct CopyStruct(const char* name, const Struct* given) {
  RequirePointer(name, given);
  constexpr std::size_t kFirstSize = sizeof(Struct);  // of ABI version 1: keep when it grows
  RequireStruct(name, given, given->struct_size, kFirstSize, sizeof(Struct));
  Struct copy;
  std::memset(&copy, 0, sizeof(copy));
  std::memcpy(&copy, given, std::min(given->struct_size, sizeof(Struct)));
  return copy;
}

// Errors: kInvalidArgument naming the argument for a number that is no enumerator.
cpu::Precision PrecisionOf(elsa_precision precision);
cpu::Select SelectOf(elsa_select select);
cpu::DType DTypeOf(const char* name, elsa_dtype dtype);  // of numbers: not ELSA_BOOL
elsa_precision ToC(cpu::Precision precision);

// Errors: kInvalidArgument naming the argument for a dtype that it cannot have.
cpu::Tensor TensorOf(const char* name, const elsa_tensor& tensor);
cpu::MutableTensor TensorOf(const char* name, const elsa_mutable_tensor& tensor);
// Absent (null data) gives a null view. log_sum_exp: float32, last extent 1.
cpu::Tensor OptionalTensorOf(const char* name, const elsa_tensor& tensor);
View<const std::uint8_t, 4> MaskOf(const elsa_tensor& mask);
View<float, 3> LogSumExpOf(const elsa_mutable_tensor& tensor);

// 1/sqrt(d) for 0.
double ScaleOf(double scale, std::int64_t d);

// Errors: kInvalidArgument for a negative or absurd number of threads.
void RequireThreads(std::int32_t threads);

// The executor, or the process's pool of `threads` threads.
// Errors: kInvalidArgument for both; those of RequireThreads.
cpu::Executor& ExecutorOf(elsa_executor* executor, std::int32_t threads);

// Null: none asked for. Errors: kInvalidArgument for an unknown name.
std::optional<cpu::Target> TargetOf(const char* name);

// A new handle for a report, if one is wanted.
void GiveReport(cpu::Report&& made, elsa_report** report);

}  // namespace elsa::capi

#endif  // ELSA_CAPI_CONVERT_H_
