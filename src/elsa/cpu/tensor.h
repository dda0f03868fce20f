// Tensors as torch and numpy hand them over: a pointer, a type, a shape and strides. No ownership.
#ifndef ELSA_CPU_TENSOR_H_
#define ELSA_CPU_TENSOR_H_

#include <array>
#include <cstdint>
#include <string_view>

#include "elsa/base/view.h"

namespace elsa::cpu {

enum class DType : std::uint8_t { kF32, kF16, kBf16 };

std::string_view Name(DType dtype);  // "float32" "float16" "bfloat16"
inline std::int64_t SizeOf(DType dtype) { return dtype == DType::kF32 ? 4 : 2; }

// A view of rank 4; strides count elements, a stride of 0 broadcasts. Byte is std::byte or const
// std::byte.
template <typename Byte>
struct BasicTensor {
  Byte* data = nullptr;
  DType dtype = DType::kF32;
  std::array<std::int64_t, 4> shape{};
  std::array<std::int64_t, 4> stride{};

  BasicTensor() = default;
  BasicTensor(Byte* data_in, DType dtype_in, const std::array<std::int64_t, 4>& shape_in,
              const std::array<std::int64_t, 4>& stride_in)
      : data(data_in), dtype(dtype_in), shape(shape_in), stride(stride_in) {}
  // NOLINTNEXTLINE(google-explicit-constructor): a view of float is a tensor of float32.
  template <typename Float>
  BasicTensor(const View<Float, 4>& view)
      : data(reinterpret_cast<Byte*>(view.data)), shape(view.shape), stride(view.stride) {}

  explicit operator bool() const { return data != nullptr; }
  // The address of the row [a][b][c].
  Byte* Row(std::int64_t a, std::int64_t b, std::int64_t c) const {
    return data + (a * stride[0] + b * stride[1] + c * stride[2]) * SizeOf(dtype);
  }
};

using Tensor = BasicTensor<const std::byte>;
using MutableTensor = BasicTensor<std::byte>;

// The value of 16 bits. To the nearest 16 bits, ties to even; NaN stays NaN.
float FromBf16(std::uint16_t bits);
float FromF16(std::uint16_t bits);
std::uint16_t ToBf16(float value);
std::uint16_t ToF16(float value);

// Element `index` behind `row`, as float.
float ElementAt(const std::byte* row, DType dtype, std::int64_t index);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_TENSOR_H_
