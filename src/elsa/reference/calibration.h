// Learns a plan's thresholds from real inputs, one (layer, head) at a time, streaming over inputs:
// memory does not grow with their number. Source: Sec. III-E "Learning Layer-Specific Thresholds",
// Fig. 6; the mass, budget and gap rules are ours (docs/reference/selection.md).
#ifndef ELSA_REFERENCE_CALIBRATION_H_
#define ELSA_REFERENCE_CALIBRATION_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa::reference {

// Observes (layer, inputs) and finishes into `plan` with thresholds and calibration filled in.
//
// `plan` comes with every option set (model, rule, target, remainder, centring, bias_in_test,
// dense_below, hash, theta_bias_rad); its thresholds and calibration are ignored.
// Results do not depend on the number of threads.
class Calibrator {
 public:
  // Errors: kInvalidArgument for an option or target out of range; layers and heads >= 1.
  Calibrator(Plan plan, std::int64_t layers, std::int64_t heads);

  // Errors: those of ValidateInputs and ValidatePlanFits.
  void Observe(std::int64_t layer, const AttentionInputs& inputs, int threads = 0);

  // The finished plan. With p = 0 every head is exact; so is a head that saw no usable query, and
  // one whose target no threshold meets. A query is usable if it is not run dense and its scores
  // and norms are finite and not zero.
  Plan Finish() const;

 private:
  struct HeadState {
    std::int64_t queries = 0;
    double sum = 0;  // of the per-query thresholds, Rule::kPaper
    double sum_of_squares = 0;
    // Pairs and softmax mass by how far they are from being surely kept, in equal bins; what lies
    // outside falls into the first or last bin.
    std::vector<double> pairs;
    std::vector<double> mass;
  };
  void ObserveHead(const AttentionInputs& inputs, std::int64_t layer, std::int64_t head);
  void FinishHead(const HeadState& state, double& threshold, HeadCalibration& seen) const;

  Plan plan_;
  std::int64_t heads_;
  std::vector<HeadState> states_;  // [layer * heads + head]
};

// Measures theta_bias per head on the pairs a real model makes, instead of on random vectors: the
// kThetaBiasPercentile of estimate minus true angle, with the plan's hash and centring. Streaming.
class ThetaBiasMeter {
 public:
  // Uses the plan's hash, centring and dense_below only. Errors: as Calibrator.
  ThetaBiasMeter(Plan plan, std::int64_t layers, std::int64_t heads);
  // Errors: those of ValidateInputs and ValidatePlanFits.
  void Observe(std::int64_t layer, const AttentionInputs& inputs, int threads = 0);
  // [layer][head] in radians; a head without pairs gets the random-vector value. Resolution:
  // pi/4096.
  std::vector<std::vector<double>> Finish() const;

 private:
  Plan plan_;
  std::int64_t heads_;
  std::optional<std::int64_t> d_;                  // of the inputs, once some were seen
  std::vector<std::vector<std::int64_t>> counts_;  // [layer * heads + head][bin]
};

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_CALIBRATION_H_
