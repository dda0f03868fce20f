#include "borrowed.h"

#include <bit>
#include <cstring>

namespace elsa::python {
namespace {

// DLPack's exchange table (DLPack 1.2 and later), as far as it is used here: a type that has
// `__dlpack_c_exchange_api__` describes its objects without a copy, an allocation or a capsule per
// tensor. Written from the published layout; torch has it from 2.10 on.
struct DlTensor {
  void* data;
  std::int32_t device_type, device_id;
  std::int32_t rank;
  std::uint8_t code, bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;
  std::uint64_t byte_offset;
};

struct ExchangeTable {
  std::uint32_t major, minor;
  void* previous;
  void* allocate;
  void* export_managed;
  void* import_managed;
  int (*describe)(void* object, DlTensor* out);  // may be null
  void* stream;
};

constexpr std::int32_t kDlCpu = 1;

// The table of a type, or null. Few types occur, and a type in the list is kept alive, so that its
// address stays its own. The GIL guards the list.
const ExchangeTable* TableOf(PyTypeObject* type) {
  struct Known {
    PyTypeObject* type;
    const ExchangeTable* table;
  };
  static std::array<Known, 8> known{};
  static std::size_t count = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (known[i].type == type) return known[i].table;
  }
  const ExchangeTable* table = nullptr;
  PyObject* capsule =
      PyObject_GetAttrString(reinterpret_cast<PyObject*>(type), "__dlpack_c_exchange_api__");
  if (capsule != nullptr && PyCapsule_IsValid(capsule, "dlpack_exchange_api") != 0) {
    table = static_cast<const ExchangeTable*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
    if (table->major != 1 || table->describe == nullptr) table = nullptr;
  }
  Py_XDECREF(capsule);
  PyErr_Clear();
  if (count < known.size()) {
    Py_INCREF(type);
    known[count++] = {type, table};
  }
  return table;
}

std::optional<Borrowed::Kind> KindOfDl(std::uint8_t code, std::uint8_t bits, std::uint16_t lanes) {
  if (lanes != 1) return std::nullopt;
  if (code == 2 && bits == 32) return Borrowed::Kind::kF32;   // kDLFloat
  if (code == 2 && bits == 16) return Borrowed::Kind::kF16;   // kDLFloat
  if (code == 4 && bits == 16) return Borrowed::Kind::kBf16;  // kDLBfloat
  if (code == 6 && bits == 8) return Borrowed::Kind::kBool;   // kDLBool
  return std::nullopt;
}

// Of a format of the buffer protocol, in native byte order.
std::optional<Borrowed::Kind> KindOfFormat(const char* format) {
  if (format == nullptr) return std::nullopt;
  const bool native = std::endian::native == std::endian::little;
  if (*format == '@' || *format == '=' || *format == (native ? '<' : '>')) ++format;
  if (std::strcmp(format, "f") == 0) return Borrowed::Kind::kF32;
  if (std::strcmp(format, "e") == 0) return Borrowed::Kind::kF16;
  if (std::strcmp(format, "?") == 0) return Borrowed::Kind::kBool;
  return std::nullopt;
}

}  // namespace

Borrowed::~Borrowed() {
  if (buffer_) PyBuffer_Release(&*buffer_);
}

bool Borrowed::Read(nb::handle object) {
  if (!ReadInPlace(object)) return false;
  const std::uintptr_t size = kind_ == Kind::kBool ? 1 : cpu::SizeOf(dtype());
  return reinterpret_cast<std::uintptr_t>(data_) % size == 0;
}

bool Borrowed::ReadInPlace(nb::handle object) {
  if (TableOf(Py_TYPE(object.ptr())) != nullptr) return ReadExchange(object);
  return PyObject_CheckBuffer(object.ptr()) != 0 ? ReadBuffer(object) : ReadArray(object);
}

bool Borrowed::ReadExchange(nb::handle object) {
  DlTensor t{};
  if (TableOf(Py_TYPE(object.ptr()))->describe(object.ptr(), &t) != 0) {
    PyErr_Clear();
    return false;
  }
  const auto kind = KindOfDl(t.code, t.bits, t.lanes);
  if (!kind || t.device_type != kDlCpu || t.rank < 0 || t.rank > 4) return false;
  kind_ = *kind;
  rank_ = t.rank;
  data_ = static_cast<char*>(t.data) + t.byte_offset;
  std::int64_t packed = 1;
  for (int i = rank_ - 1; i >= 0; --i) {
    shape_[i] = t.shape[i];
    stride_[i] = t.strides != nullptr ? t.strides[i] : packed;
    packed *= t.shape[i];
  }
  return true;
}

bool Borrowed::ReadBuffer(nb::handle object) {
  buffer_.emplace();
  if (PyObject_GetBuffer(object.ptr(), &*buffer_, PyBUF_STRIDES | PyBUF_FORMAT) != 0) {
    buffer_.reset();
    PyErr_Clear();
    return false;
  }
  const auto kind = KindOfFormat(buffer_->format);
  if (!kind || buffer_->ndim > 4) return false;
  kind_ = *kind;
  rank_ = buffer_->ndim;
  data_ = buffer_->buf;
  writable_ = buffer_->readonly == 0;
  for (int i = 0; i < rank_; ++i) {
    shape_[i] = buffer_->shape[i];
    // Views into records can have strides that element-wise strides cannot say.
    if (buffer_->strides[i] % buffer_->itemsize != 0) return false;
    stride_[i] = buffer_->strides[i] / buffer_->itemsize;
  }
  return true;
}

// Torch before the exchange table.
bool Borrowed::ReadArray(nb::handle object) {
  if (!nb::try_cast(object, array_)) return false;
  const auto kind = KindOfDl(array_.dtype().code, array_.dtype().bits, array_.dtype().lanes);
  if (!kind || array_.device_type() != kDlCpu || array_.ndim() > 4) return false;
  kind_ = *kind;
  rank_ = static_cast<int>(array_.ndim());
  data_ = array_.data();
  for (int i = 0; i < rank_; ++i) {
    shape_[i] = static_cast<std::int64_t>(array_.shape(i));
    stride_[i] = array_.stride(i);
  }
  return true;
}

cpu::DType Borrowed::dtype() const {
  if (kind_ == Kind::kF16) return cpu::DType::kF16;
  return kind_ == Kind::kBf16 ? cpu::DType::kBf16 : cpu::DType::kF32;
}

std::array<std::int64_t, 4> Borrowed::Lifted(const std::array<std::int64_t, 4>& extents,
                                             std::int64_t fill) const {
  std::array<std::int64_t, 4> out;
  out.fill(fill);
  for (int i = 0; i < rank_; ++i) out[4 - rank_ + i] = extents[i];
  return out;
}

std::optional<std::array<std::int64_t, 4>> Borrowed::StridesOver(
    const std::array<std::int64_t, 4>& shape) const {
  const std::array<std::int64_t, 4> own = Lifted(shape_, 1);
  std::array<std::int64_t, 4> strides = Lifted(stride_, 0);
  for (int i = 0; i < 4; ++i) {
    if (own[i] == shape[i]) continue;
    if (own[i] != 1) return std::nullopt;
    strides[i] = 0;
  }
  return strides;
}

}  // namespace elsa::python
