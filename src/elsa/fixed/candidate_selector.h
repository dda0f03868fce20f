// The test of one key: Hamming distance, cosine table, times the key's norm, against the threshold.
// Source: Sec. IV-C "Candidate Selection Module". Exact integers from the stored values on.
#ifndef ELSA_FIXED_CANDIDATE_SELECTOR_H_
#define ELSA_FIXED_CANDIDATE_SELECTOR_H_

#include <algorithm>
#include <cstdint>
#include <span>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"

namespace elsa::fixed {

class CandidateSelector {
 public:
  // `job` must outlive this.
  CandidateSelector(const Config& config, const Job& job)
      : cosines_(job.cosines),
        threshold_(job.threshold),
        similarity_up_(std::max<std::int64_t>(
            0, config.threshold_fraction_bits - config.cosine_fraction_bits)),
        threshold_up_(std::max<std::int64_t>(
            0, config.cosine_fraction_bits - config.threshold_fraction_bits)) {}

  // Estimated similarity. Units: 2^-(cosine_fraction_bits + norm_shift).
  std::int64_t Similarity(std::int64_t distance, std::int64_t norm) const {
    return cosines_[distance] * norm;
  }
  // t times the largest norm. Units: 2^-(threshold_fraction_bits + norm_shift).
  std::int64_t CutOff(std::int64_t largest_norm) const { return threshold_ * largest_norm; }
  // Whether the key is a candidate; strict, as in Sec. III-D.
  bool Keeps(std::int64_t similarity, std::int64_t cut_off) const {
    return similarity * (std::int64_t{1} << similarity_up_) >
           cut_off * (std::int64_t{1} << threshold_up_);
  }

 private:
  std::span<const std::int32_t> cosines_;
  std::int64_t threshold_;
  std::int64_t similarity_up_;  // shifts that give both sides the same fraction bits
  std::int64_t threshold_up_;
};

}  // namespace elsa::fixed

#endif  // ELSA_FIXED_CANDIDATE_SELECTOR_H_
