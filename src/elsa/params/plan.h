// The plan: everything ELSA learned about one model before it runs. It holds the hash, the angle
// correction and one threshold per (layer, head), with the calibration's own statistics.
// Source: Sec. III-B to III-E. Files are read and written by elsa/io/plan_file.h.
#ifndef ELSA_PARAMS_PLAN_H_
#define ELSA_PARAMS_PLAN_H_

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace elsa {

// Families of sign-projection hashes. Source: Sec. III-B and III-C.
enum class HashKind {
  kKronecker3,  // A1 (x) A2 (x) A3, three orthogonal factors: 3 d^(4/3) multiplications
  kKronecker2,  // A1 (x) A2: 2 d^(3/2)
  kDense,       // one orthogonal matrix by modified Gram-Schmidt: d^2
  kHadamard,    // randomised Hadamard: sign flips and butterflies, no multiplication. Our choice
  kGaussian,    // independent normal rows, not orthogonalised: the plain sign random projection
};

// A row-major matrix of a hash.
struct Matrix {
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::vector<float> values;  // rows * cols
  bool operator==(const Matrix&) const = default;
};

// One batch of up to d hash bits (k > d needs several batches, Sec. IV-E "Choice of Hash Length
// k"). kKronecker2/3: 2/3 factors, A = factors[0] (x) factors[1] (x) ...; kDense, kGaussian: one
// matrix. kHadamard: three 1 x D rows of +-1, D the power of two >= d. `bits` rows of the product
// are used, the first ones.
struct HashBatch {
  std::int64_t bits = 0;
  std::vector<Matrix> factors;
  bool operator==(const HashBatch&) const = default;
};

// A hash longer or wider than this is a damaged plan, not a wish. Our choice: 16 times the paper's
// d, 64 times its k.
inline constexpr std::int64_t kMaxHashDimension = 1024;
inline constexpr std::int64_t kMaxHashBits = 4096;
// The paper's k, whatever d: one machine word. Our choice where d differs from 64: the paper's k =
// d keeps about 10 points more keys at d = 32.
inline constexpr std::int64_t kDefaultHashBits = 64;

// A hash of d components into k sign bits, with its values, so that a plan needs no generator.
struct HashSpec {
  HashKind kind = HashKind::kKronecker3;
  std::int64_t d = 0;
  std::int64_t k = 0;
  std::uint64_t seed = 0;
  std::vector<HashBatch> batches;  // their bits sum to k
  bool operator==(const HashSpec&) const = default;
};

// How thresholds were learned, and what they are compared with (elsa/reference/selection.h).
enum class Rule {
  kPaper,   // Sec. III-E: mean over queries of the smallest relevant normalised score; parameter p
  kMass,    // the paper's test, threshold set so that a share of the softmax mass is kept
  kBudget,  // the paper's test, threshold set so that a share of the (query, key) pairs is kept
  kGap,     // keep what lies within a learned distance of the query's best estimate; mass target
};

// What stands for the dropped keys of a query. kMean: the mean row, docs/reference/mean-row.md.
enum class Remainder { kNone, kMean };

// Whether keys are hashed and measured relative to the mean key of the sequence.
enum class Centring { kOff, kOn, kByLength };

// "Run this head exact": the value of a threshold that bypasses selection (null in the file).
inline constexpr double kExactHead = -std::numeric_limits<double>::infinity();

// What the calibration saw of one head, and what it expects of the learned threshold there.
struct HeadCalibration {
  std::int64_t queries = 0;     // queries that contributed to the threshold
  double threshold_stddev = 0;  // of the per-query values averaged by Rule::kPaper, else 0
  double kept_fraction = 1;     // expected share of the pairs kept, from the calibration data
  double mass_kept = 1;         // expected softmax mass kept
  bool operator==(const HeadCalibration&) const = default;
};

struct Plan {
  static constexpr int kFormatVersion = 1;

  std::string model;  // name of the model it was learned on; "" if unknown
  Rule rule = Rule::kPaper;
  // p for kPaper (0 = exact), mass for kMass and kGap, share of the pairs for kBudget.
  double target = 0;
  Remainder remainder = Remainder::kNone;
  Centring centring = Centring::kOff;
  std::int64_t centring_min_keys = 0;  // kByLength: centre queries that see at least this many keys
  bool bias_in_test = false;     // add the additive score bias to the estimate before the test
  std::int64_t dense_below = 0;  // queries that see fewer keys than this run exact
  // Of the keys that a query sees, the first and the last so many are kept whatever the test says:
  // attention sinks and the recent window.
  std::int64_t always_keep_first = 0;
  std::int64_t always_keep_recent = 0;
  HashSpec hash;
  // Angle correction in radians, [layer][head], or a single value [[x]] for all.
  std::vector<std::vector<double>> theta_bias_rad;
  std::vector<std::vector<double>> thresholds;            // [layer][head]
  std::vector<std::vector<HeadCalibration>> calibration;  // [layer][head], or empty

  std::int64_t layers() const { return static_cast<std::int64_t>(thresholds.size()); }
  double ThetaBias(std::int64_t layer, std::int64_t head) const {
    return theta_bias_rad.size() == 1 && theta_bias_rad[0].size() == 1
               ? theta_bias_rad[0][0]
               : theta_bias_rad[layer][head];
  }
  // Whether every query of the head keeps all its keys, without selection.
  bool IsExactHead(std::int64_t layer, std::int64_t head) const {
    return thresholds[layer][head] == kExactHead || (rule == Rule::kPaper && target == 0);
  }
  bool operator==(const Plan&) const = default;
};

// "paper" if every lever beyond the paper is off, "mean-row" if only the mean row is on, else
// "custom". The name is derived, so that it cannot disagree with the options.
std::string_view ProfileName(const Plan& plan);

std::string_view Name(HashKind kind);    // "kronecker3" "kronecker2" "dense" "hadamard" "gaussian"
std::string_view Name(Rule rule);        // "paper" "mass" "budget" "gap"
std::string_view Name(Remainder value);  // "none" "mean"
std::string_view Name(Centring value);   // "off" "on" "by_length"
// The reverse. Errors: kInvalidArgument naming the valid words.
HashKind ParseHashKind(std::string_view name);
Rule ParseRule(std::string_view name);
Remainder ParseRemainder(std::string_view name);
Centring ParseCentring(std::string_view name);

// Checks that a plan is complete and consistent: shapes, counts, finiteness, ranges.
// Errors: kInvalidArgument naming the field, expected, got.
void ValidateHash(const HashSpec& hash);
void ValidatePlan(const Plan& plan);

}  // namespace elsa

#endif  // ELSA_PARAMS_PLAN_H_
