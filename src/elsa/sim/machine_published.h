// GPU and TPU as the paper used them, which cannot be simulated here: a bound from their published
// peak, and the paper's own measured ratio times the time of ELSA-base. Source: Sec. V-C (V100),
// Sec. V-E (TPUv2). Neither is a measurement; a ratio carries the paper's models, inputs, padding
// and software versions with it.
#ifndef ELSA_SIM_MACHINE_PUBLISHED_H_
#define ELSA_SIM_MACHINE_PUBLISHED_H_

#include <cstdint>
#include <vector>

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

// The paper's figures that these models need. The caller reads them from the data file of published
// numbers; none is typed into code.
struct PublishedFigures {
  double gpu_peak_flops_per_s = 0;     // V100, FP32 (Sec. V-C)
  double gpu_over_base_min = 0;        // throughput of ELSA-base over the GPU's: Fig. 11(a)
  double gpu_over_base_max = 0;        //
  double gpu_over_conservative = 0;    // geomean of ELSA-conservative: Fig. 11(a)
  double conservative_over_ideal = 0;  // latency, geomean: Fig. 11(b)
  double base_over_ideal = 0;          // latency: Fig. 11(b)
  double tpu_peak_flops_per_s = 0;     // TPUv2, FP32 as the paper assumes (Sec. V-E)
  std::vector<double> tpu_over_base;   // per data set, at equal peak operations: Sec. V-E
};

// A machine's time over that of ELSA-base.
struct PublishedRatio {
  double low = 0;
  double typical = 0;
  double high = 0;
};

// Low and high as published; typical is the geometric mean that the paper implies: its geomean for
// ELSA-conservative times conservative's over base's latency.
// Errors: kInvalidArgument if a figure is missing (not positive).
PublishedRatio GpuOverBase(const PublishedFigures& figures);

// Lowest, geometric mean and highest over the data sets. Errors: as GpuOverBase.
PublishedRatio TpuOverBase(const PublishedFigures& figures);

// All multiplications and additions of a head padded to `padded_n` rows at peak, 100 % use: a lower
// bound of the time. Masked pairs of causal heads are computed, as GPU libraries do.
// Errors: kInvalidArgument if the peak is not positive or padding is shorter than the head.
MachineResult RunAtPeak(std::string_view machine, double peak_flops_per_s, std::int64_t padded_n,
                        const fixed::Job& job);

// ELSA-base's closed form (BaseCycles), all accelerators busy, times the ratio.
MachineResult RunAtRatio(std::string_view machine, const PublishedRatio& ratio,
                         const Config& config, const fixed::Job& job);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_PUBLISHED_H_
