#include "elsa/fixed/host.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/fixed/norm_unit.h"
#include "elsa/fixed/rounding.h"
#include "elsa/params/hash_shape.h"
#include "elsa/reference/angle.h"

namespace elsa::fixed {
namespace {

constexpr double kLog2E = 1.44269504088896340736;

[[noreturn]] void Refuse(ErrorCode code, const std::string& where, const std::string& expected,
                         const std::string& got) {
  throw Error(code, where + ": expected " + expected + ", got " + got);
}

void RequireAtMost(const std::string& where, std::int64_t got, std::int64_t most,
                   const std::string& what) {
  if (got <= most) return;
  Refuse(ErrorCode::kMismatch, where, "at most " + std::to_string(most) + " " + what,
         std::to_string(got));
}

void RequireFits(const Config& config, const reference::HeadInputs& inputs, std::int64_t keys) {
  RequireAtMost("query", inputs.queries(), config.n, "rows as machine.n");
  RequireAtMost("key", keys, config.n, "rows as machine.n");
  RequireAtMost("query", inputs.query().shape[1], config.d, "components as machine.d");
  RequireAtMost("value", inputs.value().shape[1], config.d, "components as machine.d");
  if (!(inputs.scale() > 0)) {
    Refuse(ErrorCode::kUnsupported, "scale", "a positive number on the machine",
           std::to_string(inputs.scale()));
  }
}

void RequireSame(const std::string& where, std::int64_t machine, std::int64_t plan,
                 const std::string& hint) {
  if (machine == plan) return;
  Refuse(ErrorCode::kMismatch, "plan: " + where, std::to_string(machine) + " as the machine's",
         std::to_string(plan) + hint);
}

// The registers of the machine take factors of these shapes and no others.
void RequireMachineHash(const Config& config, const HashSpec& hash) {
  if (hash.kind != config.hash) {
    Refuse(ErrorCode::kMismatch, "plan: hash.kind",
           std::string(Name(config.hash)) + " as the machine's", std::string(Name(hash.kind)));
  }
  RequireSame("hash.d", config.d, hash.d, "; calibrate with --hash-d " + std::to_string(config.d));
  RequireSame("hash.k", config.k, hash.k, "");
  const std::vector<BatchShape> shapes = HashShapes(config.hash, config.d, config.k);
  RequireSame("hash.batches", static_cast<std::int64_t>(shapes.size()),
              static_cast<std::int64_t>(hash.batches.size()), "");
  for (std::size_t b = 0; b < shapes.size(); ++b) {
    const HashBatch& batch = hash.batches[b];
    BatchShape shape{batch.bits, {}};
    for (const Matrix& factor : batch.factors) shape.factors.push_back({factor.rows, factor.cols});
    if (shape == shapes[b]) continue;
    Refuse(ErrorCode::kMismatch, "plan: hash.batches[" + std::to_string(b) + "]",
           "factors of the machine's shapes", "others");
  }
}

void RequirePlanFits(const Config& config, const Plan& plan, bool causal) {
  const auto unsupported = [](const std::string& where, const std::string& expected,
                              std::string_view got) {
    Refuse(ErrorCode::kUnsupported, "plan: " + where, expected + " on the machine",
           std::string(got));
  };
  if (plan.rule == Rule::kGap) unsupported("rule", "a threshold", Name(plan.rule));
  if (plan.centring != Centring::kOff) unsupported("centring", "off", Name(plan.centring));
  if (plan.always_keep_first > 0 || plan.always_keep_recent > 0) {
    unsupported(
        "always_keep", "0 first and 0 recent keys",
        std::to_string(plan.always_keep_first) + " and " + std::to_string(plan.always_keep_recent));
  }
  if (plan.bias_in_test) unsupported("bias_in_test", "false", "true");
  if (plan.remainder == Remainder::kMean && causal) {
    unsupported("remainder", "none for causal attention", Name(plan.remainder));
  }
  if (plan.remainder == Remainder::kMean && config.remainder != Remainder::kMean) {
    Refuse(ErrorCode::kMismatch, "plan: remainder", "none as machine.remainder",
           std::string(Name(plan.remainder)));
  }
  RequireMachineHash(config, plan.hash);
}

// Which keys reach the machine, and whether query i sees all of them or only 0 to i.
struct Sight {
  std::vector<std::int32_t> keys;
  bool causal = false;
};

// Whether every query sees the first min(i + 1, all) of `keys`, or all of them if not `causal`.
bool Sees(reference::HeadInputs& inputs, const Sight& sight) {
  for (std::int64_t i = 0; i < inputs.queries(); ++i) {
    const std::vector<std::int32_t>& visible = inputs.VisibleKeys(i);
    const std::size_t all = sight.keys.size();
    const std::size_t count = sight.causal ? std::min(all, static_cast<std::size_t>(i) + 1) : all;
    if (visible.size() != count ||
        !std::equal(visible.begin(), visible.end(), sight.keys.begin())) {
      return false;
    }
  }
  return true;
}

Sight SightOf(reference::HeadInputs& inputs) {
  if (inputs.queries() == 0) return {};
  Sight sight{inputs.VisibleKeys(inputs.queries() - 1), false};
  if (inputs.uniform() || Sees(inputs, sight)) return sight;
  // Causal, by the flag or by a mask that says so; keys after the last query are seen by none.
  sight.causal = true;
  if (Sees(inputs, sight)) return sight;
  Refuse(ErrorCode::kUnsupported, "mask",
         "the same keys for every query, or the causal ones, on the machine", "another mask");
}

void RequireNoBias(reference::HeadInputs& inputs) {
  if (!inputs.has_bias()) return;
  for (std::int64_t i = 0; i < inputs.queries(); ++i) {
    for (const std::int32_t key : inputs.VisibleKeys(i)) {
      const float bias = inputs.Bias(i, key);
      if (bias == 0) continue;
      Refuse(ErrorCode::kUnsupported, "bias", "0, or -1e30 and below, on the machine",
             std::to_string(bias));
    }
    if (inputs.uniform()) return;
  }
}

// Packed rows; `rows` names them, empty: the first `count`.
std::vector<float> Gather(const char* name, const View<const float, 2>& matrix, std::int64_t count,
                          const std::vector<std::int32_t>* rows) {
  std::vector<float> values;
  values.reserve(count * matrix.shape[1]);
  for (std::int64_t r = 0; r < count; ++r) {
    const std::int64_t row = rows != nullptr ? (*rows)[r] : r;
    for (std::int64_t c = 0; c < matrix.shape[1]; ++c) {
      const float value = matrix(row, c);
      if (!std::isfinite(value)) {
        Refuse(
            ErrorCode::kInvalidArgument,
            std::string(name) + ": row " + std::to_string(row) + ", component " + std::to_string(c),
            "a finite value", std::to_string(value));
      }
      values.push_back(value);
    }
  }
  return values;
}

struct Rounded {
  std::vector<std::int16_t> values;
  std::int64_t shift = 0;
};

class QkvRounder {
 public:
  explicit QkvRounder(const Config& config)
      : config_(config), bits_(config.qkv_integer_bits + config.qkv_fraction_bits) {}

  Rounded Round(const std::vector<float>& values, MatrixCounts* counts) const {
    Rounded rounded;
    if (config_.scaling == HostScaling::kPowerOfTwo) rounded.shift = LargestShift(values);
    rounded.values.reserve(values.size());
    double largest = 0;
    for (const float value : values) {
      const double integer = Scale(value, rounded.shift);
      largest = std::max(largest, std::abs(integer));
      if (counts != nullptr && !InRange(integer)) ++counts->saturated;
      rounded.values.push_back(
          static_cast<std::int16_t>(std::clamp(integer, static_cast<double>(SmallestSigned(bits_)),
                                               static_cast<double>(LargestSigned(bits_)))));
    }
    if (counts != nullptr) {
      counts->values += static_cast<std::int64_t>(values.size());
      counts->largest_use = std::max(counts->largest_use, std::ldexp(largest, -Int(bits_)));
    }
    return rounded;
  }

 private:
  static int Int(std::int64_t value) { return static_cast<int>(value); }
  double Scale(double value, std::int64_t shift) const {
    return RoundReal(std::ldexp(value, Int(config_.qkv_fraction_bits + shift)),
                     config_.qkv_rounding);
  }
  bool InRange(double integer) const {
    return integer >= static_cast<double>(SmallestSigned(bits_)) &&
           integer <= static_cast<double>(LargestSigned(bits_));
  }

  // The largest shift with which no value saturates; 0 if all values are 0.
  std::int64_t LargestShift(const std::vector<float>& values) const {
    if (values.empty()) return 0;
    const auto [low, high] = std::minmax_element(values.begin(), values.end());
    const double magnitude = std::max<double>(std::abs(*low), std::abs(*high));
    if (magnitude == 0) return 0;
    int exponent = 0;
    std::frexp(magnitude, &exponent);  // magnitude < 2^exponent
    // One more than what certainly fits, for a lone -2^bits; one less if rounding up saturates.
    std::int64_t shift = config_.qkv_integer_bits - exponent + 1;
    while (!InRange(Scale(*low, shift)) || !InRange(Scale(*high, shift))) --shift;
    return shift;
  }

  const Config& config_;
  std::int64_t bits_;
};

// Without scaling a fixed one; with it, the largest that holds the largest norm.
std::int64_t NormShift(const Config& config, const Job& job) {
  if (config.scaling == HostScaling::kNone) return config.norm_fraction_bits;
  std::int64_t square = 0;
  for (std::int64_t key = 0; key < job.keys; ++key) {
    square = std::max(square,
                      NormUnit::Square({&job.key[key * job.d], static_cast<std::size_t>(job.d)}));
  }
  if (square == 0) return config.norm_fraction_bits;
  const NormUnit unit(config);
  std::int64_t shift =
      config.qkv_fraction_bits + config.norm_bits;  // a norm of 1 / 2^fraction_bits
  for (bool saturated = true; saturated; --shift) unit.Norm(square, shift, &saturated);
  return shift + 1;
}

// Rows of d components written where the machine's hash wants them, zeros elsewhere. Dot products
// and norms stay the same.
std::vector<std::int16_t> Spread(const std::vector<std::int16_t>& rows,
                                 const std::vector<std::int64_t>& positions, std::int64_t width) {
  const std::size_t d = positions.size();
  std::vector<std::int16_t> spread(rows.size() / d * width, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    spread[i / d * width + positions[i % d]] = rows[i];
  }
  return spread;
}

HashRegisters LoadHash(const Config& config, const HashSpec& hash) {
  HashRegisters registers;
  for (const HashBatch& batch : hash.batches) {
    std::vector<HashFactor> factors;
    for (const Matrix& matrix : batch.factors) {
      HashFactor factor{matrix.rows, matrix.cols, {}};
      for (const double value : matrix.values) {
        const double integer = RoundReal(
            std::ldexp(value, static_cast<int>(config.hash_fraction_bits)), Rounding::kNearestEven);
        factor.values.push_back(static_cast<std::int32_t>(
            Saturate(static_cast<std::int64_t>(integer), config.hash_fraction_bits)));
      }
      factors.push_back(std::move(factor));
    }
    registers.batches.push_back(std::move(factors));
    registers.bits.push_back(batch.bits);
  }
  return registers;
}

// A fraction as sign and `bits` bits, to nearest (even), saturated: 1 becomes 1 - 2^-bits.
std::int64_t RoundFraction(double value, std::int64_t bits) {
  const double integer =
      RoundReal(std::ldexp(value, static_cast<int>(bits)), Rounding::kNearestEven);
  return static_cast<std::int64_t>(std::clamp(integer, static_cast<double>(SmallestSigned(bits)),
                                              static_cast<double>(LargestSigned(bits))));
}

void LoadSelection(const Config& config, const Plan& plan, std::int64_t layer,
                   std::int64_t plan_head, Job& job) {
  job.exact_below = job.causal ? plan.dense_below : 0;
  job.threshold = RoundFraction(plan.thresholds[layer][plan_head], config.threshold_fraction_bits);
  const double theta_bias = plan.ThetaBias(layer, plan_head);
  for (const float cosine : reference::CosineTable(config.k, theta_bias)) {
    job.cosines.push_back(
        static_cast<std::int32_t>(RoundFraction(cosine, config.cosine_fraction_bits)));
  }
  job.hash = LoadHash(config, plan.hash);
  if (job.d < config.d) {
    const std::vector<std::int64_t> positions = InputPositions(plan.hash, job.d);
    job.query = Spread(job.query, positions, config.d);
    job.key = Spread(job.key, positions, config.d);
    job.d = config.d;
  }
  job.mean_row = plan.remainder == Remainder::kMean && job.keys > 0;
  if (job.mean_row) {
    // Our choice: 1/n as 1.8 bits, as the measured 8 bits.
    constexpr std::int64_t kMeanConstantBits = 9;
    job.mean_constant = RoundConstant(1 / static_cast<double>(job.keys), kMeanConstantBits);
  }
}

}  // namespace

MatrixCounts& MatrixCounts::operator+=(const MatrixCounts& other) {
  values += other.values;
  saturated += other.saturated;
  largest_use = std::max(largest_use, other.largest_use);
  return *this;
}

HostCounts& HostCounts::operator+=(const HostCounts& other) {
  query += other.query;
  key += other.key;
  value += other.value;
  return *this;
}

ScoreConstant RoundConstant(double constant, std::int64_t bits) {
  int exponent = 0;
  const double significand = std::frexp(constant, &exponent);  // in [1/2, 1)
  auto mantissa = static_cast<std::int64_t>(
      RoundReal(std::ldexp(significand, static_cast<int>(bits)), Rounding::kNearestEven));
  if (mantissa == std::int64_t{1} << bits) {
    mantissa /= 2;
    ++exponent;
  }
  return {mantissa, exponent - bits};
}

Job MakeJob(const Config& config, reference::HeadInputs& inputs, const Plan* plan,
            std::int64_t layer, std::int64_t plan_head, HostCounts* counts) {
  const Sight sight = SightOf(inputs);
  RequireNoBias(inputs);
  Job job;
  job.queries = inputs.queries();
  job.keys = static_cast<std::int64_t>(sight.keys.size());
  job.d = inputs.query().shape[1];
  job.d_v = inputs.value().shape[1];
  job.causal = sight.causal;
  RequireFits(config, inputs, job.keys);
  const bool exact_head = plan == nullptr || plan->IsExactHead(layer, plan_head);
  if (!exact_head) RequirePlanFits(config, *plan, job.causal);
  job.exact = exact_head || job.keys < plan->dense_below;

  const QkvRounder rounder(config);
  Rounded rows = rounder.Round(Gather("query", inputs.query(), job.queries, nullptr),
                               counts != nullptr ? &counts->query : nullptr);
  job.query = std::move(rows.values);
  job.query_shift = rows.shift;
  rows = rounder.Round(Gather("key", inputs.key(), job.keys, &sight.keys),
                       counts != nullptr ? &counts->key : nullptr);
  job.key = std::move(rows.values);
  job.key_shift = rows.shift;
  rows = rounder.Round(Gather("value", inputs.value(), job.keys, &sight.keys),
                       counts != nullptr ? &counts->value : nullptr);
  job.value = std::move(rows.values);
  job.value_shift = rows.shift;

  const std::int64_t dot_shift = 2 * config.qkv_fraction_bits + job.query_shift + job.key_shift;
  job.score_constant = RoundConstant(inputs.scale() * kLog2E, config.score_constant_bits);
  job.score_constant.exponent -= dot_shift;
  job.norm_shift = NormShift(config, job);
  if (!job.exact) LoadSelection(config, *plan, layer, plan_head, job);
  return job;
}

void StoreOutput(const Config& config, const Job& job, std::span<const std::int16_t> rows,
                 const View<float, 2>& out) {
  const int shift = static_cast<int>(config.qkv_fraction_bits + job.value_shift);
  for (std::int64_t i = 0; i < job.queries; ++i) {
    for (std::int64_t c = 0; c < job.d_v; ++c) {
      out(i, c) =
          static_cast<float>(std::ldexp(static_cast<double>(rows[i * job.d_v + c]), -shift));
    }
  }
}

}  // namespace elsa::fixed
