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
    bool bits8 = false;   // with bits16: keys in 8 bits, if the target computes with them and one
                          // scale can hold them
    const float* key_norms = nullptr;  // [keys], if known
  };

  // What was prepared before is lost. `inputs` is used until the next call.
  void Prepare(const Inputs& inputs, std::int64_t batch, std::int64_t kv_head,
               const KernelSet& kernels, const Options& options);

  std::int64_t keys() const { return keys_.count; }
  int d() const { return keys_.padded; }
  int d_v() const { return values_.padded; }
  int d8() const { return (d() + 31) / 32 * 32; }

  // Whether the rows are in fixed point; else they are in binary32. Not if an element is not
  // finite, which must show, nor if a value is kOutlier times the root mean square: the others
  // would lose their digits.
  bool bits16() const { return bits16_; }
  // Whether keys are in 8 bits, key8 instead of key16. Not if a component is kOutlier8 times the
  // root mean square.
  bool bits8() const { return bits8_; }
  const float* key(std::int64_t index) const { return key_ + index * d(); }
  const float* value(std::int64_t index) const { return value_ + index * d_v(); }
  const std::int16_t* key16(std::int64_t index) const { return key16_ + index * d(); }
  const std::uint8_t* key8(std::int64_t index) const { return key8_ + index * d8(); }
  const std::int16_t* value16(std::int64_t index) const { return value16_ + index * d_v(); }
  // What elements were multiplied by in fixed point.
  float key_scale() const { return keys_.scale; }
  float value_scale() const { return values_.scale; }

  // Sums over keys [block * kSumBlock, ...) of key and value, [d() + d_v()].
  const double* BlockSum(std::int64_t block) const { return sums_ + block * (d() + d_v()); }
  // Adds key and value of one key to `sums`.
  void AddTo(std::int64_t key, double* sums) const;

  // The bytes of the rows that the kernels read.
  std::int64_t Bytes() const {
    const int key = bits8_ ? d8() : d() * (bits16_ ? 2 : 4);
    return keys() * (key + d_v() * (bits16_ ? 2 : 4));
  }
  // The bytes that Prepare takes.
  static std::int64_t Bytes(const Inputs& inputs);

 private:
  bool ChooseScales(const Options& options);
  bool ChooseKeyScale(const Options& options);
  // Quantizes, or packs to [keys][d] and [keys][d_v] unless null, and adds up `count` keys and
  // values from `first` on.
  void PrepareBlock(int first, int count, float* packed_keys, float* packed_values);

  const SparseKernels* kernels_ = nullptr;
  SparseRows keys_{};  // in the tensor
  SparseRows values_{};
  bool bits16_ = false;
  bool bits8_ = false;
  const float* key_ = nullptr;
  const float* value_ = nullptr;
  std::int16_t* key16_ = nullptr;
  std::uint8_t* key8_ = nullptr;
  std::int16_t* value16_ = nullptr;
  double* sums_ = nullptr;  // null: not asked for
  Buffer key_buffer_;
  Buffer value_buffer_;
  Buffer sum_buffer_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SPARSE_ROWS_H_
