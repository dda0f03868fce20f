#include "elsa/cost/scale.h"

#include <array>
#include <charconv>

#include "elsa/params/derived.h"

namespace elsa::cost {
namespace {

// Our choice: a bit that is stored in flip-flops and read through multiplexers is two cells.
// Origin: our open synthesis (data/tech/open-nangate45.toml), 8.6 um2 per bit of a loaded table and
// 9.5 of a queue, against 4.3 to 4.5 for a full adder or a flip-flop of that library.
constexpr double kStoredBitCells = 2;

constexpr std::array<std::string_view, kModules> kRules{
    "m_h multipliers with adder and register, stored hash factors and query buffers",
    "one unit, linear in norm bits",
    "P_a P_c selectors: k bits compared and counted, k + 1 cosines, a multiplier, a queue",
    "P_a units: d multipliers and a tree for scores, d multipliers and sums for values",
    "m_o multipliers, (P_a - 1) m_o adders",
    "area by n k bits, activity by P_a P_c hashes read per cycle",
    "area by n norms, activity by P_a P_c norms read per cycle",
    "area by n d values, activity by P_a rows read per cycle",
    "area by n d values, activity by one row per cycle",
    "two column sums of d values, registers for the two mean rows, a multiplier for the weight",
};

double BitsToCount(std::int64_t value) {
  std::int64_t bits = 0;
  while ((std::int64_t{1} << bits) < value) ++bits;
  return static_cast<double>(bits);
}

// The widths and counts that sizes are made of.
struct Widths {
  explicit Widths(const Config& c)
      : n(static_cast<double>(c.n)),
        d(static_cast<double>(c.d)),
        k(static_cast<double>(c.k)),
        banks(static_cast<double>(c.banks)),
        selectors(static_cast<double>(c.selectors_per_bank)),
        qkv(static_cast<double>(1 + c.qkv_integer_bits + c.qkv_fraction_bits)),
        hash(static_cast<double>(1 + c.hash_fraction_bits)),
        norm(static_cast<double>(c.norm_bits)),
        cosine(static_cast<double>(1 + c.cosine_fraction_bits)),
        weight(static_cast<double>(1 + c.float_fraction_bits)),
        row_index(BitsToCount(c.n / c.banks)),
        sum(static_cast<double>(2 + c.accumulator_fraction_bits)),
        reciprocal(static_cast<double>(1 + c.reciprocal_fraction_bits)) {}
  double n, d, k, banks, selectors;
  double qkv, hash, norm, cosine, weight, row_index, sum, reciprocal;
};

// One of the d sums of weighted values. Floating point: align, add, normalise and round the
// significand, compare and adjust the exponent, register. Integer: shift, add, register.
double SumCells(const Config& c, const Widths& w) {
  const auto exponent = static_cast<double>(c.float_exponent_bits);
  if (c.accumulator == Accumulator::kFloat) return 4 * w.sum + 2 * exponent + w.sum + exponent;
  const double width = w.qkv + static_cast<double>(c.accumulator_fraction_bits) + w.row_index;
  return 3 * width;
}

double HashCells(const Config& c, const Widths& w) {
  const double product = w.qkv + w.hash;
  const auto factors = static_cast<double>(Derive(c).hash_registers);
  return static_cast<double>(c.hash_multipliers) * (w.qkv * w.hash + 2 * product) +
         kStoredBitCells * factors * w.hash +
         kStoredBitCells * static_cast<double>(c.query_buffers) * (w.d * w.qkv + w.k);
}

double SelectorCells(const Config& c, const Widths& w) {
  const double table = (w.k + 1) * w.cosine;
  const double queue = static_cast<double>(c.queue_depth) * w.row_index;
  return w.banks * w.selectors * (2 * w.k + w.cosine * w.norm + kStoredBitCells * (table + queue));
}

double AttentionCells(const Config& c, const Widths& w) {
  const double product = 2 * w.qkv;
  const double score = w.d * (w.qkv * w.qkv + 2 * product);  // multiplier, tree adder, register
  const double scale = (product + BitsToCount(c.d)) * static_cast<double>(c.score_constant_bits);
  const double value = w.d * (w.qkv * w.weight + SumCells(c, w));
  return w.banks * (score + scale + value);
}

double DividerCells(const Config& c, const Widths& w) {
  const auto multipliers = static_cast<double>(c.division_multipliers);
  return multipliers * (w.sum * w.reciprocal + w.qkv) +
         (w.banks - 1) * multipliers * SumCells(c, w);
}

double MeanRowCells(const Config& c, const Widths& w) {
  const double sum = w.qkv + BitsToCount(c.n);
  return 2 * w.d * 2 * sum + 2 * w.d * w.qkv + w.weight * BitsToCount(c.n + 1);
}

}  // namespace

std::string FourDigits(double value) {
  char text[32];  // not printf: its decimal point follows the locale
  const auto end =
      std::to_chars(text, text + sizeof(text), value, std::chars_format::general, 4).ptr;
  return std::string(text, end);
}

std::string_view Rule(Module module) { return kRules[static_cast<std::size_t>(module)]; }

Module MeasuredModule(Module module) {
  return module == Module::kMeanRow ? Module::kHashUnit : module;
}

Size SizeOf(Module module, const Config& config) {
  const Widths w(config);
  const auto logic = [](double cells) { return Size{cells, cells}; };
  switch (module) {
    case Module::kHashUnit:
      return logic(HashCells(config, w));
    case Module::kNormUnit:
      return logic(w.norm);
    case Module::kCandidateSelector:
      return logic(SelectorCells(config, w));
    case Module::kAttentionUnit:
      return logic(AttentionCells(config, w));
    case Module::kOutputDivider:
      return logic(DividerCells(config, w));
    case Module::kKeyHashMemory:
      return {w.n * w.k, w.banks * w.selectors * w.k};
    case Module::kKeyNormMemory:
      return {w.n * w.norm, w.banks * w.selectors * w.norm};
    case Module::kKeyValueMemory:
      return {2 * w.n * w.d * w.qkv, 2 * w.banks * w.d * w.qkv};
    case Module::kQueryOutputMemory:
      return {2 * w.n * w.d * w.qkv, 2 * w.d * w.qkv};
    case Module::kMeanRow:
      return logic(config.remainder == Remainder::kMean ? MeanRowCells(config, w) : 0);
  }
  return {};
}

Scale ScaleOf(Module module, const Config& config, const Technology& technology) {
  const Module basis = MeasuredModule(module);
  const Size ours = SizeOf(module, config);
  const Size measured = SizeOf(basis, technology.measured);
  Scale scale;
  scale.size = ours.stored / measured.stored;
  scale.activity = ours.switched / measured.switched;
  scale.provenance = technology.Provenance();
  if (basis != module) {
    scale.provenance += ", cells of " + std::string(Name(basis)) + " times " +
                        FourDigits(scale.size) + " (" + std::string(Rule(module)) + ")";
  } else if (scale.size != 1 || scale.activity != 1) {
    scale.provenance += ", area times " + FourDigits(scale.size) + ", dynamic times " +
                        FourDigits(scale.activity) + " (" + std::string(Rule(module)) + ")";
  } else {
    scale.provenance += technology.scaled.empty() ? ", as measured" : "";
  }
  return scale;
}

ModuleFigures FiguresOf(Module module, const Config& config, const Technology& technology) {
  const Figures measured = MeasuredFigures(technology, MeasuredModule(module));
  Scale scale = ScaleOf(module, config, technology);
  const double clock =
      static_cast<double>(config.clock_hz) / static_cast<double>(technology.measured.clock_hz);
  ModuleFigures result;
  result.module = module;
  result.instances = Instances(module, config);
  result.figures.area_mm2 = measured.area_mm2 * scale.size;
  result.figures.dynamic_mw = measured.dynamic_mw * scale.activity * clock;
  result.figures.static_mw = measured.static_mw * scale.size;
  if (clock != 1) {
    scale.provenance += ", dynamic power at " + FourDigits(clock) + " of the measured clock";
  }
  result.provenance = std::move(scale.provenance);
  return result;
}

}  // namespace elsa::cost
