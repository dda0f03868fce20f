#include "elsa/io/dtype.h"

#include <array>
#include <cstddef>

#include "elsa/io/message.h"

namespace elsa::io {
namespace {

struct DtypeRow {
  std::string_view name;
  int bits;
};

// In the order of the enumeration.
constexpr std::array<DtypeRow, 22> kRows = {{
    {"BOOL", 8},        {"F4", 4},      {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"U8", 8},
    {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
    {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
    {"I32", 32},        {"U32", 32},    {"F32", 32},    {"C64", 64},    {"F64", 64},
    {"I64", 64},        {"U64", 64},
}};
static_assert(kRows.size() == static_cast<std::size_t>(Dtype::kU64) + 1);

}  // namespace

std::string_view Name(Dtype dtype) { return kRows[static_cast<std::size_t>(dtype)].name; }

int BitsPerElement(Dtype dtype) { return kRows[static_cast<std::size_t>(dtype)].bits; }

std::optional<Dtype> FindDtype(std::string_view name) {
  for (std::size_t i = 0; i < kRows.size(); ++i) {
    if (kRows[i].name == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}

std::int64_t CountBytes(Dtype dtype, std::span<const std::int64_t> shape, ErrorCode code,
                        const std::string& where) {
  std::int64_t bits = BitsPerElement(dtype);
  bool empty = false;
  for (const std::int64_t extent : shape) {
    if (extent < 0) Fail(code, where + ": shape", "extents >= 0", ShapeText(shape));
    if (extent == 0) {
      empty = true;
    } else if (__builtin_mul_overflow(bits, extent, &bits)) {
      Fail(code, where + ": shape", "a size in bits below 2^63", ShapeText(shape));
    }
  }
  if (empty) return 0;
  if (bits % 8 != 0) {
    Fail(code, where + ": shape", "whole bytes of " + std::string(Name(dtype)), ShapeText(shape));
  }
  return bits / 8;
}

std::string ShapeText(std::span<const std::int64_t> shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    if (i == 8) return text + "... " + std::to_string(shape.size()) + " extents]";
    text += std::to_string(shape[i]);
  }
  return text + "]";
}

}  // namespace elsa::io
