#include "elsa/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "elsa/io/message.h"

namespace elsa::io {
MappedFile::MappedFile(const std::string& path) {
  // O_NONBLOCK: a named pipe must be refused, not waited for.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) FailSystem(path, "open", errno);
  struct stat status {};
  if (::fstat(fd, &status) != 0) {
    const int error = errno;
    ::close(fd);
    FailSystem(path, "read status", error);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(fd);
    Fail(ErrorCode::kIo, Printable(path) + ": open", "a file",
         S_ISDIR(status.st_mode) ? "a directory" : "a device or pipe");
  }
  if (status.st_size > 0) {
    const auto size = static_cast<std::size_t>(status.st_size);
    void* start = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (start == MAP_FAILED) {
      const int error = errno;
      ::close(fd);
      FailSystem(path, "map into memory", error);
    }
    bytes_ = {static_cast<const std::byte*>(start), size};
  }
  ::close(fd);
}

MappedFile::MappedFile(MappedFile&& other) noexcept : bytes_(std::exchange(other.bytes_, {})) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace elsa::io
