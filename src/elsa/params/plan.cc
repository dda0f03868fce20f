#include "elsa/params/plan.h"

#include <array>
#include <cmath>
#include <sstream>
#include <utility>

#include "elsa/base/error.h"

namespace elsa {
namespace {

// One table of names per enumeration; both directions read it.
template <typename T, std::size_t N>
using Names = std::array<std::pair<T, std::string_view>, N>;

constexpr Names<HashKind, 5> kHashKinds{{{HashKind::kKronecker3, "kronecker3"},
                                         {HashKind::kKronecker2, "kronecker2"},
                                         {HashKind::kDense, "dense"},
                                         {HashKind::kHadamard, "hadamard"},
                                         {HashKind::kGaussian, "gaussian"}}};
constexpr Names<Rule, 4> kRules{{{Rule::kPaper, "paper"},
                                 {Rule::kMass, "mass"},
                                 {Rule::kBudget, "budget"},
                                 {Rule::kGap, "gap"}}};
constexpr Names<Remainder, 2> kRemainders{{{Remainder::kNone, "none"}, {Remainder::kMean, "mean"}}};
constexpr Names<Centring, 3> kCentrings{
    {{Centring::kOff, "off"}, {Centring::kOn, "on"}, {Centring::kByLength, "by_length"}}};

template <typename T, std::size_t N>
std::string_view NameIn(const Names<T, N>& names, T value) {
  for (const auto& [known, name] : names) {
    if (known == value) return name;
  }
  return "unknown";
}

template <typename T, std::size_t N>
T ParseIn(const Names<T, N>& names, std::string_view what, std::string_view text) {
  std::ostringstream expected;
  for (const auto& [known, name] : names) {
    if (name == text) return known;
    expected << (expected.tellp() > 0 ? ", " : "") << name;
  }
  throw Error(ErrorCode::kInvalidArgument, std::string(what) + ": expected one of " +
                                               expected.str() + ", got '" + std::string(text) +
                                               "'");
}

// Throws unless `ok`; where and what: `field`, then the words of `expected` and the value found.
template <typename T>
void Require(bool ok, const std::string& field, std::string_view expected, const T& got) {
  if (ok) return;
  std::ostringstream message;
  message << field << ": expected " << expected << ", got " << got;
  throw Error(ErrorCode::kInvalidArgument, message.str());
}

std::string At(const std::string& name, std::size_t i) {
  return name + "[" + std::to_string(i) + "]";
}

std::int64_t PowerOfTwoAtLeast(std::int64_t d) {
  std::int64_t power = 1;
  while (power < d) power *= 2;
  return power;
}

void ValidateBatch(const HashSpec& hash, std::size_t index) {
  const HashBatch& batch = hash.batches[index];
  const std::string where = At("hash.batches", index);
  Require(batch.bits >= 1 && batch.bits <= hash.k, where + ".bits", "1 to k", batch.bits);
  std::size_t factors = 1;
  if (hash.kind == HashKind::kKronecker3 || hash.kind == HashKind::kHadamard) factors = 3;
  if (hash.kind == HashKind::kKronecker2) factors = 2;
  Require(batch.factors.size() == factors, where + ".factors",
          std::to_string(factors) + " matrices", batch.factors.size());
  std::int64_t rows = 1;
  std::int64_t cols = 1;
  for (std::size_t f = 0; f < factors; ++f) {
    const Matrix& matrix = batch.factors[f];
    const std::string name = At(where + ".factors", f);
    Require(matrix.rows >= 1 && matrix.rows <= kMaxHashBits, name + ".rows", "1 to 4096",
            matrix.rows);
    Require(matrix.cols >= 1 && matrix.cols <= kMaxHashDimension, name + ".cols", "1 to 1024",
            matrix.cols);
    const auto count = static_cast<std::size_t>(matrix.rows * matrix.cols);
    Require(matrix.values.size() == count, name + ".values", std::to_string(count) + " numbers",
            matrix.values.size());
    for (float value : matrix.values) {
      Require(std::isfinite(value), name + ".values", "finite numbers", value);
    }
    if (hash.kind == HashKind::kHadamard) {
      Require(matrix.rows == 1 && matrix.cols == PowerOfTwoAtLeast(hash.d), name,
              "1 x (power of two >= d)", matrix.cols);
      for (float value : matrix.values) {
        Require(value == 1.0f || value == -1.0f, name + ".values", "1 or -1", value);
      }
    }
    rows *= matrix.rows;
    cols *= matrix.cols;
  }
  if (hash.kind == HashKind::kHadamard) {
    rows = cols = batch.factors[0].cols;
  } else {
    Require(cols == hash.d, where + ".factors", "a product of columns equal to d", cols);
  }
  Require(rows >= batch.bits, where + ".factors", "a product of rows of at least bits", rows);
}

}  // namespace

std::string_view Name(HashKind kind) { return NameIn(kHashKinds, kind); }
std::string_view Name(Rule rule) { return NameIn(kRules, rule); }
std::string_view Name(Remainder value) { return NameIn(kRemainders, value); }
std::string_view Name(Centring value) { return NameIn(kCentrings, value); }
HashKind ParseHashKind(std::string_view name) { return ParseIn(kHashKinds, "hash kind", name); }
Rule ParseRule(std::string_view name) { return ParseIn(kRules, "rule", name); }
Remainder ParseRemainder(std::string_view name) { return ParseIn(kRemainders, "remainder", name); }
Centring ParseCentring(std::string_view name) { return ParseIn(kCentrings, "centring", name); }

std::string_view ProfileName(const Plan& plan) {
  const bool plain = plan.rule == Rule::kPaper && plan.centring == Centring::kOff &&
                     !plan.bias_in_test && plan.dense_below == 0 && plan.always_keep_first == 0 &&
                     plan.always_keep_recent == 0 && plan.theta_bias_rad.size() == 1 &&
                     plan.theta_bias_rad[0].size() == 1;
  if (!plain) return "custom";
  return plan.remainder == Remainder::kNone ? "paper" : "mean-row";
}

void ValidateHash(const HashSpec& hash) {
  Require(hash.d >= 1 && hash.d <= kMaxHashDimension, "hash.d", "1 to 1024", hash.d);
  Require(hash.k >= 1 && hash.k <= kMaxHashBits, "hash.k", "1 to 4096", hash.k);
  Require(!hash.batches.empty(), "hash.batches", "at least one", hash.batches.size());
  std::int64_t bits = 0;
  for (std::size_t i = 0; i < hash.batches.size(); ++i) {
    ValidateBatch(hash, i);
    bits += hash.batches[i].bits;
  }
  Require(bits == hash.k, "hash.batches", "bits that sum to k = " + std::to_string(hash.k), bits);
}

void ValidatePlan(const Plan& plan) {
  ValidateHash(plan.hash);
  const bool share = plan.rule != Rule::kPaper;
  Require(std::isfinite(plan.target) && plan.target >= 0, "target", "a number >= 0", plan.target);
  Require(!share || (plan.target > 0 && plan.target <= 1), "target", "a share in (0, 1]",
          plan.target);
  Require(plan.dense_below >= 0, "dense_below", "0 or more keys", plan.dense_below);
  Require(plan.always_keep_first >= 0, "always_keep.first", "0 or more keys",
          plan.always_keep_first);
  Require(plan.always_keep_recent >= 0, "always_keep.recent", "0 or more keys",
          plan.always_keep_recent);
  Require(plan.centring_min_keys >= 0, "centring.min_keys", "0 or more keys",
          plan.centring_min_keys);
  Require(plan.centring == Centring::kByLength || plan.centring_min_keys == 0, "centring.min_keys",
          "0 unless the mode is by_length", plan.centring_min_keys);

  Require(!plan.thresholds.empty(), "thresholds", "at least one layer", plan.thresholds.size());
  for (std::size_t layer = 0; layer < plan.thresholds.size(); ++layer) {
    const auto& row = plan.thresholds[layer];
    Require(!row.empty(), At("thresholds", layer), "at least one head", row.size());
    for (std::size_t head = 0; head < row.size(); ++head) {
      Require(std::isfinite(row[head]) || row[head] == kExactHead,
              At(At("thresholds", layer), head), "a finite number or null", row[head]);
    }
  }
  const bool shared_bias = plan.theta_bias_rad.size() == 1 && plan.theta_bias_rad[0].size() == 1;
  if (!shared_bias) {
    Require(plan.theta_bias_rad.size() == plan.thresholds.size(), "theta_bias_rad",
            "one number or one row per layer", plan.theta_bias_rad.size());
  }
  for (std::size_t layer = 0; layer < plan.theta_bias_rad.size(); ++layer) {
    const auto& row = plan.theta_bias_rad[layer];
    if (!shared_bias) {
      Require(row.size() == plan.thresholds[layer].size(), At("theta_bias_rad", layer),
              "one number per head", row.size());
    }
    for (std::size_t head = 0; head < row.size(); ++head) {
      // The angle estimate lies in [0, pi]; a correction beyond pi either way means nothing.
      Require(std::isfinite(row[head]) && std::abs(row[head]) <= 3.15,
              At(At("theta_bias_rad", layer), head), "radians within -pi to pi", row[head]);
    }
  }
  if (plan.calibration.empty()) return;
  Require(plan.calibration.size() == plan.thresholds.size(), "calibration", "one row per layer",
          plan.calibration.size());
  for (std::size_t layer = 0; layer < plan.calibration.size(); ++layer) {
    const auto& row = plan.calibration[layer];
    const std::string where = At("calibration", layer);
    Require(row.size() == plan.thresholds[layer].size(), where, "one entry per head", row.size());
    for (std::size_t head = 0; head < row.size(); ++head) {
      const HeadCalibration& entry = row[head];
      const std::string field = At(where, head);
      Require(entry.queries >= 0, field + ".queries", "0 or more", entry.queries);
      Require(std::isfinite(entry.threshold_stddev) && entry.threshold_stddev >= 0,
              field + ".threshold_stddev", "a number >= 0", entry.threshold_stddev);
      Require(entry.kept_fraction >= 0 && entry.kept_fraction <= 1, field + ".kept_fraction",
              "0 to 1", entry.kept_fraction);
      Require(entry.mass_kept >= 0 && entry.mass_kept <= 1, field + ".mass_kept", "0 to 1",
              entry.mass_kept);
    }
  }
}

}  // namespace elsa
