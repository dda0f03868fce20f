#include "elsa/sim/perfetto_writer.h"

#include <algorithm>
#include <utility>

namespace elsa::sim {
namespace {

// Field numbers and values of Perfetto's messages, as published with its trace format.
constexpr std::uint32_t kTracePacket = 1;

namespace packet {
constexpr std::uint32_t kTimestamp = 8, kSequenceId = 10, kTrackEvent = 11, kInternedData = 12,
                        kSequenceFlags = 13, kPreviousPacketDropped = 42, kTrackDescriptor = 60,
                        kFirstPacketOnSequence = 87;
constexpr std::uint64_t kIncrementalStateCleared = 1, kNeedsIncrementalState = 2;
}  // namespace packet
namespace track {
constexpr std::uint32_t kUuid = 1, kName = 2, kParentUuid = 5, kCounter = 8, kChildOrdering = 11,
                        kSiblingOrderRank = 12;
constexpr std::uint32_t kCounterUnitName = 6;
constexpr std::uint64_t kExplicitOrdering = 3;
}  // namespace track
namespace event {
constexpr std::uint32_t kCategoryIids = 3, kDebugAnnotations = 4, kType = 9, kNameIid = 10,
                        kTrackUuid = 11, kCounterValue = 30, kFlowIds = 47,
                        kTerminatingFlowIds = 48, kCorrelationId = 52;
constexpr std::uint64_t kSliceBegin = 1, kSliceEnd = 2, kCounter = 4;
}  // namespace event
namespace interned {
constexpr std::uint32_t kCategories = 1, kEventNames = 2, kNoteNames = 3;
constexpr std::uint32_t kIid = 1, kName = 2;
}  // namespace interned
namespace note {
constexpr std::uint32_t kNameIid = 1, kInt = 4, kString = 6;
}  // namespace note

constexpr std::uint64_t kSequence = 1;  // one writer, so any number but 0 will do

}  // namespace

std::uint64_t PerfettoWriter::AddTrack(std::uint64_t parent, std::string_view name,
                                       std::int64_t rank) {
  return Describe(parent, name, rank, {});
}

std::uint64_t PerfettoWriter::AddGroup(std::uint64_t parent, std::string_view name,
                                       std::int64_t rank) {
  ProtobufMessage descriptor;
  descriptor.Varint(track::kChildOrdering, track::kExplicitOrdering);
  return Describe(parent, name, rank, std::move(descriptor));
}

std::uint64_t PerfettoWriter::AddCounter(std::uint64_t parent, std::string_view name,
                                         std::int64_t rank, std::string_view unit) {
  ProtobufMessage counter;
  counter.Bytes(track::kCounterUnitName, unit);
  ProtobufMessage descriptor;
  descriptor.Message(track::kCounter, counter);
  return Describe(parent, name, rank, std::move(descriptor));
}

std::uint64_t PerfettoWriter::Describe(std::uint64_t parent, std::string_view name,
                                       std::int64_t rank, ProtobufMessage descriptor) {
  const std::uint64_t uuid = tracks_.size() + 1;
  descriptor.Varint(track::kUuid, uuid);
  descriptor.Bytes(track::kName, name);
  if (parent != 0) descriptor.Varint(track::kParentUuid, parent);
  descriptor.Int(track::kSiblingOrderRank, rank);
  tracks_.push_back(std::move(descriptor));
  return uuid;
}

std::uint64_t PerfettoWriter::Iid(std::uint32_t table, std::string_view text) {
  auto& ids = iids_[table];
  if (const auto it = ids.find(text); it != ids.end()) return it->second;
  const std::uint64_t id = ids.size() + 1;  // 0 is no number
  ids.emplace(text, id);
  ProtobufMessage entry;
  entry.Varint(interned::kIid, id);
  entry.Bytes(interned::kName, text);
  strings_.Message(table, entry);
  return id;
}

PerfettoWriter::Details::Details(PerfettoWriter* writer, std::string_view name,
                                 std::string_view category)
    : writer_(writer) {
  event_.Varint(event::kType, event::kSliceBegin);
  event_.Varint(event::kNameIid, writer->Iid(interned::kEventNames, name));
  event_.Varint(event::kCategoryIids, writer->Iid(interned::kCategories, category));
}

void PerfettoWriter::Details::Note(std::string_view name, std::int64_t value) {
  ProtobufMessage message;
  message.Varint(note::kNameIid, writer_->Iid(interned::kNoteNames, name));
  message.Int(note::kInt, value);
  event_.Message(event::kDebugAnnotations, message);
}

void PerfettoWriter::Details::Note(std::string_view name, std::string_view value) {
  ProtobufMessage message;
  message.Varint(note::kNameIid, writer_->Iid(interned::kNoteNames, name));
  message.Bytes(note::kString, value);
  event_.Message(event::kDebugAnnotations, message);
}

void PerfettoWriter::Details::Correlate(std::uint64_t id) {
  event_.Varint(event::kCorrelationId, id);
}

void PerfettoWriter::Details::Flow(std::uint64_t id, bool last) {
  event_.Fixed64(last ? event::kTerminatingFlowIds : event::kFlowIds, id);
}

void PerfettoWriter::AddSlice(std::uint64_t track, std::int64_t begin, std::int64_t end,
                              const Details& details) {
  Event first{begin, details.event_};
  first.message.Varint(event::kTrackUuid, track);
  Event last{end, {}};
  last.message.Varint(event::kType, event::kSliceEnd);
  last.message.Varint(event::kTrackUuid, track);
  events_.push_back(std::move(first));
  events_.push_back(std::move(last));
}

void PerfettoWriter::AddCount(std::uint64_t counter, std::int64_t time, std::int64_t value) {
  Event count{time, {}};
  count.message.Varint(event::kType, event::kCounter);
  count.message.Varint(event::kTrackUuid, counter);
  count.message.Int(event::kCounterValue, value);
  events_.push_back(std::move(count));
}

std::string PerfettoWriter::Take() {
  // Stable: at one time, a slice ends before the next of its track begins.
  std::stable_sort(events_.begin(), events_.end(),
                   [](const Event& a, const Event& b) { return a.time < b.time; });

  // The first packet resets the reader's tables of strings and fills them; the others need them.
  ProtobufMessage file;
  const auto add = [&file](ProtobufMessage body, std::uint64_t flags) {
    body.Varint(packet::kSequenceId, kSequence);
    body.Varint(packet::kSequenceFlags, flags);
    file.Message(kTracePacket, body);
  };
  ProtobufMessage head;
  head.Varint(packet::kFirstPacketOnSequence, 1);
  head.Varint(packet::kPreviousPacketDropped, 1);
  head.Message(packet::kInternedData, strings_);
  add(std::move(head), packet::kIncrementalStateCleared | packet::kNeedsIncrementalState);
  for (const ProtobufMessage& descriptor : tracks_) {
    ProtobufMessage body;
    body.Message(packet::kTrackDescriptor, descriptor);
    add(std::move(body), packet::kNeedsIncrementalState);
  }
  for (const Event& event : events_) {
    ProtobufMessage body;
    body.Int(packet::kTimestamp, event.time);
    body.Message(packet::kTrackEvent, event.message);
    add(std::move(body), packet::kNeedsIncrementalState);
  }
  return file.Take();
}

}  // namespace elsa::sim
