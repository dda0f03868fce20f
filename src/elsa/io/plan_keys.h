// Keys of the plan file that depend on the plan. Private to io.
#ifndef ELSA_IO_PLAN_KEYS_H_
#define ELSA_IO_PLAN_KEYS_H_

#include <string_view>

#include "elsa/params/plan.h"

namespace elsa::io {

// The word for the target inside "target": what the rule aims at.
inline std::string_view TargetKey(Rule rule) {
  if (rule == Rule::kPaper) return "p";
  return rule == Rule::kBudget ? "kept_fraction" : "mass";
}

}  // namespace elsa::io

#endif  // ELSA_IO_PLAN_KEYS_H_
