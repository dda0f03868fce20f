#include "elsa/sim/head.h"

#include <bit>

namespace elsa::sim {

void Head::Load(std::int64_t query) {
  Slot& slot = slots_[query % slots_.size()];
  if (slot.query == query) return;
  slot.query = query;
  slot.total = 0;
  std::fill(slot.bits.begin(), slot.bits.end(), 0);
  std::fill(slot.kept.begin(), slot.kept.end(), 0);
  const fixed::Candidates& candidates = *work_.candidates;
  for (std::int64_t w = 0; w < candidates.words; ++w) {
    for (std::uint64_t bits = candidates.bits[query * candidates.words + w]; bits != 0;
         bits &= bits - 1) {
      const std::int64_t key = w * 64 + std::countr_zero(bits);
      const std::int64_t bank = fixed::BankOf(key, banks_);
      const std::int64_t row = fixed::RowOf(key, banks_);
      slot.bits[bank * words_ + row / 64] |= std::uint64_t{1} << (row % 64);
      ++slot.kept[bank];
      ++slot.total;
    }
  }
}

}  // namespace elsa::sim
