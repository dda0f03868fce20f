#include "elsa/capi/convert.h"

#include <cmath>
#include <memory>
#include <string>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/capi/handles.h"

namespace elsa::capi {
namespace {

// A struct_size beyond this was never set. Our choice: several times the largest struct.
constexpr std::size_t kMaxStructSize = 1 << 14;
// Our choice, as on the command line.
constexpr std::int32_t kMaxThreads = 4096;

[[noreturn]] void Refuse(const std::string& what, const std::string& expected,
                         const std::string& got) {
  throw Error(ErrorCode::kInvalidArgument, what + ": expected " + expected + ", got " + got);
}

template <typename Result, typename Given>
Result Convert(const char* name, const Given& tensor) {
  Result result;
  result.data = static_cast<decltype(result.data)>(tensor.data);
  result.dtype = DTypeOf(name, tensor.dtype);
  std::copy(std::begin(tensor.shape), std::end(tensor.shape), result.shape.begin());
  std::copy(std::begin(tensor.stride), std::end(tensor.stride), result.stride.begin());
  return result;
}

}  // namespace

void RequireStruct(const char* name, const void* given, std::size_t given_size,
                   std::size_t first_size, std::size_t known_size) {
  if (given_size < first_size || given_size > kMaxStructSize) {
    Refuse(std::string(name) + ": struct_size", "sizeof of the struct", std::to_string(given_size));
  }
  const auto* bytes = static_cast<const unsigned char*>(given);
  for (std::size_t i = known_size; i < given_size; ++i) {
    if (bytes[i] == 0) continue;
    throw Error(ErrorCode::kUnsupported, std::string(name) +
                                             ": expected zeros beyond the fields of version " +
                                             elsa_version() + ", got an option of a newer one");
  }
}

cpu::Precision PrecisionOf(elsa_precision precision) {
  switch (precision) {
    case ELSA_PRECISION_AUTO:
      return cpu::Precision::kAuto;
    case ELSA_PRECISION_FLOAT32:
      return cpu::Precision::kFloat32;
    case ELSA_PRECISION_16BIT:
      return cpu::Precision::kBits16;
    case ELSA_PRECISION_INT8:
      return cpu::Precision::kInt8;
    default:
      Refuse("precision", "one of ELSA_PRECISION_...", std::to_string(precision));
  }
}

elsa_precision ToC(cpu::Precision precision) {
  switch (precision) {
    case cpu::Precision::kAuto:
      return ELSA_PRECISION_AUTO;
    case cpu::Precision::kFloat32:
      return ELSA_PRECISION_FLOAT32;
    case cpu::Precision::kBits16:
      return ELSA_PRECISION_16BIT;
    case cpu::Precision::kInt8:
      return ELSA_PRECISION_INT8;
  }
  return ELSA_PRECISION_AUTO;
}

cpu::Select SelectOf(elsa_select select) {
  switch (select) {
    case ELSA_SELECT_AUTO:
      return cpu::Select::kAuto;
    case ELSA_SELECT_ALWAYS:
      return cpu::Select::kAlways;
    default:
      Refuse("select", "one of ELSA_SELECT_...", std::to_string(select));
  }
}

cpu::DType DTypeOf(const char* name, elsa_dtype dtype) {
  switch (dtype) {
    case ELSA_FLOAT32:
      return cpu::DType::kF32;
    case ELSA_FLOAT16:
      return cpu::DType::kF16;
    case ELSA_BFLOAT16:
      return cpu::DType::kBf16;
    default:
      Refuse(std::string(name) + ": dtype", "ELSA_FLOAT32, ELSA_FLOAT16 or ELSA_BFLOAT16",
             std::to_string(dtype));
  }
}

cpu::Tensor TensorOf(const char* name, const elsa_tensor& tensor) {
  return Convert<cpu::Tensor>(name, tensor);
}

cpu::MutableTensor TensorOf(const char* name, const elsa_mutable_tensor& tensor) {
  return Convert<cpu::MutableTensor>(name, tensor);
}

cpu::Tensor OptionalTensorOf(const char* name, const elsa_tensor& tensor) {
  return tensor.data == nullptr ? cpu::Tensor() : TensorOf(name, tensor);
}

View<const std::uint8_t, 4> MaskOf(const elsa_tensor& mask) {
  View<const std::uint8_t, 4> view;
  if (mask.data == nullptr) return view;
  if (mask.dtype != ELSA_BOOL) Refuse("mask: dtype", "ELSA_BOOL", std::to_string(mask.dtype));
  view.data = static_cast<const std::uint8_t*>(mask.data);
  std::copy(std::begin(mask.shape), std::end(mask.shape), view.shape.begin());
  std::copy(std::begin(mask.stride), std::end(mask.stride), view.stride.begin());
  return view;
}

View<float, 3> LogSumExpOf(const elsa_mutable_tensor& tensor) {
  View<float, 3> view;
  if (tensor.data == nullptr) return view;
  if (tensor.dtype != ELSA_FLOAT32) {
    Refuse("log_sum_exp: dtype", "ELSA_FLOAT32", std::to_string(tensor.dtype));
  }
  if (tensor.shape[3] != 1) {
    Refuse("log_sum_exp: last extent", "1", std::to_string(tensor.shape[3]));
  }
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % sizeof(float) != 0) {
    Refuse("log_sum_exp", "an address that is a multiple of 4", "a misaligned one");
  }
  view.data = static_cast<float*>(tensor.data);
  std::copy_n(tensor.shape, 3, view.shape.begin());
  std::copy_n(tensor.stride, 3, view.stride.begin());
  return view;
}

double ScaleOf(double scale, std::int64_t d) {
  return scale == 0 && d > 0 ? 1 / std::sqrt(static_cast<double>(d)) : scale;
}

void RequireThreads(std::int32_t threads) {
  if (threads >= 0 && threads <= kMaxThreads) return;
  Refuse("threads", "0 to " + std::to_string(kMaxThreads), std::to_string(threads));
}

cpu::Executor& ExecutorOf(elsa_executor* executor, std::int32_t threads) {
  RequireThreads(threads);
  if (executor == nullptr) return cpu::SharedExecutor(threads);
  if (threads != 0) Refuse("threads", "0 beside an executor", std::to_string(threads));
  return *executor->executor;
}

std::optional<cpu::Target> TargetOf(const char* name) {
  if (name == nullptr) return std::nullopt;
  std::string known;
  for (const cpu::TargetInfo& info : cpu::Targets()) {
    if (info.name == name) return info.target;
    known += (known.empty() ? "" : ", ") + std::string(info.name);
  }
  Refuse("target", "one of " + known, name);
}

void GiveReport(cpu::Report&& made, elsa_report** report) {
  if (report != nullptr) *report = new elsa_report{std::move(made)};
}

}  // namespace elsa::capi
