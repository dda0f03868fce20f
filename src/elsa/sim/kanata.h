// A timeline as a Kanata log, the text format of the pipeline viewer Konata: one row per key that
// is hashed, per query and per candidate. What the rows and stages mean:
// docs/reference/timeline.md. Not all of a timeline: phases and stalls have no row.
#ifndef ELSA_SIM_KANATA_H_
#define ELSA_SIM_KANATA_H_

#include <string>

#include "elsa/params/config.h"
#include "elsa/sim/timeline.h"

namespace elsa::sim {

// The text of a Kanata log, version 4; the same for the same input. `config` is the machine that
// was simulated: its latencies divide a candidate's time in the attention unit into stages.
// Source: Konata's documentation of the format.
std::string KanataLog(const Timeline& timeline, const Config& config);

}  // namespace elsa::sim

#endif  // ELSA_SIM_KANATA_H_
