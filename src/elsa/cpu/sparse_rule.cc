#include "elsa/cpu/sparse_rule.h"

#include <algorithm>

namespace elsa::cpu {
namespace {

// Cycles of an exact pair on a Zen 3 (AVX2) are called 10, with d = d_v = 64 and k = 64; the rest
// is fitted to times of n = 64 to 2048 in the same run, one thread. Only ratios matter; on Zen 4
// and Intel candidates cost somewhat less of a pair of the exact mode.
struct Costs {
  double exact_pair = 10;        // a pair of the exact mode
  double filter_pair = 1.5;      // decision and list
  double candidate = 12;         // binary32: score, weight, value
  double candidate16 = 10;       // 16 bits, 8 too
  double row_share = 5;          // of those: what does not go with d
  double key_row = 260;          // hash, norm, cut-off, packing
  double query_row = 280;        // hash, packing, result
  double row32 = 60;             // of either: rows of binary32 are twice as long
  double mean_row = 90;          // the mean row of a query
  double causal_mean_row = 450;  // one more key in it for every query
  double masked_pair = 2;        // a mask or bias of its own: read by both
};
constexpr Costs kCosts;

// Selection must win by this to be chosen: what is estimated is right to about as much.
constexpr double kMargin = 0.95;

}  // namespace

RuleCase RuleCaseOf(const Inputs& inputs, const Plan& plan, const HeadItem& head, bool bits16) {
  RuleCase r;
  r.bits16 = bits16;
  r.queries = inputs.queries(head.batch);
  r.keys = inputs.keys(head.batch);
  if (inputs.causal && r.keys > 0) {
    const auto mean =
        static_cast<double>(inputs.causal_offset) + static_cast<double>(r.queries) / 2;
    r.visible = std::min(mean / static_cast<double>(r.keys), 1.0);
  }
  r.dense_below = plan.dense_below;
  r.d = inputs.query.shape[3];
  r.d_v = inputs.value.shape[3];
  r.hash_bits = plan.hash.k;
  r.group = inputs.heads() / inputs.kv_heads();
  r.mean_row = plan.remainder == Remainder::kMean;
  r.own_masks =
      (inputs.mask && inputs.mask.stride[2] != 0) || (inputs.bias && inputs.bias.stride[2] != 0);
  return r;
}

namespace {

// The share of the pairs whose query sees too few keys to be selected for: all of them, or under a
// causal limit those of the first queries, which see one key more each.
double DenseShare(const RuleCase& r) {
  if (r.keys < r.dense_below) return 1;
  if (r.visible >= 1) return 0;
  const double part = static_cast<double>(r.dense_below) / static_cast<double>(r.keys);
  return part * part;
}

}  // namespace

double RelativeCost(const RuleCase& r, double kept_fraction) {
  const auto queries = static_cast<double>(r.queries);
  const auto keys = static_cast<double>(r.keys);
  const double pairs = queries * keys * r.visible;
  if (pairs == 0) return 1;
  // What goes with the length of rows.
  const double length = static_cast<double>(r.d + r.d_v) / 128;
  const double masked = r.own_masks ? kCosts.masked_pair : 0;
  const double exact = pairs * (length * kCosts.exact_pair + masked);
  const double candidate =
      kCosts.row_share +
      length * ((r.bits16 ? kCosts.candidate16 : kCosts.candidate) - kCosts.row_share);
  const double filter = kCosts.filter_pair * static_cast<double>(r.hash_bits) / 64;
  const double dense = DenseShare(r);
  double pair = masked + filter + (dense + (1 - dense) * kept_fraction) * candidate;
  // A mean per query under masks of their own sums what every query sees.
  if (r.own_masks && r.mean_row) pair += length * kCosts.exact_pair;
  const double row32 = r.bits16 ? 0 : kCosts.row32;
  const double mean = !r.mean_row ? 0 : r.visible < 1 ? kCosts.causal_mean_row : kCosts.mean_row;
  const double rows = keys * (kCosts.key_row + row32) / static_cast<double>(r.group) +
                      queries * (kCosts.query_row + row32 + mean);
  return (pairs * pair + rows * length) / exact;
}

std::optional<Path> ExactBefore(const RuleCase& r, double expected_fraction) {
  if (RelativeCost(r, 0.02) > kMargin) return Path::kExactTooShort;
  if (RelativeCost(r, expected_fraction) > kMargin) return Path::kExactExpected;
  return std::nullopt;
}

std::optional<Path> ExactAfter(const RuleCase& r, double observed_fraction) {
  if (RelativeCost(r, observed_fraction) > kMargin) return Path::kExactObserved;
  return std::nullopt;
}

TileShape ShapeFor(bool bits16, double kept_fraction) {
  TileShape shape;
  shape.queries = 128;
  // Few candidates: large blocks, or a block has too few of them to pay for a visit. Many: blocks
  // that fit the L1 cache.
  const bool few = kept_fraction < 0.15;
  shape.super_block = few ? 8192 : 4096;
  shape.key_block = (few ? 4 : 2) * (bits16 ? 2 : 1);
  shape.value_block = shape.key_block;
  return shape;
}

}  // namespace elsa::cpu
