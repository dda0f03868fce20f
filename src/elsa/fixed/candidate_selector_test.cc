#include "elsa/fixed/candidate_selector.h"

#include <gtest/gtest.h>

#include <cmath>

namespace elsa::fixed {
namespace {

// Every cosine, norm and threshold of small formats, against the test in real numbers.
TEST(CandidateSelector, ComparesExactlyAndStrictly) {
  for (const auto& [cosine_bits, threshold_bits] : {std::pair{4, 4}, {3, 5}, {5, 2}}) {
    Config config;
    config.cosine_fraction_bits = cosine_bits;
    config.threshold_fraction_bits = threshold_bits;
    Job job;
    for (int cosine = -(1 << cosine_bits); cosine < 1 << cosine_bits; ++cosine) {
      job.cosines.push_back(cosine);
    }
    for (int threshold = -(1 << threshold_bits); threshold < 1 << threshold_bits; ++threshold) {
      job.threshold = threshold;
      const CandidateSelector selector(config, job);
      for (std::int64_t norm = 0; norm <= 20; norm += 5) {
        const std::int64_t largest = 20;
        for (std::size_t i = 0; i < job.cosines.size(); ++i) {
          const double cosine = std::ldexp(job.cosines[i], -cosine_bits);
          const double t = std::ldexp(threshold, -threshold_bits);
          const bool expected = cosine * static_cast<double>(norm) > t * largest;
          EXPECT_EQ(selector.Keeps(selector.Similarity(static_cast<std::int64_t>(i), norm),
                                   selector.CutOff(largest)),
                    expected);
        }
      }
    }
  }
}

}  // namespace
}  // namespace elsa::fixed
