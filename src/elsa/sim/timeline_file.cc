#include "elsa/sim/timeline_file.h"

#include "elsa/base/error.h"
#include "elsa/params/config_check.h"
#include "elsa/sim/kanata.h"
#include "elsa/sim/perfetto.h"

namespace elsa::sim {

std::string WriteTimeline(const Timeline& timeline, const Config& config, std::string_view format) {
  if (format == kTimelineFormats[0]) return PerfettoTrace(timeline, config);
  if (format == kTimelineFormats[1]) return KanataLog(timeline, config);
  throw Error(ErrorCode::kInvalidArgument,
              "timeline format: expected perfetto or kanata, got '" + Printable(format) + "'");
}

}  // namespace elsa::sim
