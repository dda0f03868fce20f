// From a Hamming distance to an angle and its cosine, with the correction theta_bias.
// Source: Sec. III-B "Angle Correction", Sec. IV-C (the cosine table of the selection module).
#ifndef ELSA_REFERENCE_ANGLE_H_
#define ELSA_REFERENCE_ANGLE_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "elsa/params/plan.h"

namespace elsa::reference {

// The share of angles that the corrected estimate should underestimate. Source: Sec. III-B.
inline constexpr double kThetaBiasPercentile = 0.8;

// pi/k * distance - theta_bias, clamped to [0, pi]. Units: radians.
double EstimatedAngle(std::int64_t k, double theta_bias_rad, int distance);

// The k + 1 cosines of EstimatedAngle for distances 0 to k, in binary32. Source: Sec. IV-C.
// Not strictly decreasing: the first entries are equal wherever the clamp at 0 holds.
std::vector<float> CosineTable(std::int64_t k, double theta_bias_rad);

// The kThetaBiasPercentile of the signed error (uncorrected estimate minus true angle) of this hash
// over `pairs` pairs of independent standard normal vectors of `d` components, by default as many
// as the hash takes. Units: radians. Source: Sec. III-B.
// Errors: kInvalidArgument unless pairs >= 1; kMismatch if d is more than the hash takes.
double MeasureThetaBias(const HashSpec& hash, std::optional<std::int64_t> d = std::nullopt,
                        std::int64_t pairs = 50000, std::uint64_t seed = 1);

// The true angle between two vectors of d values, in radians; pi/2 if one of them is zero.
double TrueAngle(const float* a, const float* b, std::int64_t d);

// The smallest value that at least `percentile` of the values do not exceed. Reorders them.
double Percentile(std::vector<double>& values, double percentile);

}  // namespace elsa::reference

#endif  // ELSA_REFERENCE_ANGLE_H_
