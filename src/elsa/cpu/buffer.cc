#include "elsa/cpu/buffer.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>
#include <utility>

namespace elsa::cpu {
namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t RoundUp(std::size_t bytes, std::size_t unit) {
  return (bytes + unit - 1) / unit * unit;
}

}  // namespace

Buffer::~Buffer() { std::free(data_); }

Buffer::Buffer(Buffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void* Buffer::Reserve(std::size_t bytes) {
  if (data_ != nullptr && bytes <= bytes_) return data_;
  std::free(data_);
  data_ = nullptr;
  bytes_ = 0;
  const bool huge = bytes >= kHugePage / 2;
  const std::size_t unit = huge ? kHugePage : 64;
  const std::size_t size = RoundUp(bytes + kPadding, unit);
  data_ = std::aligned_alloc(unit, size);
  if (data_ == nullptr) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
  // Rows picked here and there touch many pages: large ones save the look-ups. Advice only.
  if (huge) madvise(data_, size, MADV_HUGEPAGE);
#endif
  bytes_ = size - kPadding;
  return data_;
}

}  // namespace elsa::cpu
