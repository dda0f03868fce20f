// NumPy .npy files: a strict reader over a memory map, and a writer.
// Versions 1.0, 2.0 and 3.0 in C order and little endian. Fortran order, big endian, objects,
// strings and records are refused; .npz is not read. Source: the format's specification in NumPy's
// manual (numpy.lib.format).
#ifndef ELSA_IO_NPY_H_
#define ELSA_IO_NPY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "elsa/io/dtype.h"
#include "elsa/io/mapped_file.h"

namespace elsa::io {

class NpyFile {
 public:
  // Maps and checks a file; its size must be exactly what the header says.
  // Errors: kIo; kInvalidFormat; kUnsupported: well-formed, but Fortran order, big endian or a type
  // that is no bool, integer, float or complex64.
  static NpyFile Open(const std::string& path);
  // The same on bytes in memory, which must outlive the result. `name` stands for the file in
  // errors.
  static NpyFile Parse(std::span<const std::byte> bytes, const std::string& name);

  Dtype dtype() const { return dtype_; }
  const std::vector<std::int64_t>& shape() const { return shape_; }
  std::span<const std::byte> data() const { return data_; }  // may have any alignment

 private:
  MappedFile map_;
  Dtype dtype_ = Dtype::kU8;
  std::vector<std::int64_t> shape_;
  std::span<const std::byte> data_;
};

// Writes a version 1.0 file that numpy.load reads, atomically; data starts at a multiple of 64.
// Errors: kIo; kInvalidArgument: data is not shape x dtype, or NumPy has no such type (BF16,
// F8...).
void WriteNpy(const std::string& path, Dtype dtype, std::span<const std::int64_t> shape,
              std::span<const std::byte> data);

}  // namespace elsa::io

#endif  // ELSA_IO_NPY_H_
