// How a head is computed: by selection or exactly, and in which tiles. Costs are constants,
// measured per kind of target (docs/reference/cpu.md), so that the same call takes the same path
// every day.
#ifndef ELSA_CPU_SPARSE_RULE_H_
#define ELSA_CPU_SPARSE_RULE_H_

#include <cstdint>
#include <optional>

#include "elsa/cpu/attention.h"
#include "elsa/cpu/sparse_tile.h"
#include "elsa/params/plan.h"

namespace elsa::cpu {

// What the choice depends on, of one (batch, head).
struct RuleCase {
  bool bits16 = false;  // selection computes on 16 bits
  std::int64_t queries = 0;
  std::int64_t keys = 0;
  double visible = 1;            // share of the pairs that length and causal limit leave
  std::int64_t dense_below = 0;  // as in the plan
  std::int64_t d = 0;
  std::int64_t d_v = 0;
  std::int64_t hash_bits = 0;
  std::int64_t group = 1;  // query heads that share what is prepared of the keys
  bool mean_row = false;
  bool own_masks = false;  // every query has a mask or bias of its own
};
RuleCase RuleCaseOf(const Inputs& inputs, const Plan& plan, const HeadItem& head, bool bits16);

// The estimated time of selection over that of the exact mode, if this share of the visible pairs
// is kept.
double RelativeCost(const RuleCase& rule_case, double kept_fraction);

// Why a head is to be computed exactly; nothing if selection pays. Before anything is prepared:
// with the share that the calibration expects, or 0 without one. After: with the share that a
// sample of this call's queries keeps.
std::optional<Path> ExactBefore(const RuleCase& rule_case, double expected_fraction);
std::optional<Path> ExactAfter(const RuleCase& rule_case, double observed_fraction);

// How to cut the work of a head that keeps about this share of its keys.
TileShape ShapeFor(bool bits16, double kept_fraction);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SPARSE_RULE_H_
