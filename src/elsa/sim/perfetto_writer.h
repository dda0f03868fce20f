// Writes a trace in Perfetto's own format: tracks in a tree, slices, counters, arrows. It knows
// nothing of ELSA (elsa/sim/perfetto.h does) and opens no file.
// Source: Perfetto's published trace format (TracePacket, TrackDescriptor, TrackEvent).
#ifndef ELSA_SIM_PERFETTO_WRITER_H_
#define ELSA_SIM_PERFETTO_WRITER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/sim/protobuf.h"

namespace elsa::sim {

class PerfettoWriter {
 public:
  // The number of a new track: a row under `parent` (0: at the top), by rank among its siblings.
  // Perfetto draws siblings of one name as one track.
  std::uint64_t AddTrack(std::uint64_t parent, std::string_view name, std::int64_t rank);
  // A track that other tracks are under.
  std::uint64_t AddGroup(std::uint64_t parent, std::string_view name, std::int64_t rank);
  std::uint64_t AddCounter(std::uint64_t parent, std::string_view name, std::int64_t rank,
                           std::string_view unit);

  // What a slice shows; for AddSlice.
  class Details {
   public:
    Details(PerfettoWriter* writer, std::string_view name, std::string_view category);
    void Note(std::string_view name, std::int64_t value);
    void Note(std::string_view name, std::string_view value);
    // The viewer highlights all slices of one id together.
    void Correlate(std::uint64_t id);
    // The slices of one flow are joined by arrows, in the order of their begins.
    void Flow(std::uint64_t id, bool last);

   private:
    friend class PerfettoWriter;
    PerfettoWriter* writer_;
    ProtobufMessage event_;
  };

  // Slices of one track are added in the order of their begins and do not overlap.
  // Units: nanoseconds of the trace. begin <= end.
  void AddSlice(std::uint64_t track, std::int64_t begin, std::int64_t end, const Details& details);
  // The counter's value from this time on.
  void AddCount(std::uint64_t counter, std::int64_t time, std::int64_t value);

  // The whole trace: strings, tracks, then events in the order of time. The writer is spent.
  std::string Take();

 private:
  struct Event {
    std::int64_t time;
    ProtobufMessage message;
  };

  std::uint64_t Describe(std::uint64_t parent, std::string_view name, std::int64_t rank,
                         ProtobufMessage descriptor);
  // A string's number in one of the tables of strings; the file holds each string once.
  std::uint64_t Iid(std::uint32_t table, std::string_view text);

  std::vector<ProtobufMessage> tracks_;
  std::vector<Event> events_;
  ProtobufMessage strings_;
  std::map<std::uint32_t, std::map<std::string, std::uint64_t, std::less<>>> iids_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_PERFETTO_WRITER_H_
