// FormatPlan of elsa/io/plan_file.h: a plan as JSON text. Written out by hand so that rows of
// numbers stay on one line and every number has its shortest exact form.
#include <charconv>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "elsa/io/plan_file.h"
#include "elsa/io/plan_keys.h"
#include "elsa/io/strict_json.h"

namespace elsa::io {
namespace {

template <typename T>
std::string Shortest(T value) {
  char buffer[32];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, value);
  return {buffer, end};
}

// The shortest text that reads back as this double. Precondition: finite.
std::string Number(double value) {
  std::string text = Shortest(value);
  // JSON readers take "-0" for the integer 0.
  return text == "-0" ? "-0.0" : text;
}

// The shortest text that reads back, as a double rounded to float, as this float.
std::string Number(float value) {
  const std::string text = Shortest(value);
  double read = 0;
  std::from_chars(text.data(), text.data() + text.size(), read);
  // Trap: rounding twice, to double and then to float, could miss the float in rare cases.
  if (static_cast<float>(read) != value) return Number(static_cast<double>(value));
  return text == "-0" ? "-0.0" : text;
}

std::string Threshold(double value) { return value == kExactHead ? "null" : Number(value); }

template <typename Row, typename Format>
std::string Joined(const Row& row, const Format& format) {
  std::string text;
  for (const auto& value : row) {
    if (!text.empty()) text += ", ";
    text += format(value);
  }
  return text;
}

// "[" one row per line "]", the closing bracket at `indent`.
template <typename T, typename Format>
std::string Rows(const std::vector<std::vector<T>>& rows, const std::string& indent,
                 const Format& format) {
  std::string text = "[";
  for (std::size_t i = 0; i < rows.size(); ++i) {
    text += (i > 0 ? ",\n  " : "\n  ") + indent + '[' + Joined(rows[i], format) + ']';
  }
  return text + '\n' + indent + ']';
}

std::string FormatMatrix(const Matrix& matrix, const std::string& indent) {
  std::string text = indent + "{\n";
  text += indent + "  \"rows\": " + std::to_string(matrix.rows) + ",\n";
  text += indent + "  \"cols\": " + std::to_string(matrix.cols) + ",\n";
  text += indent + "  \"values\": [";
  const auto cols = static_cast<std::size_t>(matrix.cols);
  for (std::size_t begin = 0; begin < matrix.values.size(); begin += cols) {
    const std::span<const float> row = std::span(matrix.values).subspan(begin, cols);
    text += (begin > 0 ? ",\n    " : "\n    ") + indent;
    text += Joined(row, [](float value) { return Number(value); });
  }
  return text + '\n' + indent + "  ]\n" + indent + '}';
}

std::string FormatBatch(const HashBatch& batch) {
  std::string text = "      {\n        \"bits\": " + std::to_string(batch.bits) + ",\n";
  text += "        \"factors\": [";
  for (std::size_t f = 0; f < batch.factors.size(); ++f) {
    text += (f > 0 ? ",\n" : "\n") + FormatMatrix(batch.factors[f], "          ");
  }
  return text + "\n        ]\n      }";
}

std::string FormatHash(const HashSpec& hash) {
  std::string text = "{\n    \"kind\": \"" + std::string(Name(hash.kind)) + "\",\n";
  text += "    \"d\": " + std::to_string(hash.d) + ",\n";
  text += "    \"k\": " + std::to_string(hash.k) + ",\n";
  text += "    \"seed\": \"" + std::to_string(hash.seed) + "\",\n";
  text += "    \"batches\": [";
  for (std::size_t b = 0; b < hash.batches.size(); ++b) {
    text += (b > 0 ? ",\n" : "\n") + FormatBatch(hash.batches[b]);
  }
  return text + "\n    ]\n  }";
}

std::string FormatCalibration(const HeadCalibration& head) {
  return "\n      {\"queries\": " + std::to_string(head.queries) +
         ", \"threshold_stddev\": " + Number(head.threshold_stddev) +
         ", \"kept_fraction\": " + Number(head.kept_fraction) +
         ", \"mass_kept\": " + Number(head.mass_kept) + '}';
}

}  // namespace

std::string FormatPlan(const Plan& plan) {
  ValidatePlan(plan);
  const auto number = [](double value) { return Number(value); };
  std::string text = "{\n  \"elsa_plan\": " + std::to_string(Plan::kFormatVersion);
  const auto add = [&text](std::string_view key, std::string_view value) {
    text.append(",\n  \"").append(key).append("\": ").append(value);
  };
  const auto quoted = [](std::string_view word) { return '"' + std::string(word) + '"'; };
  add("profile", quoted(ProfileName(plan)));
  add("model", JsonString(plan.model, "plan: model"));
  add("rule", quoted(Name(plan.rule)));
  add("target", "{" + quoted(TargetKey(plan.rule)) + ": " + Number(plan.target) + '}');
  add("remainder", quoted(Name(plan.remainder)));
  add("centring", "{\"mode\": " + quoted(Name(plan.centring)) +
                      ", \"min_keys\": " + std::to_string(plan.centring_min_keys) + '}');
  add("bias_in_test", plan.bias_in_test ? "true" : "false");
  add("dense_below", std::to_string(plan.dense_below));
  // Only if set, so that plans without it keep their bytes.
  if (plan.always_keep_first != 0 || plan.always_keep_recent != 0) {
    add("always_keep", "{\"first\": " + std::to_string(plan.always_keep_first) +
                           ", \"recent\": " + std::to_string(plan.always_keep_recent) + '}');
  }
  add("hash", FormatHash(plan.hash));
  const bool one_theta = plan.theta_bias_rad.size() == 1 && plan.theta_bias_rad[0].size() == 1;
  add("theta_bias_rad",
      one_theta ? Number(plan.theta_bias_rad[0][0]) : Rows(plan.theta_bias_rad, "  ", number));
  add("thresholds", Rows(plan.thresholds, "  ", Threshold));
  if (!plan.calibration.empty())
    add("calibration", Rows(plan.calibration, "  ", FormatCalibration));
  return text + "\n}\n";
}

}  // namespace elsa::io
