// The estimated similarity of a query with the keys it sees: norm of the key times the cosine of
// the angle that the hashes estimate. Source: Sec. III-D, steps 1 to 5. The test against a
// threshold is in selection.h.
//
// As in hash.h the arithmetic is part of the definition: everything below is binary32, each
// operation rounded, so that every execution makes the same decisions.
#ifndef ELSA_REFERENCE_SIMILARITY_H_
#define ELSA_REFERENCE_SIMILARITY_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"
#include "elsa/reference/hash.h"

namespace elsa::reference {

// The Euclidean norm: 16 running sums (element i goes to sum i % 16), then added pairwise, halves
// onto halves; then the square root.
float Norm(std::span<const float> x);

// How similarities are estimated: the part of a plan that concerns one head, without threshold.
struct EstimatorOptions {
  const HashSpec* hash = nullptr;
  double theta_bias_rad = 0;
  Centring centring = Centring::kOff;
  std::int64_t centring_min_keys = 0;
  bool bias_in_test = false;
};
EstimatorOptions EstimatorOptionsOf(const Plan& plan, std::int64_t layer, std::int64_t head);

// One query and the keys it sees. The vectors run parallel to `keys`.
struct QueryEstimate {
  std::vector<std::int32_t> keys;  // visible, ascending
  float query_norm = 0;
  float query_scale = 0;   // scale * query_norm: similarity times this estimates a score
  float key_norm_max = 0;  // over the visible keys with a finite norm
  bool centred = false;    // whether norms and distances are of key minus mean key
  std::vector<float> key_norms;
  std::vector<std::int32_t> distances;
  std::vector<float> similarities;  // key norm * cosine table[distance]
  std::vector<float> bias;          // additive bias of each key; empty unless it is in the test
};

// Hashes and norms of packed vectors, and the vectors themselves, without the zeros that a wider
// hash adds.
struct Sketches {
  std::vector<float> vectors;  // [count, d]
  HashBits bits;               // hash after hash
  std::vector<float> norms;
};

// Prepares the rows of one (batch, head) once, then estimates query after query.
// Centring subtracts the mean over the keys that at least one query sees.
class SimilarityEstimator {
 public:
  // `head` and the hash in `options` must outlive the estimator. Errors: kMismatch if the hash
  // takes fewer components than the vectors have.
  SimilarityEstimator(HeadInputs& head, const EstimatorOptions& options);

  // Valid until the next call. 0 <= query < head.queries().
  const QueryEstimate& Estimate(std::int64_t query);
  // The components of queries and keys.
  std::int64_t d() const { return head_.query().shape[1]; }
  // The d() values that norm and hash of a key are taken of; only after an Estimate of that kind.
  const float* KeyVector(std::int64_t key, bool centred) const {
    return &keys_[centred ? 1 : 0].vectors[key * d()];
  }
  const float* QueryVector(std::int64_t query) const { return &queries_.vectors[query * d()]; }

 private:
  const Sketches& KeysFor(bool centred);
  std::vector<float> MeanKey() const;

  HeadInputs& head_;
  EstimatorOptions options_;
  std::vector<float> cosines_;
  Sketches queries_;
  Sketches keys_[2];  // [centred]; filled on first use
  QueryEstimate estimate_;
};

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_SIMILARITY_H_
