// The numbers that the paper reports about its machine (Sec. V), read from
// data/paper/evaluation.toml: what results of ours are set beside. Not Table I, which is
// elsa/cost/technology.h's. Files are read by the caller.
#ifndef ELSA_PARAMS_PAPER_FIGURES_H_
#define ELSA_PARAMS_PAPER_FIGURES_H_

#include <map>
#include <string>
#include <string_view>

namespace elsa {

struct PaperFigure {
  double value = 0;
  std::string unit;   // "times", "fraction", "W"
  std::string where;  // "Fig. 11(a), Sec. V-C"
  std::string what;
};

class PaperFigures {
 public:
  // Reads the figures: sections of `where`, `what`, `unit` and at least one number.
  // Errors: kInvalidFormat, "evaluation.toml:12: power.twelve: expected a positive number, got x".
  static PaperFigures Parse(std::string_view toml, std::string_view name);

  // A figure by "section.name", for example "throughput_over_v100.base_min".
  // Errors: kInvalidArgument if there is none of that name.
  const PaperFigure& At(std::string_view key) const;
  double Value(std::string_view key) const { return At(key).value; }

  // One figure over another, for example energy efficiency over that of the base.
  // Errors: kInvalidArgument as At, or if their units differ.
  double Ratio(std::string_view key, std::string_view base) const;

  const std::map<std::string, PaperFigure, std::less<>>& all() const { return figures_; }

 private:
  std::map<std::string, PaperFigure, std::less<>> figures_;
};

}  // namespace elsa

#endif  // ELSA_PARAMS_PAPER_FIGURES_H_
