#include "elsa/sim/timeline_file.h"

#include <gtest/gtest.h>

#include <string>

#include "elsa/base/error.h"
#include "elsa/sim/kanata.h"
#include "elsa/sim/perfetto.h"
#include "elsa/sim/timeline_testing.h"

namespace elsa::sim {
namespace {

TEST(WriteTimeline, WritesTheNamedFormat) {
  const Timeline timeline = MadeTimeline(2, false);
  EXPECT_EQ(WriteTimeline(timeline, Config(), "perfetto"), PerfettoTrace(timeline, Config()));
  EXPECT_EQ(WriteTimeline(timeline, Config(), "kanata"), KanataLog(timeline, Config()));
}

TEST(WriteTimeline, RefusesOtherFormats) {
  for (const std::string format : {"", "Perfetto", "json"}) {
    try {
      WriteTimeline({}, Config(), format);
      FAIL() << format;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
      EXPECT_EQ(error.what(), "timeline format: expected perfetto or kanata, got '" + format + "'");
    }
  }
}

TEST(WriteTimeline, ErrorIsOneLineWhateverTheFormat) {
  try {
    WriteTimeline({}, Config(), "a\nb");
    FAIL();
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "timeline format: expected perfetto or kanata, got 'a?b'");
  }
}

}  // namespace
}  // namespace elsa::sim
