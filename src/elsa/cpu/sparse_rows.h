// The keys and values of one (batch, kv head) as the sparse kernels read them: packed, aligned,
// padded with zeros. Made once, shared by the query heads of the group.
#ifndef ELSA_CPU_SPARSE_ROWS_H_
#define ELSA_CPU_SPARSE_ROWS_H_

#include <cstdint>

#include "elsa/cpu/buffer.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kernels/kernel_set.h"
#include "elsa/cpu/kernels/sparse.h"

namespace elsa::cpu {

// Keys whose sums are kept: those of one word of a mask.
inline constexpr std::int64_t kSumBlock = 64;

class PackedHead {
 public:
  // `with_sums`: also the sums that the mean row is made of. What was prepared before is lost.
  void Prepare(const Inputs& inputs, std::int64_t batch, std::int64_t kv_head,
               const KernelSet& kernels, bool with_sums);

  std::int64_t keys() const { return keys_; }
  int d() const { return d_; }      // padded
  int d_v() const { return d_v_; }  // padded
  const float* key(std::int64_t index) const { return key_ + index * d_; }
  const float* value(std::int64_t index) const { return value_ + index * d_v_; }
  // Sums over keys [block * kSumBlock, ...) of key and value, [d() + d_v()].
  const double* BlockSum(std::int64_t block) const { return sums_ + block * (d_ + d_v_); }

  // The bytes that Prepare takes.
  static std::int64_t Bytes(const Inputs& inputs);

 private:
  const float* Pack(const Tensor& tensor, std::int64_t batch, std::int64_t kv_head, int padded,
                    const SparseKernels& kernels, Buffer& buffer) const;

  std::int64_t keys_ = 0;
  int d_ = 0;
  int d_v_ = 0;
  const float* key_ = nullptr;
  const float* value_ = nullptr;
  const double* sums_ = nullptr;
  Buffer key_buffer_;
  Buffer value_buffer_;
  Buffer sum_buffer_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SPARSE_ROWS_H_
