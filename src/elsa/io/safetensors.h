// The safetensors format: a small strict reader over a memory map, and a writer.
// Layout: 8 bytes header size N (little endian), N bytes of JSON, then the tensors' bytes without
// gaps. Every rule is listed, with where we are stricter than the official reader, in
// docs/reference/files.md.
#ifndef ELSA_IO_SAFETENSORS_H_
#define ELSA_IO_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/io/dtype.h"
#include "elsa/io/mapped_file.h"

namespace elsa::io {

// A tensor inside an open file. Trap: `data` may have any alignment.
struct TensorEntry {
  Dtype dtype = Dtype::kU8;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;  // exactly shape x dtype bytes
};

class SafetensorsFile {
 public:
  // Maps and checks a file. Errors: kIo; kInvalidFormat "<file>: <tensor or header>: ...".
  static SafetensorsFile Open(const std::string& path);
  // The same on bytes in memory, which must outlive the result. `name` stands for the file in
  // errors.
  static SafetensorsFile Parse(std::span<const std::byte> bytes, const std::string& name);

  const std::string& name() const { return name_; }
  std::span<const std::byte> bytes() const { return bytes_; }  // the whole file
  const std::map<std::string, std::string, std::less<>>& metadata() const { return metadata_; }
  const std::map<std::string, TensorEntry, std::less<>>& tensors() const { return tensors_; }
  // The tensor of that name, or nullptr.
  const TensorEntry* Find(std::string_view name) const;

 private:
  MappedFile map_;
  std::string name_;
  std::span<const std::byte> bytes_;
  std::map<std::string, std::string, std::less<>> metadata_;
  std::map<std::string, TensorEntry, std::less<>> tensors_;
};

struct TensorToWrite {
  std::string name;
  Dtype dtype = Dtype::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;  // packed, little endian
};

// Writes a file that the official readers load, atomically. The bytes depend on the arguments'
// values alone: tensors sorted by type (widest first) then name, as the official writer does.
// Errors: kIo; kInvalidArgument: a name given twice or reserved, data that is not shape x dtype,
// text that is not UTF-8.
void WriteSafetensors(const std::string& path, std::vector<TensorToWrite> tensors,
                      const std::map<std::string, std::string, std::less<>>& metadata = {});

}  // namespace elsa::io

#endif  // ELSA_IO_SAFETENSORS_H_
