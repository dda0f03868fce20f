// Plans as JSON files: readable by people, byte for byte the same for the same plan, and read back
// without loss. The fields are listed in docs/reference/files.md; their meaning is
// elsa/params/plan.h.
#ifndef ELSA_IO_PLAN_FILE_H_
#define ELSA_IO_PLAN_FILE_H_

#include <string>
#include <string_view>

#include "elsa/params/plan.h"

namespace elsa::io {

// Reads a plan from text and validates it. `name` stands for the file in errors.
// Errors: kInvalidFormat naming the field: unknown, missing or duplicate keys, wrong types, wrong
// sizes, numbers out of range, a profile that does not follow from the options; kUnsupported:
// another format version.
Plan ParsePlan(std::string_view json, const std::string& name);

// The plan as text. ParsePlan(FormatPlan(plan)) == plan. Errors: kInvalidArgument from
// ValidatePlan.
std::string FormatPlan(const Plan& plan);

// The same on files. Errors: kIo too. Writing is atomic.
Plan ReadPlan(const std::string& path);
void WritePlan(const std::string& path, const Plan& plan);

}  // namespace elsa::io

#endif  // ELSA_IO_PLAN_FILE_H_
