// What a call of the CPU engine computes from: the words of reference::AttentionInputs, with
// tensors of 16 or 32 bits. Source: Sec. II-A; shapes as torch's scaled_dot_product_attention.
#ifndef ELSA_CPU_INPUTS_H_
#define ELSA_CPU_INPUTS_H_

#include <cstdint>
#include <span>

#include "elsa/base/view.h"
#include "elsa/cpu/tensor.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::cpu {

// The most components of a row. Our choice: twice the largest head in use.
inline constexpr std::int64_t kMaxD = 256;

// Views only; the caller keeps the data alive. Optional ones are null when absent. query, key and
// value have one dtype and a last stride of 1; any other stride may be anything, 0 included.
struct Inputs {
  Tensor query;                      // [batch, heads, n_q, d]
  Tensor key;                        // [batch, kv_heads, n_k, d]; heads is a multiple of kv_heads
  Tensor value;                      // [batch, kv_heads, n_k, d_v]
  double scale = 1;                  // of the scores, usually 1/sqrt(d)
  bool causal = false;               // query i sees keys 0 to i + causal_offset
  std::int64_t causal_offset = 0;    // 0 or more: keys that come before the first query
  View<const std::uint8_t, 4> mask;  // optional [batch, heads, n_q, n_k]; nonzero = visible
  Tensor bias;                       // optional [batch, heads, n_q, n_k] of any dtype, added to
                                     // the scores; <= reference::kMaskedBias masks
  std::span<const std::int64_t> query_lengths;  // optional [batch]: rows from here on are padding
  std::span<const std::int64_t> key_lengths;    // optional [batch]

  std::int64_t batch() const { return query.shape[0]; }
  std::int64_t heads() const { return query.shape[1]; }
  std::int64_t kv_heads() const { return key.shape[1]; }
  std::int64_t kv_head(std::int64_t head) const { return head / (heads() / kv_heads()); }
  // Rows without padding.
  std::int64_t queries(std::int64_t b) const {
    return query_lengths.empty() ? query.shape[2] : query_lengths[b];
  }
  std::int64_t keys(std::int64_t b) const {
    return key_lengths.empty() ? key.shape[2] : key_lengths[b];
  }
  // The end of the keys that query i may see before masks: a length, or the causal limit.
  std::int64_t KeyEnd(std::int64_t b, std::int64_t query_index) const {
    const std::int64_t end = keys(b);
    const std::int64_t last = query_index + causal_offset + 1;
    return causal && last < end ? last : end;
  }
};

Inputs InputsOf(const reference::AttentionInputs& inputs);

// Checks shapes, dtypes, strides, alignment to the element, lengths and scale, of `out` ([batch,
// heads, n_q, d_v], float32 or query's dtype, last stride 1) and of `log_sum_exp` ([batch, heads,
// n_q], or null). Outputs must overlap neither themselves, nor each other, nor an input: from its
// first to its last address, each has its memory alone. n = 0 is allowed, d and d_v of 0 or above
// kMaxD are not. Errors: kInvalidArgument naming the argument, expected and got.
void ValidateInputs(const Inputs& inputs, const MutableTensor& out,
                    const View<float, 3>& log_sum_exp = {});

// How many keys query i of (batch, head) sees: within the length and the causal limit, and not
// masked. Constant time without masks.
std::int64_t VisibleKeys(const Inputs& inputs, std::int64_t batch, std::int64_t head,
                         std::int64_t query);

// Whether a query sees a key that lies within KeyEnd: neither masked nor biased to nothing.
bool Unmasked(const Inputs& inputs, std::int64_t batch, std::int64_t head, std::int64_t query,
              std::int64_t key);

// As reference::ValidatePlanFits. Errors: kMismatch, kUnsupported.
void ValidatePlanFits(const Plan& plan, std::int64_t layer, const Inputs& inputs);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_INPUTS_H_
