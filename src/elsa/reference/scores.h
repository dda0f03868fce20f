// Exact scores of one (batch, head) and their softmax, in double. Source: Sec. II-A.
#ifndef ELSA_REFERENCE_SCORES_H_
#define ELSA_REFERENCE_SCORES_H_

#include <cstdint>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::reference {

// The rows of a matrix one after the other, as doubles.
std::vector<double> PackRows(const View<const float, 2>& rows);

class Scores {
 public:
  // `head` must outlive this.
  explicit Scores(const HeadInputs& head);

  // The query that the functions below are about; first of all calls.
  void SetQuery(std::int64_t query);
  // scale * q . k + bias.
  double Of(std::int32_t key) const {
    return head_.scale() * Dot(&keys_[key * d_]) + head_.Bias(at_, key);
  }
  // q . x for a vector of d values.
  double Dot(const double* x) const;
  // Writes the scores of several keys.
  void Of(const std::vector<std::int32_t>& keys, std::vector<double>& out) const;

  // The packed keys, [n_k, d].
  const std::vector<double>& keys() const { return keys_; }

 private:
  const HeadInputs& head_;
  std::int64_t d_;
  std::vector<double> keys_;
  std::vector<double> query_;
  std::int64_t at_ = 0;
};

// Turns scores into softmax weights in place. No scores: no weights.
void Softmax(std::vector<double>& scores);

// The largest score; -infinity if there is none. A NaN among them is passed over.
double Peak(const std::vector<double>& scores);

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_SCORES_H_
