// Tensors as torch and numpy hand them over, read in place in well under a microsecond: this is
// what a call of the CPU engine on a short sequence can afford.
#ifndef ELSA_PYTHON_BORROWED_H_
#define ELSA_PYTHON_BORROWED_H_

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "elsa/base/view.h"
#include "elsa/cpu/tensor.h"

namespace elsa::python {

namespace nb = nanobind;

// A tensor of rank 0 to 4 on the CPU of a kind that the CPU engine reads. Whoever reads it keeps
// the object alive; the buffer of a numpy array stays locked while this lives.
class Borrowed {
 public:
  enum class Kind : std::uint8_t { kF32, kF16, kBf16, kBool };

  // False if the object has another kind, device, rank, byte order or alignment, or cannot be read
  // in place: the caller converts it and comes again. No Python error is left set.
  bool Read(nb::handle object);

  Borrowed() = default;
  ~Borrowed();
  Borrowed(const Borrowed&) = delete;
  Borrowed& operator=(const Borrowed&) = delete;

  Kind kind() const { return kind_; }
  int rank() const { return rank_; }
  std::int64_t shape(int i) const { return shape_[i]; }
  bool writable() const { return writable_; }

  // As a tensor of rank 4, missing dimensions in front being 1. The kind is not kBool.
  template <typename Byte>
  cpu::BasicTensor<Byte> As4() const {
    return {static_cast<Byte*>(data_), dtype(), Lifted(shape_, 1), Lifted(stride_, 0)};
  }
  cpu::DType dtype() const;

  // Spread over `shape` with strides of 0; nothing if it does not broadcast to it.
  std::optional<std::array<std::int64_t, 4>> StridesOver(
      const std::array<std::int64_t, 4>& shape) const;
  const void* data() const { return data_; }

 private:
  bool ReadInPlace(nb::handle object);
  bool ReadExchange(nb::handle object);
  bool ReadBuffer(nb::handle object);
  bool ReadArray(nb::handle object);
  std::array<std::int64_t, 4> Lifted(const std::array<std::int64_t, 4>& extents,
                                     std::int64_t fill) const;

  void* data_ = nullptr;
  Kind kind_ = Kind::kF32;
  int rank_ = 0;
  bool writable_ = true;
  std::array<std::int64_t, 4> shape_{};
  std::array<std::int64_t, 4> stride_{};
  std::optional<Py_buffer> buffer_;
  nb::ndarray<> array_;
};

}  // namespace elsa::python

#endif  // ELSA_PYTHON_BORROWED_H_
