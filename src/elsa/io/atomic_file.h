// Output that appears whole or not at all: bytes go to a temporary file beside the target, and
// Commit() renames it over the target. Without Commit() nothing is left.
// Not for pipes and devices: the rename would replace them.
#ifndef ELSA_IO_ATOMIC_FILE_H_
#define ELSA_IO_ATOMIC_FILE_H_

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace elsa::io {

// One thread writes to one AtomicFile; several may be open at once.
class AtomicFile {
 public:
  // Opens the temporary file "<path>.<process id>-<number>.tmp". A link is followed, its target
  // replaced. Errors: kIo naming the path and the reason; a target that is not a regular file is
  // refused.
  explicit AtomicFile(const std::string& path);
  // Removes the temporary file unless Commit() succeeded.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends bytes. Errors: kIo, for example on a full disk.
  void Write(std::span<const std::byte> bytes);
  void Write(std::string_view text) { Write(std::as_bytes(std::span(text))); }

  // Flushes to the device and renames over the target. Errors: kIo; the target is then unchanged.
  void Commit();

 private:
  std::string target_;
  std::string temporary_;
  int fd_ = -1;
  int slot_ = -1;
};

// Writes a whole file at once. Errors: kIo.
void WriteFileAtomically(const std::string& path, std::string_view text);

// Unlinks every temporary file that is not committed yet. For signal handlers: async-signal-safe,
// touches no heap and takes no lock. The process is expected to end right after.
void RemovePendingFiles() noexcept;

}  // namespace elsa::io

#endif  // ELSA_IO_ATOMIC_FILE_H_
