// What attention is computed from: tensors, masks and lengths, and which keys a query may see.
// The words and shapes are those of torch's scaled_dot_product_attention.
#ifndef ELSA_REFERENCE_ATTENTION_INPUTS_H_
#define ELSA_REFERENCE_ATTENTION_INPUTS_H_

#include <array>
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

// Errors: kInvalidArgument naming both shapes unless `got` equals `expected`.
void RequireShape(const char* name, const std::array<std::int64_t, 4>& got,
                  const std::array<std::int64_t, 4>& expected);

// Checks that layer `layer` of `plan` can run on `inputs`: layer range, head count, that the hash
// takes the d of the inputs or more (InputPositions says where), and that
// centring is not combined with causal attention (the mean key of a growing sequence is not
// defined). A scale must be positive: with another the most similar keys are not those of the
// largest scores. `plan` is valid (ValidatePlan).
// Errors: kMismatch, or kUnsupported for causal centring and the scale.
void ValidatePlanFits(const Plan& plan, std::int64_t layer, const AttentionInputs& inputs);

// One (batch, head) of the inputs, and which keys its queries may see: inside the length, not after
// the query when causal, and not masked.
class HeadInputs {
 public:
  // `inputs` is valid (ValidateInputs); its data must outlive this.
  HeadInputs(const AttentionInputs& inputs, std::int64_t batch, std::int64_t head);

  std::int64_t queries() const { return queries_; }  // without padding
  std::int64_t keys() const { return keys_; }        // without padding
  double scale() const { return scale_; }
  // Rows, padding included. Shapes: query [n_q, d], key [n_k, d], value [n_k, d_v].
  const View<const float, 2>& query() const { return query_; }
  const View<const float, 2>& key() const { return key_; }
  const View<const float, 2>& value() const { return value_; }

  // Whether every query sees the same keys, with the same bias.
  bool uniform() const { return uniform_; }
  bool Visible(std::int64_t query, std::int64_t key) const;
  // The keys that a query sees, ascending; valid until the next call.
  const std::vector<std::int32_t>& VisibleKeys(std::int64_t query);
  bool has_bias() const { return static_cast<bool>(bias_); }
  // The additive bias of a pair; 0 without a bias.
  float Bias(std::int64_t query, std::int64_t key) const { return bias_ ? bias_(query, key) : 0; }

 private:
  std::int64_t queries_;
  std::int64_t keys_;
  double scale_;
  bool causal_;
  View<const float, 2> query_;
  View<const float, 2> key_;
  View<const float, 2> value_;
  View<const std::uint8_t, 2> mask_;  // null when absent, as is the bias
  View<const float, 2> bias_;
  bool uniform_;
  std::int64_t visible_to_ = -1;  // the query that visible_ is of
  std::vector<std::int32_t> visible_;
};

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_ATTENTION_INPUTS_H_
