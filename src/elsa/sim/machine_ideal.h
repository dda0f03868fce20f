// The ideal accelerator: as many multipliers as ELSA's attention and division have, every one busy
// in every cycle, no approximation. Source: Sec. V-C: a bound for any accelerator that multiplies
// all of Q K^T and S V. Exponential and division are free.
#ifndef ELSA_SIM_MACHINE_IDEAL_H_
#define ELSA_SIM_MACHINE_IDEAL_H_

#include "elsa/fixed/job.h"
#include "elsa/params/config.h"
#include "elsa/sim/machine_result.h"

namespace elsa::sim {

// Visible pairs times d + d_v multiplications over P_a 2d + m_o multipliers.
MachineResult RunIdeal(const Config& config, const fixed::Job& job);

// Cycles of ELSA-base's execution phase by the paper's closed form (Sec. IV-D without selection):
// the reference that published ratios are multiplied with. The simulator counts a few more.
std::int64_t BaseCycles(const Config& config, const fixed::Job& job);

}  // namespace elsa::sim

#endif  // ELSA_SIM_MACHINE_IDEAL_H_
