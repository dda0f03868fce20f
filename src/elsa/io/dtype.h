// Element types of stored tensors, shared by the safetensors and .npy files.
// The names and their order are those of safetensors 0.8; its writer sorts tensors by this order.
// Only what a type is called and how large it is: conversions to float live in elsa/io/half.h.
#ifndef ELSA_IO_DTYPE_H_
#define ELSA_IO_DTYPE_H_

#include <bit>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/base/error.h"

namespace elsa::io {

// Both formats store little-endian values, and this layer reads them in place.
static_assert(std::endian::native == std::endian::little);

enum class Dtype {
  kBool,
  kF4,
  kF6E2M3,
  kF6E3M2,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBf16,
  kI32,
  kU32,
  kF32,
  kC64,
  kF64,
  kI64,
  kU64,
};

// The safetensors name, for example "BF16".
std::string_view Name(Dtype dtype);

// The type of that safetensors name, if there is one.
std::optional<Dtype> FindDtype(std::string_view name);

// Size of one element. Units: bits (4 and 6 exist: elements of F4 and F6 are packed).
int BitsPerElement(Dtype dtype);

// Size of a packed tensor, overflow-checked. Units: bytes.
// The product of the extents that are not zero must fit too, so that strides never overflow.
// Errors: `code`, naming `where`: a negative extent, an overflow, or a part of a byte left over.
std::int64_t CountBytes(Dtype dtype, std::span<const std::int64_t> shape, ErrorCode code,
                        const std::string& where);

// "[2, 3]", "[]" for rank 0: a shape for messages.
std::string ShapeText(std::span<const std::int64_t> shape);

}  // namespace elsa::io

#endif  // ELSA_IO_DTYPE_H_
