#include "elsa/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "elsa/io/message.h"

namespace elsa::io {
namespace {

// Paths of temporary files in flight, readable from a signal handler: fixed buffers, no heap.
enum SlotState : int { kFree, kFilling, kArmed };
struct Slot {
  std::atomic<int> state{kFree};
  std::array<char, PATH_MAX> path{};
};
// Our choice: a command writes two or three files at a time.
constexpr int kSlots = 16;
std::array<Slot, kSlots> g_slots;
static_assert(std::atomic<int>::is_always_lock_free);

int ArmSlot(const std::string& path) {
  if (path.size() >= PATH_MAX) {
    Fail(ErrorCode::kIo, Printable(path) + ": create",
         "a path under " + std::to_string(PATH_MAX) + " bytes", std::to_string(path.size()));
  }
  for (int i = 0; i < kSlots; ++i) {
    int expected = kFree;
    if (g_slots[i].state.compare_exchange_strong(expected, kFilling)) {
      std::memcpy(g_slots[i].path.data(), path.c_str(), path.size() + 1);
      g_slots[i].state.store(kArmed);
      return i;
    }
  }
  Fail(ErrorCode::kIo, Printable(path) + ": create",
       "at most " + std::to_string(kSlots) + " files being written at once", "one more");
}

void ReleaseSlot(int slot) { g_slots[slot].state.store(kFree); }

// The file that a write to `path` must replace: `path`, or what it links to.
std::string FollowLinks(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISLNK(status.st_mode)) return path;
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                         &std::free);
  if (real == nullptr) FailSystem(path, "follow link", errno);
  return real.get();
}

void SyncDirectoryOf(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  const int fd = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;  // The file itself is safe; a directory without read permission is no error.
  ::fsync(fd);
  ::close(fd);
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : target_(FollowLinks(path)) {
  struct stat status {};
  if (::stat(target_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    Fail(ErrorCode::kIo, Printable(path) + ": create", "a file or a new name",
         S_ISDIR(status.st_mode) ? "a directory" : "a device or pipe");
  }
  static std::atomic<std::uint32_t> counter{0};
  temporary_ = target_ + '.' + std::to_string(::getpid()) + '-' +
               std::to_string(counter.fetch_add(1)) + ".tmp";
  // Armed before the file exists, so that no signal can fall between the two.
  slot_ = ArmSlot(temporary_);
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    const int error = errno;
    ReleaseSlot(slot_);
    FailSystem(path, "create", error);
  }
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (slot_ >= 0) {
    ::unlink(temporary_.c_str());
    ReleaseSlot(slot_);
  }
}

void AtomicFile::Write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      FailSystem(target_, "write", errno);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void AtomicFile::Commit() {
  if (::fsync(fd_) != 0) FailSystem(target_, "flush", errno);
  const int closed = ::close(fd_);
  fd_ = -1;
  if (closed != 0) FailSystem(target_, "close", errno);
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) {
    FailSystem(target_, "rename into place", errno);
  }
  ReleaseSlot(slot_);
  slot_ = -1;
  SyncDirectoryOf(target_);
}

void WriteFileAtomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.Write(text);
  file.Commit();
}

void RemovePendingFiles() noexcept {
  for (Slot& slot : g_slots) {
    if (slot.state.load() == kArmed) ::unlink(slot.path.data());
  }
}

}  // namespace elsa::io
