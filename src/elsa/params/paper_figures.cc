#include "elsa/params/paper_figures.h"

#include "elsa/base/error.h"
#include "elsa/params/config_check.h"
#include "elsa/params/toml.h"

namespace elsa {

PaperFigures PaperFigures::Parse(std::string_view toml, std::string_view name) {
  TomlReader reader(toml, name);
  PaperFigures figures;
  for (const auto& [section, line] : reader.document().sections()) {
    const std::string prefix = section + ".";
    PaperFigure figure;
    figure.where = reader.Words(prefix + "where");
    figure.what = reader.Words(prefix + "what");
    figure.unit = reader.Words(prefix + "unit");
    bool any = false;
    for (const auto& [key, entry] : reader.document().entries()) {
      const std::string_view word = TomlName(key);
      if (TomlSection(key) != section || word == "where" || word == "what" || word == "unit") {
        continue;
      }
      figure.value = reader.PositiveNumber(key);
      figures.figures_.emplace(key, figure);
      any = true;
    }
    if (!any) reader.document().Fail(line, section, "at least one number", "none");
  }
  return figures;
}

const PaperFigure& PaperFigures::At(std::string_view key) const {
  const auto found = figures_.find(key);
  if (found == figures_.end()) {
    throw Error(ErrorCode::kInvalidArgument,
                "figure of the paper: expected a name of the file, got '" + Printable(key) + "'");
  }
  return found->second;
}

double PaperFigures::Ratio(std::string_view key, std::string_view base) const {
  const PaperFigure& above = At(key);
  const PaperFigure& below = At(base);
  if (above.unit != below.unit) {
    throw Error(ErrorCode::kInvalidArgument, Printable(key) + " over " + Printable(base) +
                                                 ": expected figures of one unit, got " +
                                                 Printable(above.unit) + " and " +
                                                 Printable(below.unit));
  }
  return above.value / below.value;
}

}  // namespace elsa
