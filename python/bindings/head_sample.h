// A bounded sample of the heads that a simulation saw, kept to simulate them again with other
// parameters (elsa/sim/advice.h). A sample of a sum is the same in whatever order its parts came
// and whatever thread saw them: of all heads those with the smallest fingerprints stay.
#ifndef ELSA_PYTHON_HEAD_SAMPLE_H_
#define ELSA_PYTHON_HEAD_SAMPLE_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "elsa/sim/advice.h"
#include "elsa/sim/attend.h"

namespace elsa::python {

class HeadSample {
 public:
  void Add(const fixed::HeadJob& head);
  HeadSample& operator+=(const HeadSample& other);
  std::int64_t size() const { return static_cast<std::int64_t>(heads_.size()); }
  // Errors: kInvalidArgument if no head was seen.
  sim::Advice Advise(const Config& config) const;

 private:
  struct Head {
    std::uint64_t fingerprint;
    sim::Work work;  // points to `candidates`
    std::shared_ptr<const fixed::Candidates> candidates;
  };
  void Insert(Head head);

  std::vector<Head> heads_;  // by fingerprint
};

}  // namespace elsa::python

#endif  // ELSA_PYTHON_HEAD_SAMPLE_H_
