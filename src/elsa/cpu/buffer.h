// Memory that kernels work in: aligned, reused from call to call, never zeroed.
#ifndef ELSA_CPU_BUFFER_H_
#define ELSA_CPU_BUFFER_H_

#include <cstddef>
#include <cstdint>

namespace elsa::cpu {

// Grows and never shrinks. Every thread keeps its own (thread_local), so that a call that is
// repeated allocates nothing.
class Buffer {
 public:
  Buffer() = default;
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  // Room for `count` of T, aligned to 64 bytes, and kPadding readable bytes after them. What was
  // in it is lost if it has to grow. Errors: std::bad_alloc.
  template <typename T>
  T* Get(std::int64_t count) {
    return static_cast<T*>(Reserve(static_cast<std::size_t>(count) * sizeof(T)));
  }

  static constexpr std::size_t kPadding = 256;  // kernels may read a few vectors past the end

 private:
  void* Reserve(std::size_t bytes);

  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_BUFFER_H_
