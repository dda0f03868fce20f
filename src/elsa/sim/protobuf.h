// Writes protocol-buffer messages field by field: just the wire format that elsa/sim/perfetto.cc
// needs. No descriptors and no reading; the caller knows the field numbers.
// Source: protobuf.dev, "Encoding".
#ifndef ELSA_SIM_PROTOBUF_H_
#define ELSA_SIM_PROTOBUF_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

namespace elsa::sim {

// One message, or a file of length-delimited messages. Fields appear in the order of the calls.
class ProtobufMessage {
 public:
  // Fields of type uint64, int64, uint32, bool and enum (wire type 0).
  void Varint(std::uint32_t field, std::uint64_t value) {
    Tag(field, 0);
    Raw(value);
  }
  // A negative int64 takes ten bytes.
  void Int(std::uint32_t field, std::int64_t value) {
    Varint(field, static_cast<std::uint64_t>(value));
  }
  // Fields of type fixed64 (wire type 1).
  void Fixed64(std::uint32_t field, std::uint64_t value) {
    Tag(field, 1);
    for (int shift = 0; shift < 64; shift += 8) {
      bytes_.push_back(static_cast<char>(value >> shift & 0xff));
    }
  }
  // Fields of type string and bytes (wire type 2).
  void Bytes(std::uint32_t field, std::string_view value) {
    Tag(field, 2);
    Raw(value.size());
    bytes_.append(value);
  }
  void Message(std::uint32_t field, const ProtobufMessage& value) { Bytes(field, value.bytes_); }

  bool empty() const { return bytes_.empty(); }
  const std::string& bytes() const { return bytes_; }
  std::string Take() { return std::move(bytes_); }

 private:
  void Tag(std::uint32_t field, std::uint32_t wire_type) { Raw(field << 3 | wire_type); }
  // Seven bits per byte, lowest first; the top bit says that more follow.
  void Raw(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_.push_back(static_cast<char>(value | 0x80));
    bytes_.push_back(static_cast<char>(value));
  }

  std::string bytes_;
};

}  // namespace elsa::sim

#endif  // ELSA_SIM_PROTOBUF_H_
