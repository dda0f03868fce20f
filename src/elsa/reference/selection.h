// Which keys a query keeps. Source: Sec. III-D step 6, Sec. III-E; the rules beyond the paper are
// ours (docs/reference/selection.md).
//
//   threshold t (paper, mass, budget):  keep if  similarity > t * key_norm_max       (strict)
//     with the bias in the test:        keep if
//                                       query_scale * (similarity - t * key_norm_max) + bias > 0
//   gap D:                              keep if  best score - score < D,
//                                       score = query_scale * similarity (+ bias)
//
// A key whose norm is not finite is always kept, so that a NaN is never hidden; so are the first
// and last visible keys that a plan asks for (AlwaysKeep). A query that sees keys but keeps none
// keeps the one with the largest estimate (the score with the bias in the test, the similarity
// without), the first of them on a tie.
#ifndef ELSA_REFERENCE_SELECTION_H_
#define ELSA_REFERENCE_SELECTION_H_

#include <cstdint>
#include <vector>

#include "elsa/params/plan.h"
#include "elsa/reference/similarity.h"

namespace elsa::reference {

struct Selection {
  std::vector<std::int32_t> kept;  // keys, ascending
  bool fallback = false;           // nothing kept any: the largest estimate is
};

// Of the keys that a query sees, the first and the last so many are kept whatever the test says.
struct AlwaysKeep {
  std::int64_t first = 0;
  std::int64_t recent = 0;
  bool any() const { return first > 0 || recent > 0; }
  // Whether visible key number `v` of `count` is one of them.
  bool Holds(std::int64_t v, std::int64_t count) const { return v < first || v >= count - recent; }
};
inline AlwaysKeep AlwaysKeepOf(const Plan& plan) {
  return {plan.always_keep_first, plan.always_keep_recent};
}

// Writes the decision for one query. `threshold` is t or D by `rule`, finite.
void Select(const QueryEstimate& estimate, Rule rule, double threshold, Selection& out,
            const AlwaysKeep& always = {});

// The visible key with the largest estimate, as its number among them; at least one is visible. The
// test keeps it or nothing with a finite norm; so, without AlwaysKeep, it is kept in any case, by
// the test or for want of it.
std::size_t LargestEstimate(const QueryEstimate& estimate);

// The right-hand side of the test, for people: t * key_norm_max as a similarity, or for kGap the
// score below which a key is dropped.
double CutOff(const QueryEstimate& estimate, Rule rule, double threshold);

// The estimated score of visible key number `v`: query_scale * similarity, plus the bias if that is
// in the test.
float EstimatedScore(const QueryEstimate& estimate, std::size_t v);

// The largest EstimatedScore over the keys with a finite norm; 0 if there is none.
float BestEstimatedScore(const QueryEstimate& estimate);

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_SELECTION_H_
