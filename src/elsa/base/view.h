// Views of tensors that somebody else owns: a pointer, a shape and strides, as torch and numpy hand
// them over. No ownership, no allocation. Strides count elements; a stride of 0 broadcasts.
#ifndef ELSA_BASE_VIEW_H_
#define ELSA_BASE_VIEW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace elsa {

// A rank-N view. Shapes: any, zero-size included. Unchecked access: callers validate first.
template <typename T, int N>
struct View {
  T* data = nullptr;
  std::array<std::int64_t, N> shape{};
  std::array<std::int64_t, N> stride{};

  View() = default;
  View(T* data_in, const std::array<std::int64_t, N>& shape_in,
       const std::array<std::int64_t, N>& stride_in)
      : data(data_in), shape(shape_in), stride(stride_in) {}

  // A packed row-major view.
  View(T* data_in, const std::array<std::int64_t, N>& shape_in) : data(data_in), shape(shape_in) {
    std::int64_t step = 1;
    for (int i = N - 1; i >= 0; --i) {
      stride[i] = step;
      step *= shape[i];
    }
  }

  // View<float> converts to View<const float>.
  template <typename U>
  requires(std::is_same_v<T, const U>) View(const View<U, N>& other)
      : data(other.data), shape(other.shape), stride(other.stride) {}

  explicit operator bool() const { return data != nullptr; }
  std::int64_t size() const {
    std::int64_t count = 1;
    for (std::int64_t extent : shape) count *= extent;
    return count;
  }

  template <typename... Index>
  requires(sizeof...(Index) == N) T& operator()(Index... index) const {
    const std::array<std::int64_t, N> at{static_cast<std::int64_t>(index)...};
    std::int64_t offset = 0;
    for (int i = 0; i < N; ++i) offset += at[i] * stride[i];
    return data[offset];
  }

  // The sub-view at a fixed first index.
  View<T, N - 1> operator[](std::int64_t first) const requires(N > 1) {
    View<T, N - 1> sub;
    sub.data = data + first * stride[0];
    for (int i = 1; i < N; ++i) {
      sub.shape[i - 1] = shape[i];
      sub.stride[i - 1] = stride[i];
    }
    return sub;
  }
};

}  // namespace elsa

#endif  // ELSA_BASE_VIEW_H_
