// How a module's figures follow from those of the measured machine when sizes, number formats or
// parallelism differ: one stated rule per module. Source: the modules of Sec. IV-C and IV-D give
// what a module is made of; the weights are our choice (docs/reference/cost.md says why). Exact for
// the measured machine, an estimate for any other. Not a synthesis result.
#ifndef ELSA_COST_SCALE_H_
#define ELSA_COST_SCALE_H_

#include <string>
#include <string_view>

#include "elsa/cost/technology.h"

namespace elsa::cost {

// What all instances of a module come to. Units: logic in cells, where a full adder and a
// flip-flop are one each; memories in bits.
struct Size {
  double stored = 0;    // area and leakage follow it
  double switched = 0;  // per cycle at full activity; dynamic energy per cycle follows it
};
Size SizeOf(Module module, const Config& config);

// The module of the table whose figures `module` is scaled from: itself, or the hash unit for the
// mean row, which is in no table. Our choice: as the hash unit, it is made of integer adders,
// multipliers and registers.
Module MeasuredModule(Module module);

// The rule in words, for documentation and provenance.
std::string_view Rule(Module module);

// The module in `config` over the same in the measured machine.
struct Scale {
  double size = 1;      // of area and static power
  double activity = 1;  // of dynamic energy per cycle
  // "ELSA, ISCA 2021, Table I, as measured", or with the factors and the rule.
  std::string provenance;
};
Scale ScaleOf(Module module, const Config& config, const Technology& technology);

// Figures of all instances of a module in the machine `config`, at its clock.
// `config` is valid. Errors: kUnsupported if the table lacks the module.
struct ModuleFigures {
  Module module = Module::kHashUnit;
  std::int64_t instances = 0;
  Figures figures;
  std::string provenance;
};
ModuleFigures FiguresOf(Module module, const Config& config, const Technology& technology);

// A number as provenance writes it: "0.4531".
std::string FourDigits(double value);

}  // namespace elsa::cost

#endif  // ELSA_COST_SCALE_H_
