#include "elsa/cpu/sparse_rule.h"

#include <algorithm>

namespace elsa::cpu {
namespace {

// Cycles, measured on a Zen 3 (AVX2) with d = d_v = 64 and k = 64; only their ratios matter, and
// those of other targets are alike (shared/cpu-kernels: Zen 4 and Intel switch at .4 to .5, too).
struct Costs {
  double exact_pair = 9.3;    // a pair of the exact mode
  double exact_pair16 = 9.3;  // the same in 16 bits
  double filter_pair = 0.45;  // decision and lists
  double candidate = 10.5;    // binary32: score, weight, value
  double candidate16 = 7.5;   // 16 bits
  double key_row = 450;       // hash, norm, cut-off, conversion of a key
  double query_row = 250;     // hash of a query, result
  double mean_row = 100;      // the mean row of a query
  double masked_pair = 4;     // a mask or bias of its own: looked at, and added
};
constexpr Costs kCosts;

// Selection must win by this to be chosen: what is estimated is right to about as much.
constexpr double kMargin = 0.97;

}  // namespace

RuleCase RuleCaseOf(const Inputs& inputs, const Plan& plan, const HeadItem& head, bool bits16,
                    bool exact_bits16) {
  RuleCase r;
  r.bits16 = bits16;
  r.exact_bits16 = exact_bits16;
  r.queries = inputs.queries(head.batch);
  r.keys = inputs.keys(head.batch);
  r.causal = inputs.causal && inputs.causal_offset < r.keys;
  r.d = inputs.query.shape[3];
  r.d_v = inputs.value.shape[3];
  r.hash_bits = plan.hash.k;
  r.group = inputs.heads() / inputs.kv_heads();
  r.mean_row = plan.remainder == Remainder::kMean;
  r.own_masks =
      (inputs.mask && inputs.mask.stride[2] != 0) || (inputs.bias && inputs.bias.stride[2] != 0);
  return r;
}

double RelativeCost(const RuleCase& r, double kept_fraction) {
  const auto queries = static_cast<double>(r.queries);
  const auto keys = static_cast<double>(r.keys);
  const double pairs = queries * keys * (r.causal ? 0.5 : 1);
  if (pairs == 0) return 1;
  // The cost of a row's arithmetic goes with its length.
  const double length = static_cast<double>(r.d + r.d_v) / 128;
  const double exact =
      pairs * (length * (r.exact_bits16 ? kCosts.exact_pair16 : kCosts.exact_pair) +
               (r.own_masks ? kCosts.masked_pair : 0));
  const double candidate =
      2.5 + length * ((r.bits16 ? kCosts.candidate16 : kCosts.candidate) - 2.5);
  const double filter = kCosts.filter_pair * static_cast<double>(r.hash_bits) / 64;
  double pair = filter + kept_fraction * candidate;
  if (r.own_masks) pair += kCosts.masked_pair;
  // A mean per query under masks of their own sums what every query sees.
  if (r.own_masks && r.mean_row) pair += length * kCosts.exact_pair;
  const double rows = keys * kCosts.key_row / static_cast<double>(r.group) +
                      queries * (kCosts.query_row + (r.mean_row ? kCosts.mean_row : 0));
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
