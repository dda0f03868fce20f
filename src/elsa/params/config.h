// The accelerator's numbers: what the hardware is (Sec. IV-C, IV-D) and in which number formats it
// computes (Sec. IV-E). One field table drives parsing, validation, printing, digest and
// documentation. What follows from these numbers is elsa/params/derived.h; what was learned about a
// model is elsa/params/plan.h. Files are read by the caller.
#ifndef ELSA_PARAMS_CONFIG_H_
#define ELSA_PARAMS_CONFIG_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "elsa/params/plan.h"

namespace elsa {

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
  std::int64_t clock_hz = 1'000'000'000;
  std::int64_t accelerators = 12;

  std::int64_t qkv_integer_bits = 5;
  std::int64_t qkv_fraction_bits = 3;
  std::int64_t hash_fraction_bits = 5;
  std::int64_t float_exponent_bits = 10;
  std::int64_t float_fraction_bits = 5;
  std::int64_t norm_bits = 8;
  std::int64_t exp_table_entries = 32;
  std::int64_t reciprocal_table_entries = 32;

  bool operator==(const Config&) const = default;
};

// One row of the field table.
struct Field {
  std::string_view key;  // TOML "section.name"; the name is the C++ member's
  std::variant<std::int64_t Config::*, HashKind Config::*> member;
  std::int64_t min;  // the range of an integer; 0, 0 for a word
  std::int64_t max;
  std::string_view unit;     // "" for a word or a plain count
  std::string_view symbol;   // the paper's, "" if it has none
  std::string_view section;  // of the paper
  std::string_view doc;
};

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
