// docs/reference/parameters.md as text, written from the field tables so that it cannot disagree
// with the code. The command line prints it: elsa params --markdown.
#ifndef ELSA_PARAMS_MARKDOWN_H_
#define ELSA_PARAMS_MARKDOWN_H_

#include <string>

#include "elsa/params/config.h"

namespace elsa {

// Every parameter and derived value: meaning, unit, range, symbol, section, and its value in
// `config`. Errors: kInvalidArgument as ValidateConfig.
std::string ParametersMarkdown(const Config& config);

}  // namespace elsa

#endif  // ELSA_PARAMS_MARKDOWN_H_
