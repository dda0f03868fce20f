#include "elsa/params/config.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "elsa/base/error.h"
#include "elsa/params/config_check.h"
#include "elsa/params/hash_shape.h"

namespace elsa {
namespace {

// Ranges are our choice where the paper has none: wide enough for any machine worth simulating,
// small enough that no derived value overflows 64 bits.
constexpr std::array kFields{
    Field{"machine.n", &Config::n, 1, 65536, "rows", "n", "IV-E",
          "Largest number of keys and queries; shorter inputs run on the same machine."},
    Field{"machine.d", &Config::d, 1, kMaxHashDimension, "components", "d", "IV-E",
          "Components of a query, key or value."},
    Field{"machine.k", &Config::k, 1, kMaxHashBits, "bits", "k", "IV-E",
          "Hash bits of a query or key; beyond d in batches."},
    Field{"machine.hash", &Config::hash, 0, 0, "", "A", "III-C",
          "Form of the hash matrix: the Kronecker product of three or two factors, or one matrix."},
    Field{"machine.banks", &Config::banks, 1, 256, "modules", "P_a", "IV-D",
          "Attention computation modules, each with its own bank of n/P_a keys and values."},
    Field{"machine.selectors_per_bank", &Config::selectors_per_bank, 1, 256, "modules", "P_c",
          "IV-C", "Candidate selection modules of a bank; each tests one key per cycle."},
    Field{"machine.hash_multipliers", &Config::hash_multipliers, 1, 65536, "multipliers", "m_h",
          "IV-C", "Multipliers of the hash computation module."},
    Field{"machine.division_multipliers", &Config::division_multipliers, 1, 1024, "multipliers",
          "m_o", "IV-C", "Multipliers of the output division module."},
    Field{"machine.clock_hz", &Config::clock_hz, 1, 10'000'000'000, "Hz", "", "V-C",
          "Clock frequency."},
    Field{"machine.accelerators", &Config::accelerators, 1, 256, "accelerators", "", "IV-D",
          "Whole accelerators side by side, each working on another head or input."},
    Field{"format.qkv_integer_bits", &Config::qkv_integer_bits, 0, 15, "bits", "", "IV-E",
          "Integer bits of the fixed-point queries, keys and values, beside one sign bit."},
    Field{"format.qkv_fraction_bits", &Config::qkv_fraction_bits, 0, 15, "bits", "", "IV-E",
          "Fraction bits of the queries, keys and values."},
    Field{"format.hash_fraction_bits", &Config::hash_fraction_bits, 1, 15, "bits", "", "IV-E",
          "Fraction bits of the hash matrices, beside one sign bit."},
    Field{"format.float_exponent_bits", &Config::float_exponent_bits, 2, 15, "bits", "", "IV-E",
          "Exponent bits of the floating-point values from the exponential on."},
    Field{"format.float_fraction_bits", &Config::float_fraction_bits, 1, 23, "bits", "", "IV-E",
          "Fraction bits of those values, beside one sign bit."},
    Field{"format.norm_bits", &Config::norm_bits, 1, 16, "bits", "", "IV-C",
          "Bits of a stored key norm."},
    Field{"format.exp_table_entries", &Config::exp_table_entries, 2, 4096, "entries", "", "IV-E",
          "Entries of the table of 2^x for the fraction of x."},
    Field{"format.reciprocal_table_entries", &Config::reciprocal_table_entries, 2, 4096, "entries",
          "", "IV-E", "Entries of the table of reciprocals, indexed by leading fraction bits."},
};

// Our choice: the forms whose factors a hash module can hold in registers and multiply by.
constexpr std::array kHashForms{HashKind::kKronecker3, HashKind::kKronecker2, HashKind::kDense};

bool IsPowerOfTwo(std::int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

std::string Is(std::string_view key, std::int64_t value) {
  return std::string(key) + " = " + std::to_string(value);
}

std::optional<ConfigProblem> RangeProblem(const Config& config, const Field& field) {
  bool ok = false;
  if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
    ok = config.**integer >= field.min && config.**integer <= field.max;
  } else {
    const HashKind kind = config.*std::get<HashKind Config::*>(field.member);
    ok = std::find(kHashForms.begin(), kHashForms.end(), kind) != kHashForms.end();
  }
  if (ok) return std::nullopt;
  return ConfigProblem{field.key, RangeText(field), ValueText(config, field)};
}

// The divisors of `work` next below and above `value`, as a hint.
std::string DivisorsAround(std::int64_t work, std::int64_t value) {
  std::int64_t below = 1;
  std::int64_t above = work;
  for (std::int64_t i = 1; i <= work; ++i) {
    if (work % i != 0) continue;
    if (i < value) below = i;
    if (i > value) above = std::min(above, i);
  }
  return below == above ? std::to_string(below)
                        : std::to_string(below) + " or " + std::to_string(above);
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr std::size_t kLongest = 400;
  std::string clean(text.substr(0, kLongest));
  for (char& c : clean) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) c = '?';
  }
  return clean + (text.size() > kLongest ? "..." : "");
}

bool TrySetValue(Config* config, const Field& field, std::string_view text) {
  if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
    std::int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(text.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end) return false;
    config->** integer = value;
    return true;
  }
  const auto named = [text](HashKind kind) { return Name(kind) == text; };
  const auto kind = std::find_if(kHashForms.begin(), kHashForms.end(), named);
  if (kind == kHashForms.end()) return false;
  config->*std::get<HashKind Config::*>(field.member) = *kind;
  return true;
}

std::optional<ConfigProblem> FindProblem(const Config& config) {
  for (const Field& field : kFields) {
    if (auto problem = RangeProblem(config, field)) return problem;
  }
  const auto problem = [](std::string_view key, const std::string& expected, std::int64_t got) {
    return ConfigProblem{key, expected, std::to_string(got)};
  };
  // Each bank holds n/P_a keys (Sec. IV-D).
  if (config.n % config.banks != 0) {
    return problem("machine.banks", "a divisor of " + Is("machine.n", config.n), config.banks);
  }
  // A selector beyond the keys of its bank never has one to test.
  const std::int64_t keys_per_bank = config.n / config.banks;
  if (config.selectors_per_bank > keys_per_bank) {
    return problem("machine.selectors_per_bank",
                   "at most the " + std::to_string(keys_per_bank) + " keys of a bank",
                   config.selectors_per_bank);
  }
  // A factor of one component is not a factor: the form would be another one (Sec. III-C).
  const auto shapes = HashShapes(config.hash, config.d, config.k);
  const auto& factors = shapes[0].factors;
  if (factors.size() > 1 && factors.back().cols == 1) {
    return problem("machine.d",
                   "a product of " + std::to_string(factors.size()) +
                       " integers above 1 for hash " + std::string(Name(config.hash)),
                   config.d);
  }
  // The hash module keeps all its multipliers busy (Sec. IV-C).
  const std::int64_t work = Multiplications(shapes);
  if (work % config.hash_multipliers != 0) {
    return problem("machine.hash_multipliers",
                   "a divisor of the " + std::to_string(work) +
                       " multiplications of one hash (nearest: " +
                       DivisorsAround(work, config.hash_multipliers) + ")",
                   config.hash_multipliers);
  }
  // The division module takes d/m_o cycles, all multipliers busy (Sec. IV-C, Fig. 8).
  if (config.d % config.division_multipliers != 0) {
    return problem("machine.division_multipliers", "a divisor of " + Is("machine.d", config.d),
                   config.division_multipliers);
  }
  // Tables are indexed by leading fraction bits (Sec. IV-E); a divisor's fraction has only so many.
  if (!IsPowerOfTwo(config.exp_table_entries)) {
    return problem("format.exp_table_entries", "a power of two", config.exp_table_entries);
  }
  if (!IsPowerOfTwo(config.reciprocal_table_entries) ||
      config.reciprocal_table_entries > (std::int64_t{1} << config.float_fraction_bits)) {
    return problem("format.reciprocal_table_entries",
                   "a power of two, at most 2^" + std::to_string(config.float_fraction_bits) +
                       " (float_fraction_bits)",
                   config.reciprocal_table_entries);
  }
  return std::nullopt;
}

std::span<const Field> Fields() { return kFields; }

std::string ValueText(const Config& config, const Field& field) {
  if (const auto* integer = std::get_if<std::int64_t Config::*>(&field.member)) {
    return std::to_string(config.**integer);
  }
  return std::string(Name(config.*std::get<HashKind Config::*>(field.member)));
}

std::string RangeText(const Field& field) {
  if (std::holds_alternative<std::int64_t Config::*>(field.member)) {
    return "integer " + std::to_string(field.min) + " to " + std::to_string(field.max);
  }
  std::string words = "one of ";
  for (HashKind kind : kHashForms) {
    words += (kind == kHashForms.front() ? "" : ", ") + std::string(Name(kind));
  }
  return words;
}

void SetValue(Config* config, const Field& field, std::string_view text) {
  if (TrySetValue(config, field, text)) return;
  const ConfigProblem problem{field.key, RangeText(field), "'" + Printable(text) + "'"};
  throw Error(ErrorCode::kInvalidArgument, problem.Text());
}

void ValidateConfig(const Config& config) {
  if (const auto problem = FindProblem(config)) {
    throw Error(ErrorCode::kInvalidArgument, problem->Text());
  }
}

std::string Digest(const Config& config) {
  std::uint64_t hash = 0xcbf29ce484222325;  // FNV-1a's offset basis and, below, its prime
  for (const Field& field : kFields) {
    const std::string line = std::string(field.key) + "=" + ValueText(config, field) + "\n";
    for (unsigned char byte : line) hash = (hash ^ byte) * 0x100000001b3;
  }
  std::string text;
  for (int shift = 60; shift >= 0; shift -= 4) text += "0123456789abcdef"[(hash >> shift) & 15];
  return text;
}

}  // namespace elsa
