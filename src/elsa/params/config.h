// The accelerator's numbers: what the hardware is (Sec. IV-C, IV-D) and in which number formats it
// computes (Sec. IV-E). One field table drives parsing, validation, printing, digest and
// documentation. What follows from these numbers is elsa/params/derived.h; what was learned about a
// model is elsa/params/plan.h. Files are read by the caller.
#ifndef ELSA_PARAMS_CONFIG_H_
#define ELSA_PARAMS_CONFIG_H_

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "elsa/params/plan.h"

namespace elsa {

// How a value loses fraction bits. A tie lies halfway between two results.
enum class Rounding : std::int64_t {
  kNearestEven,  // to nearest, ties to the even one
  kNearestUp,    // to nearest, ties upwards: half a unit is added, then floor
  kFloor,        // towards minus infinity: bits are cut off two's complement
  kTowardZero,   // bits of the magnitude are cut off
};

// What multiplies Q, K and V before they are rounded to the machine's format.
enum class HostScaling : std::int64_t {
  kNone,        // nothing: the format's range must do
  kPowerOfTwo,  // per head and matrix the largest power of two that keeps every value in range
};

// What the weighted sums of values are kept in.
enum class Accumulator : std::int64_t {
  kFloat,    // the custom floating point, every sum rounded
  kInteger,  // integers with one exponent that a bank's sums share
};

// How matrices reach the machine (Sec. IV-B).
enum class HostTransfer : std::int64_t {
  kReference,  // they lie in scratchpads that the machine reads and writes directly
  kCopy,       // they are copied into and out of the machine's own memories
};

// The defaults are the machine that the paper evaluates (Sec. V-C); configs/paper.toml says the
// same. What each member means is in Fields().
struct Config {
  std::int64_t n = 512;
  std::int64_t d = 64;
  std::int64_t k = 64;
  HashKind hash = HashKind::kKronecker3;
  std::int64_t banks = 4;
  std::int64_t selectors_per_bank = 8;
  std::int64_t hash_multipliers = 256;
  std::int64_t division_multipliers = 16;
  std::int64_t queue_depth = 16;
  std::int64_t query_buffers = 4;
  Remainder remainder = Remainder::kNone;
  std::int64_t clock_hz = 1'000'000'000;
  std::int64_t accelerators = 12;

  HostTransfer transfer = HostTransfer::kReference;
  std::int64_t bytes_per_cycle = 64;
  std::int64_t command_queue_depth = 2;

  HostScaling scaling = HostScaling::kNone;
  std::int64_t qkv_integer_bits = 5;
  std::int64_t qkv_fraction_bits = 3;
  Rounding qkv_rounding = Rounding::kNearestEven;
  std::int64_t hash_fraction_bits = 5;
  std::int64_t hash_stage_fraction_bits = 5;
  std::int64_t norm_bits = 8;
  std::int64_t norm_fraction_bits = 3;
  std::int64_t sqrt_table_entries = 32;
  std::int64_t sqrt_fraction_bits = 10;
  std::int64_t cosine_fraction_bits = 8;
  std::int64_t threshold_fraction_bits = 8;
  std::int64_t score_constant_bits = 9;
  std::int64_t exp_table_entries = 32;
  std::int64_t float_exponent_bits = 10;
  std::int64_t float_fraction_bits = 5;
  Accumulator accumulator = Accumulator::kFloat;
  std::int64_t accumulator_fraction_bits = 5;
  std::int64_t sum_fraction_bits = 5;
  Rounding accumulator_rounding = Rounding::kNearestEven;
  std::int64_t reciprocal_table_entries = 32;
  std::int64_t reciprocal_fraction_bits = 5;
  Rounding output_rounding = Rounding::kNearestEven;

  bool operator==(const Config&) const = default;
};

// The two named sets of number formats: what Sec. IV-E says, to the letter, and what keeps a real
// model's metric (docs/reference/number-formats.md says why).
inline constexpr std::array<std::string_view, 2> kFormatSets{"paper-literal", "recommended"};

// Replaces every field of section [format] by the set's.
// Errors: kInvalidArgument naming the sets.
void SetFormats(Config* config, std::string_view set);

// The set whose values section [format] has, or "custom".
std::string_view FormatSetOf(const Config& config);

// One row of the field table.
struct Field {
  std::string_view key;  // TOML "section.name"; the name is the C++ member's
  std::variant<std::int64_t Config::*, HashKind Config::*, Remainder Config::*,
               HostTransfer Config::*, HostScaling Config::*, Rounding Config::*,
               Accumulator Config::*>
      member;        // an integer, or a word
  std::int64_t min;  // the range of an integer; 0, 0 for a word
  std::int64_t max;
  std::string_view unit;     // "" for a word or a plain count
  std::string_view symbol;   // the paper's, "" if it has none
  std::string_view section;  // of the paper
  std::string_view doc;
};

// Whether the field is an integer and not a word.
inline bool IsInteger(const Field& field) {
  return std::holds_alternative<std::int64_t Config::*>(field.member);
}

// Every field of Config, in the order of the configuration files.
std::span<const Field> Fields();

// The field's value as the configuration files write it, without quotes: "512", "kronecker3".
std::string ValueText(const Config& config, const Field& field);

// What the field accepts: "integer 1 to 256", "one of kronecker3, kronecker2, dense".
std::string RangeText(const Field& field);

// Sets the field from text as ValueText writes it; ranges are ValidateConfig's business.
// Errors: kInvalidArgument, "machine.banks: expected integer 1 to 256, got 'four'".
void SetValue(Config* config, const Field& field, std::string_view text);

// Checks every range and what the fields have to fulfil together (rules beside each check).
// Errors: kInvalidArgument, "machine.banks: expected a divisor of machine.n = 512, got 3".
void ValidateConfig(const Config& config);

// Reads and validates a configuration; every key must be there and no other. Of TOML it knows
// [section], key = 64, key = "word" and comments.
// `name` stands for the text in messages, usually the file's name.
// Errors: kInvalidFormat, "paper.toml:12: machine.banks: expected integer 1 to 256, got 0".
Config ParseConfig(std::string_view toml, std::string_view name);

// A fingerprint of the values: 16 hexadecimal digits, 64-bit FNV-1a over a "key=value" line per
// field. It does not depend on how a file is laid out. It tells configurations apart by accident,
// it does not protect against forgery.
std::string Digest(const Config& config);

}  // namespace elsa

#endif  // ELSA_PARAMS_CONFIG_H_
