#include "elsa/reference/scores.h"

#include <algorithm>
#include <limits>

#include "elsa/base/portable_math.h"

namespace elsa::reference {

std::vector<double> PackRows(const View<const float, 2>& rows) {
  std::vector<double> packed;
  packed.reserve(rows.size());
  for (std::int64_t j = 0; j < rows.shape[0]; ++j) {
    for (std::int64_t c = 0; c < rows.shape[1]; ++c) packed.push_back(rows(j, c));
  }
  return packed;
}

Scores::Scores(const HeadInputs& head)
    : head_(head), d_(head.key().shape[1]), keys_(PackRows(head.key())), query_(d_) {}

void Scores::SetQuery(std::int64_t query) {
  at_ = query;
  for (std::int64_t c = 0; c < d_; ++c) query_[c] = head_.query()(query, c);
}

double Scores::Dot(const double* x) const {
  // Four sums, so that the compiler may use vector instructions without reordering ours.
  double sums[4] = {0, 0, 0, 0};
  std::int64_t c = 0;
  for (; c + 4 <= d_; c += 4) {
    for (int lane = 0; lane < 4; ++lane) sums[lane] += query_[c + lane] * x[c + lane];
  }
  for (; c < d_; ++c) sums[0] += query_[c] * x[c];
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

void Scores::Of(const std::vector<std::int32_t>& keys, std::vector<double>& out) const {
  out.resize(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) out[i] = Of(keys[i]);
}

double Peak(const std::vector<double>& scores) {
  double peak = -std::numeric_limits<double>::infinity();
  for (double score : scores) peak = std::max(peak, score);
  return peak;
}

void Softmax(std::vector<double>& scores) {
  const double peak = Peak(scores);
  double sum = 0;
  for (double& score : scores) {
    score = PortableExp(score - peak);
    sum += score;
  }
  for (double& score : scores) score /= sum;
}

}  // namespace elsa::reference
