#include "elsa/io/plan_file.h"

#include <charconv>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "elsa/io/atomic_file.h"
#include "elsa/io/mapped_file.h"
#include "elsa/io/message.h"
#include "elsa/io/plan_keys.h"
#include "elsa/io/strict_json.h"

namespace elsa::io {
namespace {

// plan{hash{batches[batch{factors[factor{values[ is the deepest path.
constexpr int kPlanDepth = 7;

float ReadFloat(const JsonField& field) {
  const double value = field.Number();
  // The largest float in its shortest form is a double above it; what lies below the midpoint to
  // the next power of two still rounds to it.
  if (std::abs(value) >= 0x1.ffffffp127) field.Fail("a number that fits a float");
  return static_cast<float>(value);
}

// A number written as a string of decimal digits, so that no JSON reader rounds it.
std::uint64_t ReadSeed(const JsonField& field) {
  const std::string& text = field.String();
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seed);
  if (error != std::errc() || end != text.data() + text.size() || text != std::to_string(seed)) {
    field.Fail("a string of decimal digits below 2^64");
  }
  return seed;
}

// The rows of an array of arrays, each entry read by `read`.
template <typename T, typename Read>
std::vector<std::vector<T>> ReadRows(const JsonField& field, const Read& read) {
  std::vector<std::vector<T>> rows(field.Size());
  for (std::size_t layer = 0; layer < rows.size(); ++layer) {
    const JsonField row = field[layer];
    const std::size_t heads = row.Size();
    rows[layer].reserve(heads);
    for (std::size_t head = 0; head < heads; ++head) rows[layer].push_back(read(row[head]));
  }
  return rows;
}

Matrix ReadMatrix(const JsonField& field) {
  field.RequireKeys({"rows", "cols", "values"});
  Matrix matrix;
  matrix.rows = field.At("rows").Integer();
  matrix.cols = field.At("cols").Integer();
  const JsonField values = field.At("values");
  const std::size_t count = values.Size();
  matrix.values.reserve(count);
  for (std::size_t i = 0; i < count; ++i) matrix.values.push_back(ReadFloat(values[i]));
  return matrix;
}

HashSpec ReadHash(const JsonField& field) {
  field.RequireKeys({"kind", "d", "k", "seed", "batches"});
  HashSpec hash;
  hash.kind = ParseHashKind(field.At("kind").String());
  hash.d = field.At("d").Integer();
  hash.k = field.At("k").Integer();
  hash.seed = ReadSeed(field.At("seed"));
  const JsonField batches = field.At("batches");
  hash.batches.resize(batches.Size());
  for (std::size_t b = 0; b < hash.batches.size(); ++b) {
    const JsonField batch = batches[b];
    batch.RequireKeys({"bits", "factors"});
    hash.batches[b].bits = batch.At("bits").Integer();
    const JsonField factors = batch.At("factors");
    const std::size_t count = factors.Size();
    for (std::size_t f = 0; f < count; ++f) {
      hash.batches[b].factors.push_back(ReadMatrix(factors[f]));
    }
  }
  return hash;
}

HeadCalibration ReadCalibration(const JsonField& field) {
  field.RequireKeys({"queries", "threshold_stddev", "kept_fraction", "mass_kept"});
  HeadCalibration head;
  head.queries = field.At("queries").Integer();
  head.threshold_stddev = field.At("threshold_stddev").Number();
  head.kept_fraction = field.At("kept_fraction").Number();
  head.mass_kept = field.At("mass_kept").Number();
  return head;
}

Plan ReadFields(const JsonField& root) {
  root.RequireKeys({"elsa_plan", "profile", "model", "rule", "target", "remainder", "centring",
                    "bias_in_test", "dense_below", "hash", "theta_bias_rad", "thresholds"},
                   {"always_keep", "calibration"});
  Plan plan;
  plan.model = root.At("model").String();
  plan.rule = ParseRule(root.At("rule").String());
  const JsonField target = root.At("target");
  target.RequireKeys({TargetKey(plan.rule)});
  plan.target = target.At(TargetKey(plan.rule)).Number();
  plan.remainder = ParseRemainder(root.At("remainder").String());
  const JsonField centring = root.At("centring");
  centring.RequireKeys({"mode", "min_keys"});
  plan.centring = ParseCentring(centring.At("mode").String());
  plan.centring_min_keys = centring.At("min_keys").Integer();
  plan.bias_in_test = root.At("bias_in_test").Bool();
  plan.dense_below = root.At("dense_below").Integer();
  if (root.Has("always_keep")) {
    const JsonField always = root.At("always_keep");
    always.RequireKeys({"first", "recent"});
    plan.always_keep_first = always.At("first").Integer();
    plan.always_keep_recent = always.At("recent").Integer();
  }
  plan.hash = ReadHash(root.At("hash"));
  const auto read_number = [](const JsonField& field) { return field.Number(); };
  const JsonField theta = root.At("theta_bias_rad");
  if (theta.IsArray()) {
    plan.theta_bias_rad = ReadRows<double>(theta, read_number);
  } else {
    plan.theta_bias_rad = {{theta.Number()}};
  }
  plan.thresholds = ReadRows<double>(root.At("thresholds"), [](const JsonField& field) {
    return field.IsNull() ? kExactHead : field.Number();
  });
  if (root.Has("calibration")) {
    plan.calibration = ReadRows<HeadCalibration>(root.At("calibration"), ReadCalibration);
  }
  return plan;
}

}  // namespace

Plan ParsePlan(std::string_view json, const std::string& name) {
  const nlohmann::json document = ParseStrictJson(json, kPlanDepth, name);
  const JsonField root(document, name);
  // The version first: another version may have other keys.
  if (!root.Has("elsa_plan")) root.Fail("a plan with the key \"elsa_plan\"", "none");
  const std::int64_t version = root.At("elsa_plan").Integer();
  if (version != Plan::kFormatVersion) {
    Fail(ErrorCode::kUnsupported, name + ": elsa_plan: format version",
         std::to_string(Plan::kFormatVersion), std::to_string(version));
  }
  Plan plan;
  try {
    plan = ReadFields(root);
    ValidatePlan(plan);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::kInvalidArgument) throw;
    // From params, which names the field but not the file, and quotes words of the file as they
    // are.
    constexpr std::size_t kLongest = 300;
    throw Error(ErrorCode::kInvalidFormat, name + ": " + Printable(error.what(), kLongest));
  }
  const JsonField profile = root.At("profile");
  if (profile.String() != ProfileName(plan)) {
    profile.Fail(Quoted(ProfileName(plan)) + ", which follows from the options");
  }
  return plan;
}

Plan ReadPlan(const std::string& path) {
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  return ParsePlan({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, Printable(path));
}

void WritePlan(const std::string& path, const Plan& plan) {
  WriteFileAtomically(path, FormatPlan(plan));
}

}  // namespace elsa::io
