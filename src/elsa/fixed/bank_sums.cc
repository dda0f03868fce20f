#include "elsa/fixed/bank_sums.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "elsa/fixed/rounding.h"

namespace elsa::fixed {
namespace {

// 2^exponent for the exponents of normal numbers.
double PowerOfTwo(std::int64_t exponent) {
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

// What the loops need to know of a float format.
struct Grid {
  explicit Grid(const FloatFormat& format)
      : dropped(52 - format.fraction_bits),
        low_bits((std::uint64_t{1} << dropped) - 1),
        unit(low_bits + 1),
        smallest(PowerOfTwo(format.min_exponent())),
        largest((2 - PowerOfTwo(-format.fraction_bits)) * PowerOfTwo(format.max_exponent())) {}
  std::int64_t dropped;    // how many of a double's fraction bits the format does not have
  std::uint64_t low_bits;  // of a double's bits, those that the format does not have
  std::uint64_t unit;      // the lowest bit that it has
  double smallest;
  double largest;
};

// The bits of a double sum of which the last bit says whether the exact sum has more bits: "round
// to odd". Rounding these once more to fewer bits gives what rounding the exact sum does.
inline std::uint64_t OddBits(double sum, double term) {
  const double rounded = sum + term;
  const double part = rounded - sum;
  const double error = (sum - (rounded - part)) + (term - part);  // exact sum - rounded
  const auto bits = std::bit_cast<std::uint64_t>(rounded);
  const std::uint64_t towards_zero = (std::bit_cast<std::uint64_t>(error) ^ bits) >> 63;
  const std::uint64_t move = error != 0 ? ~bits & 1 : 0;
  return bits + (towards_zero != 0 ? -move : move);
}

// sum + term, rounded once to the grid, saturated or flushed: fixed::Add. kOdd: see NeedsOdd.
template <Rounding kMode, bool kOdd>
inline double AddOnGrid(double sum, double term, const Grid& grid) {
  auto bits = kOdd ? OddBits(sum, term) : std::bit_cast<std::uint64_t>(sum + term);
  const std::uint64_t sign = bits >> 63;
  if constexpr (kMode == Rounding::kNearestEven) {
    bits += grid.low_bits / 2 + ((bits >> grid.dropped) & 1);
  } else if constexpr (kMode == Rounding::kNearestUp) {
    bits += grid.unit / 2 - sign;  // a negative tie stays below the half
  } else if constexpr (kMode == Rounding::kFloor) {
    bits += sign != 0 && (bits & grid.low_bits) != 0 ? grid.unit : 0;
  }
  const double result = std::bit_cast<double>(bits & ~grid.low_bits);
  const double bounded = std::min(std::max(result, -grid.largest), grid.largest);
  return std::abs(bounded) < grid.smallest ? 0.0 : bounded;
}

template <Rounding kMode, bool kOdd>
void AddProducts(double weight, const std::int16_t* value, std::int64_t count, const Grid& grid,
                 double* sums) {
  const Grid local = grid;  // not behind a pointer that the stores could change
  for (std::int64_t c = 0; c < count; ++c) {
    sums[c] = AddOnGrid<kMode, kOdd>(sums[c], weight * value[c], local);
  }
}

// RoundShift for |value| < 2^29 and 0 < shift <= 30.
template <Rounding kMode>
inline std::int32_t RoundShift32(std::int32_t value, int shift) {
  const std::int32_t half = std::int32_t{1} << (shift - 1);
  if constexpr (kMode == Rounding::kNearestEven) {
    return (value + (half - 1) + ((value >> shift) & 1)) >> shift;
  } else if constexpr (kMode == Rounding::kNearestUp) {
    return (value + half) >> shift;
  } else if constexpr (kMode == Rounding::kFloor) {
    return value >> shift;
  } else {
    return (value + ((value >> 31) & (2 * (half - 1) + 1))) >> shift;
  }
}

template <Rounding kMode>
void AddAligned(std::int16_t weight, const std::int16_t* value, std::int64_t count, int shift,
                std::int32_t* sums) {
  if (shift <= 0) {
    const std::int32_t up = std::int32_t{1} << -shift;
    for (std::int64_t c = 0; c < count; ++c) {
      sums[c] += std::int32_t{weight} * std::int32_t{value[c]} * up;
    }
    return;
  }
  for (std::int64_t c = 0; c < count; ++c) {
    sums[c] += RoundShift32<kMode>(std::int32_t{weight} * std::int32_t{value[c]}, shift);
  }
}

// Calls body with the mode as a constant.
template <typename Body>
void WithMode(Rounding mode, const Body& body) {
  switch (mode) {
    case Rounding::kNearestEven:
      return body.template operator()<Rounding::kNearestEven>();
    case Rounding::kNearestUp:
      return body.template operator()<Rounding::kNearestUp>();
    case Rounding::kFloor:
      return body.template operator()<Rounding::kFloor>();
    case Rounding::kTowardZero:
      return body.template operator()<Rounding::kTowardZero>();
  }
}

// The code of a number that the format has.
FloatCode CodeOf(const FloatFormat& format, double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto biased = static_cast<std::int64_t>((bits >> 52) & 0x7ff);
  if (biased == 0) return 0;
  const std::uint64_t field = static_cast<std::uint64_t>(biased - 1023 + format.bias());
  const std::uint64_t fraction =
      (bits & ((std::uint64_t{1} << 52) - 1)) >> (52 - format.fraction_bits);
  const std::uint64_t sign = bits >> 63 << format.exponent_bits;
  return static_cast<FloatCode>((sign + field) << format.fraction_bits | fraction);
}

}  // namespace

FastBankSums::FastBankSums(const Config& config, std::int64_t d_v)
    : is_float_(config.accumulator == Accumulator::kFloat),
      rounding_(config.accumulator_rounding),
      weight_bits_(config.float_fraction_bits),
      value_integer_bits_(config.qkv_integer_bits),
      value_bits_(config.qkv_fraction_bits),
      sum_format_(WeightSumFormat(config)),
      output_format_(OutputSumFormat(config)),
      sums_(is_float_ ? d_v : 0),
      outputs_(is_float_ ? 0 : d_v) {}

void FastBankSums::Start() {
  weight_sum_ = 0;
  lowest_exponent_ = sum_format_.max_exponent();
  exponent_ = is_float_ ? 0 : sum_format_.min_exponent();
  weights_ = 0;
  std::fill(sums_.begin(), sums_.end(), 0.0);
  std::fill(outputs_.begin(), outputs_.end(), 0);
}

void FastBankSums::Add(const Weight& weight, const std::int16_t* value) {
  if (is_float_) {
    AddFloat(weight, value);
  } else {
    AddInteger(weight, value);
  }
}

// Whether a double sum of this weight's products may differ from the exact one where that matters.
bool FastBankSums::NeedsOdd(std::int64_t exponent) {
  lowest_exponent_ = std::min(lowest_exponent_, exponent);
  // The directed modes have to see the smallest term.
  if (rounding_ == Rounding::kFloor || rounding_ == Rounding::kTowardZero) return true;
  // To nearest, a term that is lost below the 53rd bit does no harm: it is below 2^-27 of a sum
  // that has at most 17 bits, far from any tie. A sum that is lost below a term does, because the
  // term may be a tie. No sum has a bit below those of the smallest term so far: all are in the
  // double if the new term begins at most 51 bits above that, which leaves one for the carry.
  const std::int64_t top = exponent + 1 + value_integer_bits_;
  const std::int64_t bottom = lowest_exponent_ - weight_bits_ - value_bits_;
  return top - bottom > 51;
}

void FastBankSums::AddFloat(const Weight& weight, const std::int16_t* value) {
  const double number = weight.significand * PowerOfTwo(weight.exponent - weight_bits_);
  const double scaled = number * PowerOfTwo(-value_bits_);  // values are integers
  const auto count = static_cast<std::int64_t>(sums_.size());
  const bool odd = NeedsOdd(weight.exponent);
  WithMode(rounding_, [&]<Rounding kMode>() {
    if (odd) {
      weight_sum_ = AddOnGrid<kMode, true>(weight_sum_, number, Grid(sum_format_));
      AddProducts<kMode, true>(scaled, value, count, Grid(output_format_), sums_.data());
    } else {
      weight_sum_ = AddOnGrid<kMode, false>(weight_sum_, number, Grid(sum_format_));
      AddProducts<kMode, false>(scaled, value, count, Grid(output_format_), sums_.data());
    }
  });
}

void FastBankSums::AddInteger(const Weight& weight, const std::int16_t* value) {
  if (weight.exponent > exponent_) {
    const std::int64_t growth = weight.exponent - exponent_;
    exponent_ = weight.exponent;
    weights_ = RoundShift(weights_, growth, Rounding::kFloor);
    const int shift = static_cast<int>(std::min<std::int64_t>(growth, 31));
    for (std::int32_t& output : outputs_) output >>= shift;
  }
  const std::int64_t down = weight_bits_ + exponent_ - weight.exponent;
  const std::int64_t weight_down = down - sum_format_.fraction_bits;
  weights_ += weight_down >= 0 ? RoundShift(weight.significand, weight_down, rounding_)
                               : std::int64_t{weight.significand} << -weight_down;
  // A product has at most 25 bits: all shifts from 30 on have the same result.
  const int output_down =
      static_cast<int>(std::min<std::int64_t>(down - output_format_.fraction_bits, 30));
  WithMode(rounding_, [&]<Rounding kMode>() {
    AddAligned<kMode>(static_cast<std::int16_t>(weight.significand), value,
                      static_cast<std::int64_t>(outputs_.size()), output_down, outputs_.data());
  });
}

void FastBankSums::CopyTo(BankSums& sums) const {
  sums.exponent = exponent_;
  if (is_float_) {
    sums.weights = CodeOf(sum_format_, weight_sum_);
    sums.outputs.resize(sums_.size());
    for (std::size_t c = 0; c < sums_.size(); ++c) {
      sums.outputs[c] = CodeOf(output_format_, sums_[c]);
    }
  } else {
    sums.weights = weights_;
    sums.outputs.assign(outputs_.begin(), outputs_.end());
  }
}

}  // namespace elsa::fixed
