// A timeline in the format that a user names. The formats: elsa/sim/perfetto.h, elsa/sim/kanata.h.
#ifndef ELSA_SIM_TIMELINE_FILE_H_
#define ELSA_SIM_TIMELINE_FILE_H_

#include <array>
#include <string>
#include <string_view>

#include "elsa/params/config.h"
#include "elsa/sim/timeline.h"

namespace elsa::sim {

inline constexpr std::array<std::string_view, 2> kTimelineFormats{"perfetto", "kanata"};

// The bytes of a timeline file; the caller writes them. `config` is the machine simulated.
// Errors: kInvalidArgument naming the formats if `format` is none of them.
std::string WriteTimeline(const Timeline& timeline, const Config& config, std::string_view format);

}  // namespace elsa::sim

#endif  // ELSA_SIM_TIMELINE_FILE_H_
