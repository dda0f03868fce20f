#include "elsa/params/config.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "elsa/base/error.h"
#include "elsa/base/integer_math.h"
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
    Field{"machine.queue_depth", &Config::queue_depth, 1, 4096, "candidates", "", "IV-C",
          "Candidates that the output queue of one selector holds; a full one stops its bank."},
    Field{"machine.query_buffers", &Config::query_buffers, 2, 16, "queries", "", "IV-C",
          "Queries between the start of their hash and their last candidate, each with a buffer "
          "for vector and hash."},
    Field{"machine.remainder", &Config::remainder, 0, 0, "", "", "-",
          "What stands for the keys that a query drops: nothing, or the mean row (beyond the "
          "paper)."},
    Field{"machine.clock_hz", &Config::clock_hz, 1, 10'000'000'000, "Hz", "", "V-C",
          "Clock frequency."},
    Field{"machine.accelerators", &Config::accelerators, 1, 256, "accelerators", "", "IV-D",
          "Whole accelerators side by side, each working on another head or input."},
    Field{"host.transfer", &Config::transfer, 0, 0, "", "", "IV-B",
          "How matrices reach the machine: by reference to scratchpads, or copied."},
    Field{"host.bytes_per_cycle", &Config::bytes_per_cycle, 1, 65536, "bytes", "", "IV-B",
          "Bytes that a copy moves in a cycle."},
    Field{"host.command_queue_depth", &Config::command_queue_depth, 1, 1024, "commands", "", "IV-B",
          "Commands that wait in an accelerator while it works."},
    Field{"format.scaling", &Config::scaling, 0, 0, "", "", "IV-E",
          "What the host multiplies Q, K and V by before rounding: nothing, or a power of two per "
          "head that uses the format's range."},
    Field{"format.qkv_integer_bits", &Config::qkv_integer_bits, 0, 10, "bits", "", "IV-E",
          "Integer bits of the fixed-point queries, keys and values, beside one sign bit."},
    Field{"format.qkv_fraction_bits", &Config::qkv_fraction_bits, 0, 10, "bits", "", "IV-E",
          "Fraction bits of the queries, keys and values."},
    Field{"format.qkv_rounding", &Config::qkv_rounding, 0, 0, "", "", "IV-E",
          "Rounding of the queries, keys and values, and of the mean row."},
    Field{"format.hash_fraction_bits", &Config::hash_fraction_bits, 1, 14, "bits", "", "IV-E",
          "Fraction bits of the hash matrices, beside one sign bit."},
    Field{"format.hash_stage_fraction_bits", &Config::hash_stage_fraction_bits, 0, 20, "bits", "",
          "IV-E", "Fraction bits kept after each factor of the hash (floor)."},
    Field{"format.norm_bits", &Config::norm_bits, 1, 16, "bits", "", "IV-C",
          "Bits of a stored key norm, without sign."},
    Field{"format.norm_fraction_bits", &Config::norm_fraction_bits, 0, 10, "bits", "", "IV-C",
          "Of these, fraction bits without scaling; with it, the host shifts each head's norms "
          "into the range."},
    Field{"format.sqrt_table_entries", &Config::sqrt_table_entries, 2, 4096, "entries", "", "IV-E",
          "Entries of the square root's table."},
    Field{"format.sqrt_fraction_bits", &Config::sqrt_fraction_bits, 1, 16, "bits", "", "IV-E",
          "Fraction bits of an entry of the square root's table."},
    Field{"format.cosine_fraction_bits", &Config::cosine_fraction_bits, 1, 15, "bits", "", "IV-C",
          "Fraction bits of an entry of the cosine table, beside one sign bit; 1 saturates."},
    Field{"format.threshold_fraction_bits", &Config::threshold_fraction_bits, 1, 15, "bits", "",
          "IV-C", "Fraction bits of the threshold t, beside one sign bit; it saturates below 1."},
    Field{"format.score_constant_bits", &Config::score_constant_bits, 2, 16, "bits", "", "IV-E",
          "Significant bits of the constant between a dot product and the exponent of 2."},
    Field{"format.exp_table_entries", &Config::exp_table_entries, 2, 4096, "entries", "", "IV-E",
          "Entries of the table of 2^x for the fraction of x."},
    Field{"format.float_exponent_bits", &Config::float_exponent_bits, 4, 10, "bits", "", "IV-E",
          "Exponent bits of the floating-point values from the exponential on."},
    Field{"format.float_fraction_bits", &Config::float_fraction_bits, 1, 12, "bits", "", "IV-E",
          "Fraction bits of the exponential's result, beside one sign bit."},
    Field{"format.accumulator", &Config::accumulator, 0, 0, "", "", "IV-E",
          "What the sums of a bank are kept in: custom floating point, or integers that share an "
          "exponent."},
    Field{"format.accumulator_fraction_bits", &Config::accumulator_fraction_bits, 1, 16, "bits", "",
          "IV-E",
          "Fraction bits of the weighted sums: of the floating-point value, or of the integers "
          "below the last bit of a value V."},
    Field{"format.sum_fraction_bits", &Config::sum_fraction_bits, 1, 16, "bits", "", "IV-E",
          "Fraction bits of the sum of exponentials."},
    Field{"format.accumulator_rounding", &Config::accumulator_rounding, 0, 0, "", "", "IV-E",
          "Rounding of each addition (floating point) or of each product (integers)."},
    Field{"format.reciprocal_table_entries", &Config::reciprocal_table_entries, 2, 4096, "entries",
          "", "IV-E", "Entries of the table of reciprocals, indexed by leading fraction bits."},
    Field{"format.reciprocal_fraction_bits", &Config::reciprocal_fraction_bits, 1, 16, "bits", "",
          "IV-E", "Fraction bits of an entry of the table of reciprocals."},
    Field{"format.output_rounding", &Config::output_rounding, 0, 0, "", "", "IV-E",
          "Rounding of the output, whose format is that of V."},
};

// Our choice: the forms whose factors a hash module can hold in registers and multiply by.
constexpr std::array kHashForms{HashKind::kKronecker3, HashKind::kKronecker2, HashKind::kDense};
constexpr std::array kRemainders{Remainder::kNone, Remainder::kMean};
constexpr std::array kTransfers{HostTransfer::kReference, HostTransfer::kCopy};
constexpr std::array kScalings{HostScaling::kNone, HostScaling::kPowerOfTwo};
constexpr std::array kRoundings{Rounding::kNearestEven, Rounding::kNearestUp, Rounding::kFloor,
                                Rounding::kTowardZero};
constexpr std::array kAccumulators{Accumulator::kFloat, Accumulator::kInteger};

constexpr std::string_view Name(HostTransfer value) {
  return value == HostTransfer::kCopy ? "copy" : "reference";
}
constexpr std::string_view Name(HostScaling value) {
  return value == HostScaling::kPowerOfTwo ? "power_of_two" : "none";
}
constexpr std::string_view Name(Rounding value) {
  constexpr std::array<std::string_view, 4> kNames{"nearest_even", "nearest_up", "floor",
                                                   "toward_zero"};
  return kNames[static_cast<std::size_t>(value)];
}
constexpr std::string_view Name(Accumulator value) {
  return value == Accumulator::kInteger ? "integer" : "float";
}

// What a field of words accepts.
constexpr std::span<const HashKind> Choices(HashKind Config::*) { return kHashForms; }
constexpr std::span<const Remainder> Choices(Remainder Config::*) { return kRemainders; }
constexpr std::span<const HostTransfer> Choices(HostTransfer Config::*) { return kTransfers; }
constexpr std::span<const HostScaling> Choices(HostScaling Config::*) { return kScalings; }
constexpr std::span<const Rounding> Choices(Rounding Config::*) { return kRoundings; }
constexpr std::span<const Accumulator> Choices(Accumulator Config::*) { return kAccumulators; }

// Calls `integer` with the member pointer of an integer, else `word` with that of a word.
template <typename OnInteger, typename OnWord>
auto Visit(const Field& field, const OnInteger& integer, const OnWord& word) {
  return std::visit(
      [&](auto member) {
        if constexpr (std::is_same_v<decltype(member), std::int64_t Config::*>) {
          return integer(member);
        } else {
          return word(member);
        }
      },
      field.member);
}

bool IsFormat(const Field& field) { return field.key.starts_with("format."); }

bool IsPowerOfTwo(std::int64_t value) { return value > 0 && (value & (value - 1)) == 0; }

std::string Is(std::string_view key, std::int64_t value) {
  return std::string(key) + " = " + std::to_string(value);
}

std::optional<ConfigProblem> RangeProblem(const Config& config, const Field& field) {
  const bool ok = Visit(
      field,
      [&](auto member) { return config.*member >= field.min && config.*member <= field.max; },
      [&](auto member) {
        const auto choices = Choices(member);
        return std::find(choices.begin(), choices.end(), config.*member) != choices.end();
      });
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

// What the number formats have to fulfil together.
std::optional<ConfigProblem> FormatProblem(const Config& config) {
  const auto problem = [](std::string_view key, const std::string& expected, std::int64_t got) {
    return ConfigProblem{key, expected, std::to_string(got)};
  };
  // Our choice: dot products and accumulators of every machine fit 32 bits.
  const std::int64_t magnitude = config.qkv_integer_bits + config.qkv_fraction_bits;
  const std::int64_t most = std::min<std::int64_t>(11, (30 - CeilLog2(config.d)) / 2);
  if (magnitude < 1 || magnitude > most) {
    return problem("format.qkv_fraction_bits",
                   "1 to " + std::to_string(most) + " bits together with " +
                       Is("format.qkv_integer_bits", config.qkv_integer_bits) +
                       ", so that dot products fit 32 bits",
                   config.qkv_fraction_bits);
  }
  const std::int64_t growth = magnitude + 2 + CeilLog2(config.n / config.banks + 1);
  if (config.accumulator == Accumulator::kInteger &&
      growth + config.accumulator_fraction_bits > 30) {
    return problem("format.accumulator_fraction_bits",
                   "at most " + std::to_string(30 - growth) + ", so that sums fit 32 bits",
                   config.accumulator_fraction_bits);
  }
  if (config.hash_stage_fraction_bits > config.qkv_fraction_bits + config.hash_fraction_bits) {
    return problem("format.hash_stage_fraction_bits",
                   "at most the " +
                       std::to_string(config.qkv_fraction_bits + config.hash_fraction_bits) +
                       " that a product has (qkv_fraction_bits + hash_fraction_bits)",
                   config.hash_stage_fraction_bits);
  }
  // Tables are indexed by leading fraction bits (Sec. IV-E); a divisor's fraction has only so many.
  if (!IsPowerOfTwo(config.exp_table_entries)) {
    return problem("format.exp_table_entries", "a power of two", config.exp_table_entries);
  }
  if (!IsPowerOfTwo(config.sqrt_table_entries)) {
    return problem("format.sqrt_table_entries", "a power of two", config.sqrt_table_entries);
  }
  if (!IsPowerOfTwo(config.reciprocal_table_entries) ||
      config.reciprocal_table_entries > (std::int64_t{1} << config.sum_fraction_bits)) {
    return problem("format.reciprocal_table_entries",
                   "a power of two, at most 2^" + std::to_string(config.sum_fraction_bits) +
                       " (sum_fraction_bits)",
                   config.reciprocal_table_entries);
  }
  return std::nullopt;
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
  return Visit(
      field,
      [&](auto member) {
        std::int64_t value = 0;
        const char* end = text.data() + text.size();
        const auto result = std::from_chars(text.data(), end, value);
        if (result.ec != std::errc() || result.ptr != end) return false;
        config->*member = value;
        return true;
      },
      [&](auto member) {
        for (const auto choice : Choices(member)) {
          if (Name(choice) != text) continue;
          config->*member = choice;
          return true;
        }
        return false;
      });
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
  return FormatProblem(config);
}

std::span<const Field> Fields() { return kFields; }

std::string ValueText(const Config& config, const Field& field) {
  return Visit(
      field, [&](auto member) { return std::to_string(config.*member); },
      [&](auto member) { return std::string(Name(config.*member)); });
}

std::string RangeText(const Field& field) {
  return Visit(
      field,
      [&](auto) {
        return "integer " + std::to_string(field.min) + " to " + std::to_string(field.max);
      },
      [&](auto member) {
        std::string words;
        for (const auto choice : Choices(member)) {
          words += (words.empty() ? "one of " : ", ") + std::string(Name(choice));
        }
        return words;
      });
}

void SetFormats(Config* config, std::string_view set) {
  Config formats;  // the paper's
  if (set == "recommended") {
    formats.scaling = HostScaling::kPowerOfTwo;
    formats.hash_stage_fraction_bits = 3;
    formats.accumulator = Accumulator::kInteger;
    formats.accumulator_fraction_bits = 3;
    formats.sum_fraction_bits = 8;
    formats.accumulator_rounding = Rounding::kNearestUp;
    formats.reciprocal_fraction_bits = 8;
  } else if (set != "paper-literal") {
    throw Error(
        ErrorCode::kInvalidArgument,
        "formats: expected one of paper-literal, recommended, got '" + Printable(set) + "'");
  }
  for (const Field& field : kFields) {
    if (IsFormat(field)) SetValue(config, field, ValueText(formats, field));
  }
}

std::string_view FormatSetOf(const Config& config) {
  for (const std::string_view set : kFormatSets) {
    Config named = config;
    SetFormats(&named, set);
    if (named == config) return set;
  }
  return "custom";
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
