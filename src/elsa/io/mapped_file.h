// A file mapped read-only into memory. The pages come from the page cache, so a large trace costs
// no copy. Trap: a file truncated by another process while it is mapped raises SIGBUS on access;
// files written through elsa/io/atomic_file.h are replaced, never truncated.
#ifndef ELSA_IO_MAPPED_FILE_H_
#define ELSA_IO_MAPPED_FILE_H_

#include <cstddef>
#include <span>
#include <string>

namespace elsa::io {

class MappedFile {
 public:
  MappedFile() = default;
  // Maps the file. Errors: kIo naming the path and the system's reason; directories, devices and
  // pipes are refused. An empty file is mapped as an empty span.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  ~MappedFile();

  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace elsa::io

#endif  // ELSA_IO_MAPPED_FILE_H_
