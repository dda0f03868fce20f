#include "elsa/params/markdown.h"

#include <sstream>

#include "elsa/params/derived.h"
#include "elsa/params/latency.h"

namespace elsa {
namespace {

constexpr std::string_view kIntroduction = R"(# Parameters

<!-- Written by `elsa params --markdown`; a test compares. Change src/elsa/params/ instead. -->

Every number of the accelerator, as the configuration files in `configs/` give it. A file must
have every key and no other. The C++ member and the Python attribute are the key's last part.
Words and symbols of the rest of the project: [glossary](glossary.md).

)";

constexpr std::string_view kRules = R"(
What the keys have to fulfil together:

- `banks` divides `n`, and `selectors_per_bank` is at most the keys of a bank.
- `d` is a product of as many integers above 1 as the hash form has factors.
- `hash_multipliers` divides the multiplications of one hash; `division_multipliers` divides `d`.
- Queries, keys and values have at most 12 bits, fewer for a large `d`: dot products fit 32 bits.
  So do integer accumulators.
- `hash_stage_fraction_bits` is at most what a product has.
- The tables have a power of two of entries; the reciprocal's at most one for each pattern of
  `sum_fraction_bits`.

The digest is a 64-bit FNV-1a of one `key=value` line per parameter, in the order of the table. It
is in every result, and results of different digests are not mixed.

## Derived values

For inputs of the full size n. W is the number of multiplications of one hash. Cycles are the
paper's closed forms; stalls are the simulator's business.

)";

constexpr std::string_view kLatencies = R"(
## Latencies

Cycles from one register to the next, written down once: the simulator and the SystemVerilog obey
this table. All are our choice, for a clock of 1 GHz in 40 nm; the paper states throughputs only.
How they add up: [accelerator](accelerator.md).

)";

std::string Code(std::string_view text) { return "`" + std::string(text) + "`"; }
std::string OrDash(std::string_view text) { return text.empty() ? "-" : std::string(text); }

}  // namespace

std::string ParametersMarkdown(const Config& config) {
  const Derived derived = Derive(config);
  std::ostringstream out;
  out << kIntroduction << "The column \"value\" is the machine of digest " << Code(Digest(config))
      << (config == Config() ? ", the one that the paper evaluates" : "") << ".\n\n"
      << "| key | symbol | value | unit | accepts | section | meaning |\n"
      << "| --- | --- | --- | --- | --- | --- | --- |\n";
  for (const Field& field : Fields()) {
    out << "| " << Code(field.key) << " | " << OrDash(field.symbol) << " | "
        << ValueText(config, field) << " | " << OrDash(field.unit) << " | " << RangeText(field)
        << " | " << field.section << " | " << field.doc << " |\n";
  }
  out << kRules << "| name | value | unit | formula | section | meaning |\n"
      << "| --- | --- | --- | --- | --- | --- |\n";
  for (const DerivedField& field : DerivedFields()) {
    out << "| " << Code(field.name) << " | " << ValueText(derived, field) << " | " << field.unit
        << " | " << field.formula << " | " << field.section << " | " << field.doc << " |\n";
  }
  const Latencies latencies = LatenciesOf(config);
  out << kLatencies << "| name | value | module | formula | meaning |\n"
      << "| --- | --- | --- | --- | --- |\n";
  for (const LatencyField& field : LatencyFields()) {
    out << "| " << Code(field.name) << " | " << latencies.*field.member << " | " << field.module
        << " | " << OrDash(field.formula) << " | " << field.doc << " |\n";
  }
  return out.str();
}

}  // namespace elsa
