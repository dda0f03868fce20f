#include "head_sample.h"

#include <algorithm>
#include <utility>

#include "elsa/base/error.h"

namespace elsa::python {
namespace {

// Our choice: advice simulates each of them seven times, about a second for the largest ones.
constexpr std::size_t kHeads = 16;

// 64-bit FNV-1a of the query matrix: heads that differ have other fingerprints, and which are small
// has nothing to do with how long a head takes.
std::uint64_t Fingerprint(const fixed::Job& job) {
  std::uint64_t hash = 0xcbf29ce484222325;
  const auto mix = [&](std::uint64_t value) { hash = (hash ^ value) * 0x100000001b3; };
  mix(static_cast<std::uint64_t>(job.keys));
  for (const std::int16_t value : job.query) mix(static_cast<std::uint16_t>(value));
  return hash;
}

}  // namespace

void HeadSample::Insert(Head head) {
  const auto place = std::upper_bound(
      heads_.begin(), heads_.end(), head.fingerprint,
      [](std::uint64_t value, const Head& other) { return value < other.fingerprint; });
  heads_.insert(place, std::move(head));
  if (heads_.size() > kHeads) heads_.pop_back();
}

void HeadSample::Add(const fixed::HeadJob& head) {
  const std::uint64_t fingerprint = Fingerprint(head.job);
  if (heads_.size() == kHeads && fingerprint >= heads_.back().fingerprint) return;
  Head kept{fingerprint, sim::WorkOf(head), nullptr};
  if (head.candidates != nullptr) {
    kept.candidates = std::make_shared<const fixed::Candidates>(*head.candidates);
    kept.work.candidates = kept.candidates.get();
  }
  Insert(std::move(kept));
}

HeadSample& HeadSample::operator+=(const HeadSample& other) {
  const std::vector<Head> added = other.heads_;  // `other` may be this
  for (const Head& head : added) Insert(head);
  return *this;
}

sim::Advice HeadSample::Advise(const Config& config) const {
  if (heads_.empty()) {
    throw Error(ErrorCode::kInvalidArgument,
                "advice: expected heads that were simulated, got none");
  }
  std::vector<sim::Work> work;
  for (const Head& head : heads_) work.push_back(head.work);
  return sim::Advise(config, work);
}

}  // namespace elsa::python
