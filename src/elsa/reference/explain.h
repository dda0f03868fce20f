// Why one query kept some keys and dropped others: every quantity of the decision beside the truth.
// Source: Sec. III-D, III-E.
#ifndef ELSA_REFERENCE_EXPLAIN_H_
#define ELSA_REFERENCE_EXPLAIN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::reference {

struct KeyExplanation {
  std::int64_t key = 0;
  double score = 0;            // scale * q . k + bias
  double weight = 0;           // exact softmax weight over the visible keys
  double key_norm = 0;         // of the centred key if centred
  int distance = 0;            // Hamming, of k bits
  double true_angle_rad = 0;   // between query and (centred) key
  double angle_rad = 0;        // estimated, corrected and clamped
  double similarity = 0;       // estimated: key norm * cosine of the estimated angle
  double true_similarity = 0;  // key norm * cosine of the true angle
  double estimated_score = 0;  // scale * query norm * similarity (+ bias if it is in the test)
  bool kept = false;
  bool always = false;  // kept whatever the test says: one of the first or last keys seen
};

struct QueryExplanation {
  std::int64_t layer = 0;
  std::int64_t head = 0;
  std::int64_t batch = 0;
  std::int64_t query = 0;
  Rule rule = Rule::kPaper;
  bool exact = false;     // selection was bypassed; every key is kept
  bool fallback = false;  // the test kept none: the best estimate was kept
  bool centred = false;
  bool bias_in_test = false;
  double threshold = 0;  // t or D; kExactHead if exact
  double cut_off = 0;    // t * key_norm_max; for kGap the score below which a key is dropped
  double query_norm = 0;
  double query_scale = 0;  // scale * query_norm: turns a similarity into a score
  double key_norm_max = 0;
  double mass_kept = 1;
  std::vector<KeyExplanation> keys;  // visible keys, ascending
};

// Errors: those of ValidateInputs and ValidatePlanFits; kInvalidArgument if head, batch or query is
// out of range or padding.
QueryExplanation Explain(const AttentionInputs& inputs, const Plan& plan, std::int64_t layer,
                         std::int64_t batch, std::int64_t head, std::int64_t query);

// One sentence that says why `key` was kept or dropped, with the numbers. `label` names the key,
// for example "key 7 'cat'".
std::string WhySentence(const QueryExplanation& query, const KeyExplanation& key,
                        const std::string& label);

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_EXPLAIN_H_
