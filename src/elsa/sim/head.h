// One head as the banks see it: how many rows of keys each query has in a bank, and which of them
// selection keeps. Selection's outcome is given (elsa/fixed); only its time is simulated.
#ifndef ELSA_SIM_HEAD_H_
#define ELSA_SIM_HEAD_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "elsa/params/config.h"
#include "elsa/sim/accelerator.h"

namespace elsa::sim {

class Head {
 public:
  // `work` must outlive this.
  Head(const Config& config, const Work& work)
      : work_(work),
        banks_(config.banks),
        words_((fixed::RowsOf(0, work.keys, banks_) + 63) / 64),
        slots_(config.query_buffers) {
    for (Slot& slot : slots_) {
      slot.bits.resize(banks_ * words_);
      slot.kept.resize(banks_);
    }
  }

  const Work& work() const { return work_; }
  std::int64_t banks() const { return banks_; }
  std::int64_t queries() const { return work_.queries; }
  // Keys of the bank that the query sees.
  std::int64_t Rows(std::int64_t bank, std::int64_t query) const {
    return fixed::RowsOf(bank, work_.Visible(query), banks_);
  }
  std::int64_t Key(std::int64_t bank, std::int64_t row) const { return row * banks_ + bank; }

  // Sorts what a query keeps by bank; valid while at most query_buffers queries are in flight.
  void Load(std::int64_t query);
  bool Kept(std::int64_t query, std::int64_t bank, std::int64_t row) const {
    return (SlotOf(query).bits[bank * words_ + row / 64] >> (row % 64) & 1) != 0;
  }
  std::int64_t kept(std::int64_t query, std::int64_t bank) const {
    return SlotOf(query).kept[bank];
  }
  // The key that the query keeps for want of any other, or -1.
  std::int64_t Fallback(std::int64_t query) const {
    return SlotOf(query).total > 0 ? -1 : work_.candidates->fallback[query];
  }
  // Keys that the query sees and does not keep.
  std::int64_t Dropped(std::int64_t query) const {
    return work_.Visible(query) - std::max<std::int64_t>(1, SlotOf(query).total);
  }

 private:
  struct Slot {
    std::int64_t query = -1;
    std::vector<std::uint64_t> bits;  // [banks, words], a bit per row of the bank
    std::vector<std::int64_t> kept;   // [banks]
    std::int64_t total = 0;
  };
  const Slot& SlotOf(std::int64_t query) const { return slots_[query % slots_.size()]; }

  const Work& work_;
  std::int64_t banks_;
  std::int64_t words_;
  std::vector<Slot> slots_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_HEAD_H_
