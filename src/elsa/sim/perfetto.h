// A timeline as a trace of Perfetto (ui.perfetto.dev): one track per module, slices for work and
// waiting, a counter of queued candidates per bank, and arrows that follow a query. What each track
// means: docs/reference/timeline.md. Not a general trace writer, and no file: bytes for the caller.
#ifndef ELSA_SIM_PERFETTO_H_
#define ELSA_SIM_PERFETTO_H_

#include <string>

#include "elsa/params/config.h"
#include "elsa/sim/timeline.h"

namespace elsa::sim {

// The bytes of a .perfetto-trace file; the same for the same input. `config` is the machine that
// was simulated: its digest and clock are noted in the trace.
// Source: Perfetto's published trace format (TracePacket, TrackDescriptor, TrackEvent).
// Units: one cycle is one nanosecond of the trace, whatever the clock.
std::string PerfettoTrace(const Timeline& timeline, const Config& config);

}  // namespace elsa::sim

#endif  // ELSA_SIM_PERFETTO_H_
