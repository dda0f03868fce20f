// GPU and TPU as the paper used them, which cannot be simulated here: a bound from their published
// peak, and the paper's own measured ratio times the time of ELSA-base. Source: Sec. V-C (V100),
// Sec. V-E (TPUv2); the numbers are those of data/paper/evaluation.toml. Neither is a measurement;
// a ratio carries the paper's models, inputs, padding and software versions with it.
#ifndef ELSA_SIM_MACHINE_PUBLISHED_H_
#define ELSA_SIM_MACHINE_PUBLISHED_H_

#include <cstdint>
#include <string_view>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/params/paper_figures.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

// A machine's time over that of ELSA-base.
struct PublishedRatio {
  double low = 0;
  double typical = 0;
  double high = 0;
};

// Low and high as published; typical is the geometric mean that the paper implies: its geomean for
// ELSA-conservative times conservative's over base's latency.
// Errors: kInvalidArgument if a figure is missing.
PublishedRatio GpuOverBase(const PaperFigures& figures);

// Lowest, geometric mean and highest over the data sets. Errors: as GpuOverBase.
PublishedRatio TpuOverBase(const PaperFigures& figures);

// All multiplications and additions of a head padded to `padded_n` rows at peak, 100 % use: a lower
// bound of the time. Masked pairs of causal heads are computed, as GPU libraries do.
// Units: floating-point operations per second, above 0. Errors: kInvalidArgument if padding is
// shorter than the head.
MachineResult RunAtPeak(std::string_view machine, double peak_flops_per_s, std::int64_t padded_n,
                        const fixed::Job& job);

// ELSA-base's closed form (BaseCycles), all accelerators busy, times the ratio.
MachineResult RunAtRatio(std::string_view machine, const PublishedRatio& ratio,
                         const Config& config, const fixed::Job& job);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_PUBLISHED_H_
