#include "elsa/sim/advice.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <optional>

#include "elsa/params/derived.h"

namespace elsa::sim {
namespace {

Report Run(const Config& config, std::span<const Work> work) {
  Report sum;
  for (const Work& head : work) sum += Simulate(config, head).report;
  return sum;
}

// The smallest divisor of `whole` that is at least `value`, if there is one.
std::optional<std::int64_t> DivisorFrom(std::int64_t whole, std::int64_t value) {
  for (std::int64_t i = value; i <= whole; ++i) {
    if (whole % i == 0) return i;
  }
  return std::nullopt;
}

// The next value to try, if the machine can have one.
std::optional<std::int64_t> Larger(const Config& config, std::int64_t Config::*member) {
  const std::int64_t twice = 2 * (config.*member);
  if (member == &Config::banks) return DivisorFrom(config.n, twice);
  if (member == &Config::hash_multipliers) {
    return DivisorFrom(Derive(config).hash_multiplications, twice);
  }
  if (member == &Config::division_multipliers) return DivisorFrom(config.d, twice);
  return twice;
}

// Not beyond what the field can have.
std::int64_t Capped(const Field& field, std::int64_t from, std::int64_t to) {
  return from < field.max ? std::min(to, field.max) : to;
}

const Field& FieldOf(std::int64_t Config::*member) {
  return *std::find_if(Fields().begin(), Fields().end(), [&](const Field& field) {
    return IsInteger(field) && std::get<std::int64_t Config::*>(field.member) == member;
  });
}

bool IsMachine(const Config& config) {
  try {
    ValidateConfig(config);
  } catch (const std::exception&) {
    return false;
  }
  return true;
}

std::string Percent(double share) { return std::to_string(std::llround(100 * share)) + " %"; }

// "1.37x"
std::string Times(double ratio) {
  const std::int64_t hundredths = std::llround(100 * ratio);
  const std::string rest = std::to_string(hundredths % 100);
  return std::to_string(hundredths / 100) + "." + (rest.size() == 1 ? "0" : "") + rest + "x";
}

std::string_view Meaning(Cause cause) {
  switch (cause) {
    case Cause::kBusy:
      return "all attention modules take a candidate";
    case Cause::kFill:
      return "the pipeline fills and drains";
    case Cause::kHash:
      return "banks wait for the hash unit";
    case Cause::kQueryBuffer:
      return "selectors wait for a query buffer";
    case Cause::kQueueFull:
    case Cause::kSelection:
      return "attention modules wait for the selectors to find candidates";
    case Cause::kOtherBanks:
      return "some banks have fewer candidates than the slowest and wait for it";
    case Cause::kDivision:
    case Cause::kSums:
      return "banks wait for the output divider";
    case Cause::kPhase:
    case Cause::kDone:
      break;
  }
  return "no module has work";
}

std::string Sentence(const Advice& advice) {
  std::string text = "Preprocessing takes " + Percent(advice.preprocess_share) +
                     " of the cycles; in " + Percent(advice.bound_share) + " of the others " +
                     std::string(Meaning(advice.bound)) + ".";
  if (advice.trials.empty()) return text + " No parameter of this machine can grow.";
  const Trial& best = advice.trials.front();
  const auto change = [](const Trial& trial) {
    const std::string_view name = trial.parameter.substr(trial.parameter.find('.') + 1);
    return std::string(name) + " " + std::to_string(trial.from) + " -> " +
           std::to_string(trial.to) + " gives " + Times(trial.speedup);
  };
  if (best.speedup < 1.005) return text + " No single parameter helps by half a percent.";
  text += " Most helps " + change(best);
  if (advice.trials.size() > 1 && advice.trials[1].speedup >= 1.005) {
    text += ", then " + change(advice.trials[1]);
  }
  return text + ".";
}

}  // namespace

Advice Advise(const Config& config, std::span<const Work> work) {
  const Report now = Run(config, work);
  Advice advice;
  advice.cycles = now.cycles;
  const auto share = [](std::int64_t part, std::int64_t whole) {
    return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
  };
  advice.preprocess_share = share(now.preprocess_cycles, now.cycles);
  advice.busy_share =
      share(now.machine[static_cast<std::size_t>(Cause::kBusy)], now.execute_cycles);
  for (std::size_t cause = 0; cause < kCauses; ++cause) {
    if (static_cast<Cause>(cause) == Cause::kPhase) continue;
    const double part = share(now.machine[cause], now.execute_cycles);
    if (part <= advice.bound_share) continue;
    advice.bound = static_cast<Cause>(cause);
    advice.bound_share = part;
  }
  for (const auto member :
       {&Config::banks, &Config::selectors_per_bank, &Config::hash_multipliers,
        &Config::division_multipliers, &Config::queue_depth, &Config::query_buffers}) {
    const std::optional<std::int64_t> larger = Larger(config, member);
    if (!larger) continue;
    const Field& field = FieldOf(member);
    Config changed = config;
    changed.*member = Capped(field, config.*member, *larger);
    if (!IsMachine(changed)) continue;
    Trial trial{field.key, config.*member, changed.*member, Run(changed, work).cycles, 1};
    trial.speedup =
        trial.cycles > 0 ? static_cast<double>(now.cycles) / static_cast<double>(trial.cycles) : 1;
    advice.trials.push_back(trial);
  }
  std::stable_sort(advice.trials.begin(), advice.trials.end(),
                   [](const Trial& a, const Trial& b) { return a.cycles < b.cycles; });
  advice.sentence = Sentence(advice);
  return advice;
}

}  // namespace elsa::sim
