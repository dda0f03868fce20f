// The keys and values of one (batch, kv head) as the sparse kernels read them: packed, aligned,
// padded with zeros, in binary32 and, if asked, in 16-bit fixed point. Made once, shared by the
// query heads of the group.
#ifndef ELSA_CPU_SPARSE_ROWS_H_
#define ELSA_CPU_SPARSE_ROWS_H_

#include <cstdint>

#include "elsa/cpu/buffer.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kernels/kernel_set.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu {

inline Element ElementOf(DType dtype) { return static_cast<Element>(dtype); }

// Keys whose sums are kept: those of one word of a mask.
inline constexpr std::int64_t kSumBlock = 64;

class PackedHead {
 public:
  struct Options {
    bool sums = false;    // the sums that the mean row is made of
    bool bits16 = false;  // rows in fixed point, unless one scale cannot hold them
  };

  // What was prepared before is lost.
  void Prepare(const Inputs& inputs, std::int64_t batch, std::int64_t kv_head,
               const KernelSet& kernels, const Options& options);

  std::int64_t keys() const { return keys_; }
  int d() const { return d_; }      // padded
  int d_v() const { return d_v_; }  // padded
  const float* key(std::int64_t index) const { return key_ + index * d_; }
  const float* value(std::int64_t index) const { return value_ + index * d_v_; }

  // Whether there are rows in fixed point. Not if an element is not finite, which must show, nor if
  // a value is kOutlier times the root mean square: the others would lose their digits.
  bool bits16() const { return bits16_; }
  const std::int16_t* key16(std::int64_t index) const { return key16_ + index * d_; }
  const std::int16_t* value16(std::int64_t index) const { return value16_ + index * d_v_; }
  // What elements were multiplied by.
  float key_scale() const { return key_scale_; }
  float value_scale() const { return value_scale_; }

  // Sums over keys [block * kSumBlock, ...) of key and value, [d() + d_v()].
  const double* BlockSum(std::int64_t block) const { return sums_ + block * (d_ + d_v_); }

  // The bytes of the rows that the kernels read.
  std::int64_t Bytes() const { return keys_ * (d_ + d_v_) * (bits16_ ? 2 : 4); }
  // The bytes that Prepare takes.
  static std::int64_t Bytes(const Inputs& inputs);

 private:
  const float* Pack(const Tensor& tensor, std::int64_t batch, std::int64_t kv_head, int padded,
                    const SparseKernels& kernels, Buffer& buffer) const;

  void Quantize(const SparseKernels& kernels);

  std::int64_t keys_ = 0;
  int d_ = 0;
  int d_v_ = 0;
  const float* key_ = nullptr;
  const float* value_ = nullptr;
  const double* sums_ = nullptr;
  bool bits16_ = false;
  float key_scale_ = 1;
  float value_scale_ = 1;
  const std::int16_t* key16_ = nullptr;
  const std::int16_t* value16_ = nullptr;
  Buffer key_buffer_;
  Buffer value_buffer_;
  Buffer sum_buffer_;
  Buffer key16_buffer_;
  Buffer value16_buffer_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SPARSE_ROWS_H_
