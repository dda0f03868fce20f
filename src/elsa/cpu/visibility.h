// Which keys the queries of one (batch, head) see, as masks of bits, and the mean of the keys that
// any of them sees. The rule is that of reference::HeadInputs.
#ifndef ELSA_CPU_VISIBILITY_H_
#define ELSA_CPU_VISIBILITY_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kernels/kernel_set.h"

namespace elsa::cpu {

class Visibility {
 public:
  // `inputs` and `kernels` must outlive this.
  Visibility(const Inputs& inputs, std::int64_t batch, std::int64_t head, const KernelSet& kernels);

  std::int64_t queries() const { return queries_; }  // without padding
  std::int64_t keys() const { return keys_; }        // without padding
  // 64-bit words of a mask of the keys, in whole blocks of 512.
  std::int64_t words() const { return words_; }
  // The keys that the query may see before masks are [0, KeyEnd).
  std::int64_t KeyEnd(std::int64_t query) const {
    return std::max<std::int64_t>(inputs_.KeyEnd(batch_, query), 0);
  }
  // Whether a mask or a bias hides keys, and whether it does so for each query by itself.
  bool masked() const { return masked_; }
  bool per_query() const { return masked_ && shared_.empty(); }
  // What mask and bias leave of all keys, for a query: words() words, zeros beyond the keys. The
  // limit KeyEnd is not applied. Only if masked. `scratch` holds keys() floats.
  void MaskWords(std::int64_t query, float* scratch, std::uint64_t* to) const;
  // The bias of a query to the keys [0, count): `scratch`, or where it lies. Only with a bias.
  const float* BiasRow(std::int64_t query, std::int64_t count, float* scratch) const;
  // The mean, component by component, over the keys that at least one query sees; 0 if none is
  // seen. Only without a causal limit.
  std::vector<float> MeanKey() const;

 private:
  void ReadMask(std::int64_t query, float* scratch, std::uint64_t* to) const;

  const Inputs& inputs_;
  const KernelSet& kernels_;
  std::int64_t batch_;
  std::int64_t head_;
  std::int64_t queries_;
  std::int64_t keys_;
  std::int64_t words_;
  bool masked_;
  std::vector<std::uint64_t> shared_;  // the mask of all queries; empty if each has its own
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_VISIBILITY_H_
