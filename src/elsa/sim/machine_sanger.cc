#include "elsa/sim/machine_sanger.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/base/portable_math.h"
#include "elsa/params/derived.h"
#include "elsa/sim/machine_scores.h"

namespace elsa::sim {
namespace {

// A matrix of unit rows in few bits: row i is about norm[i] * step * values.
struct Quantised {
  std::vector<std::int32_t> values;  // [rows, d], within +-(2^(bits - 1) - 1)
  std::vector<double> norms;
  double step = 0;
};

Quantised Quantise(const std::vector<std::int16_t>& matrix, std::int64_t rows, std::int64_t d,
                   std::int64_t bits) {
  Quantised result;
  result.values.resize(rows * d);
  std::vector<double> unit(rows * d, 0.0);
  double largest = 0;
  for (std::int64_t r = 0; r < rows; ++r) {
    std::int64_t square = 0;
    for (std::int64_t c = 0; c < d; ++c) {
      const std::int64_t value = matrix[r * d + c];
      square += value * value;
    }
    const double norm = std::sqrt(static_cast<double>(square));
    result.norms.push_back(norm);
    if (norm == 0) continue;
    for (std::int64_t c = 0; c < d; ++c) {
      unit[r * d + c] = static_cast<double>(matrix[r * d + c]) / norm;
      largest = std::max(largest, std::abs(unit[r * d + c]));
    }
  }
  const auto steps = static_cast<double>((std::int64_t{1} << (bits - 1)) - 1);
  result.step = largest / steps;
  if (largest == 0) return result;
  for (std::size_t i = 0; i < unit.size(); ++i) {
    result.values[i] = static_cast<std::int32_t>(std::nearbyint(unit[i] / result.step));
  }
  return result;
}

void Check(const SangerOptions& options) {
  const auto fail = [](const char* what, const std::string& range, double value) {
    throw Error(ErrorCode::kInvalidArgument, "sanger: " + std::string(what) + ": expected " +
                                                 range + ", got " + std::to_string(value));
  };
  if (options.prediction_bits < 2 || options.prediction_bits > 16) {
    fail("prediction_bits", "2 to 16", static_cast<double>(options.prediction_bits));
  }
  if (!(options.weight_threshold >= 0 && options.weight_threshold < 1)) {
    fail("weight_threshold", "0 to 1", options.weight_threshold);
  }
  if (options.columns < 1) fail("columns", "1 or more", static_cast<double>(options.columns));
  if (options.elements_per_row < 1) {
    fail("elements_per_row", "1 or more", static_cast<double>(options.elements_per_row));
  }
}

}  // namespace

std::int64_t ProductsPerMultiplier(std::int64_t qkv_bits, std::int64_t bits) {
  const std::int64_t parts = std::max<std::int64_t>(1, qkv_bits / bits);
  return parts * parts;
}

std::int64_t PackedSegments(const fixed::Candidates& mask, const fixed::Job& job,
                            std::int64_t columns, std::int64_t elements_per_row) {
  std::int64_t segments = 0;
  for (std::int64_t i = 0; i < job.queries; ++i) {
    for (std::int64_t group = 0; group < job.keys; group += columns) {
      const std::int64_t end = std::min(job.keys, group + columns);
      std::int64_t kept = 0;
      for (std::int64_t j = group; j < end; ++j) kept += Uses(mask, i, j) ? 1 : 0;
      segments += CeilDiv(kept, elements_per_row);
    }
  }
  return segments;
}

fixed::Candidates PredictMask(const fixed::Job& job, const SangerOptions& options) {
  const Quantised query = Quantise(job.query, job.queries, job.d, options.prediction_bits);
  const Quantised key = Quantise(job.key, job.keys, job.d, options.prediction_bits);
  const double scale = ScoreScale(job) * query.step * key.step;
  fixed::Candidates mask = NoCandidates(job.queries, job.keys);
  std::vector<double> weights;
  for (std::int64_t i = 0; i < job.queries; ++i) {
    weights.resize(job.Visible(i));
    for (std::size_t j = 0; j < weights.size(); ++j) {
      std::int64_t dot = 0;
      for (std::int64_t c = 0; c < job.d; ++c) {
        dot += query.values[i * job.d + c] * key.values[j * job.d + c];
      }
      weights[j] = scale * query.norms[i] * key.norms[j] * static_cast<double>(dot);
    }
    const auto best = std::max_element(weights.begin(), weights.end());
    mask.fallback[i] = static_cast<std::int32_t>(best - weights.begin());
    const double largest = *best;
    double sum = 0;
    for (double& weight : weights) {
      weight = PortableExp(weight - largest);
      sum += weight;
    }
    for (std::size_t j = 0; j < weights.size(); ++j) {
      if (weights[j] <= options.weight_threshold * sum) continue;
      Keep(&mask, i, static_cast<std::int64_t>(j));
      mask.fallback[i] = -1;
    }
  }
  return mask;
}

MachineResult RunSanger(const Config& config, const fixed::Job& job, const SangerOptions& options,
                        fixed::Candidates* kept) {
  Check(options);
  const Derived derived = Derive(config);
  const std::int64_t multipliers = derived.ideal_multipliers;
  if (options.elements_per_row > multipliers) {
    throw Error(ErrorCode::kInvalidArgument,
                "sanger: elements_per_row: expected at most the " + std::to_string(multipliers) +
                    " multipliers, got " + std::to_string(options.elements_per_row));
  }
  fixed::Candidates mask = PredictMask(job, options);

  MachineResult result;
  result.machine = "sanger";
  result.model = MachineModel::kSimulated;
  result.heads = 1;
  result.pairs = VisiblePairs(job);
  for (std::int64_t i = 0; i < job.queries; ++i) {
    for (std::int64_t j = 0; j < job.Visible(i); ++j) result.kept_pairs += Uses(mask, i, j) ? 1 : 0;
  }
  result.scored_pairs = result.kept_pairs;

  const std::int64_t products =
      multipliers * ProductsPerMultiplier(derived.qkv_bits, options.prediction_bits);
  result.selection_cycles = static_cast<double>(CeilDiv(result.pairs * job.d, products));
  // Rows of the array take one segment each and move on together.
  const std::int64_t rows = multipliers / options.elements_per_row;
  const std::int64_t steps =
      CeilDiv(PackedSegments(mask, job, options.columns, options.elements_per_row), rows);
  result.packed_slots = steps * rows * options.elements_per_row;
  result.cycles = result.selection_cycles + static_cast<double>(steps * (job.d + job.d_v));
  SetTimes(config, &result);
  result.notes = {
      "Prediction and exact computation share ELSA's multipliers, one after the other.",
      "A " + std::to_string(derived.qkv_bits) + "-bit multiplier makes " +
          std::to_string(ProductsPerMultiplier(derived.qkv_bits, options.prediction_bits)) +
          " products of " + std::to_string(options.prediction_bits) + " bits per cycle.",
      "Packing follows the mask: rows of " + std::to_string(options.elements_per_row) +
          " elements, " + std::to_string(options.columns) + " keys at a time.",
      "Softmax of the prediction and packing take no time; no retraining."};
  if (kept != nullptr) *kept = std::move(mask);
  return result;
}

}  // namespace elsa::sim
