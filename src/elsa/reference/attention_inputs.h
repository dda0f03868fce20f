// What attention is computed from: tensors, masks and lengths, and which keys a query may see.
// The words and shapes are those of torch's scaled_dot_product_attention.
#ifndef ELSA_REFERENCE_ATTENTION_INPUTS_H_
#define ELSA_REFERENCE_ATTENTION_INPUTS_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/params/plan.h"

namespace elsa::reference {

// A bias at or below this means "invisible". Our choice: far below any score, above the lowest
// finite binary32 and bfloat16 that models write into their masks.
inline constexpr float kMaskedBias = -1e30f;

// Views only; the caller keeps the data alive. Optional views are null when absent, and broadcast
// by strides of 0.
struct AttentionInputs {
  View<const float, 4> query;        // [batch, heads, n_q, d]
  View<const float, 4> key;          // [batch, kv_heads, n_k, d]; heads is a multiple of kv_heads
  View<const float, 4> value;        // [batch, kv_heads, n_k, d_v]
  double scale = 1;                  // of the scores, usually 1/sqrt(d)
  bool causal = false;               // query i sees keys 0 to i (aligned at the first row)
  View<const std::uint8_t, 4> mask;  // optional [batch, heads, n_q, n_k]; nonzero = visible
  View<const float, 4> bias;         // optional [batch, heads, n_q, n_k], added to the scores
  std::span<const std::int64_t> query_lengths;  // optional [batch]: rows from here on are padding
  std::span<const std::int64_t> key_lengths;    // optional [batch]

  std::int64_t batch() const { return query.shape[0]; }
  std::int64_t heads() const { return query.shape[1]; }
  std::int64_t kv_head(std::int64_t head) const { return head / (heads() / key.shape[1]); }
};

// Checks that shapes, lengths and scale fit together. n = 0 is allowed, d = 0 is not.
// Errors: kInvalidArgument naming the argument, expected and got.
void ValidateInputs(const AttentionInputs& inputs);

// Checks that layer `layer` of `plan` can run on `inputs`: head count, d, layer range, and that
// centring is not combined with causal attention (the mean key of a growing sequence is not
// defined). Errors: kMismatch, or kUnsupported for the last.
void ValidatePlanFits(const Plan& plan, std::int64_t layer, const AttentionInputs& inputs);

// Which keys the queries of one (batch, head) may see: inside the length, not after the query when
// causal, and not masked.
class Visibility {
 public:
  Visibility(const AttentionInputs& inputs, std::int64_t batch, std::int64_t head);

  std::int64_t queries() const { return queries_; }  // without padding
  std::int64_t keys() const { return keys_; }        // without padding
  // Whether every query sees the same keys.
  bool uniform() const { return uniform_; }
  bool Visible(std::int64_t query, std::int64_t key) const;
  // The additive bias of a pair; 0 without a bias.
  float Bias(std::int64_t query, std::int64_t key) const {
    return inputs_.bias ? inputs_.bias(batch_, head_, query, key) : 0.0f;
  }
  // Writes the visible keys in ascending order.
  void Keys(std::int64_t query, std::vector<std::int32_t>& out) const;

 private:
  const AttentionInputs& inputs_;
  std::int64_t batch_;
  std::int64_t head_;
  std::int64_t queries_;
  std::int64_t keys_;
  bool uniform_;
};

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_ATTENTION_INPUTS_H_
