// What the subcommands that read traces share: the views that the reference computes from, and
// whether a plan and an output path fit.
#ifndef ELSA_TOOLS_TRACE_INPUTS_H_
#define ELSA_TOOLS_TRACE_INPUTS_H_

#include <string>
#include <vector>

#include "elsa/io/trace_file.h"
#include "elsa/params/plan.h"
#include "elsa/reference/attention_inputs.h"

namespace elsa {

// The attention inputs of one layer. `trace` and `tensors` must outlive them.
reference::AttentionInputs InputsOf(const io::Trace& trace, const io::LayerTensors& tensors);

// Checks that a plan was made for the trace's model (where both name one) and shapes.
// Errors: kMismatch naming the plan's file, what, expected (the trace's), got (the plan's).
void RequirePlanFits(const Plan& plan, const std::string& plan_path, const io::Trace& trace);

// Checks before a long computation that `output` can be written, and is none of the inputs.
// Errors: kIo, kInvalidArgument.
void RequireWritable(const std::string& output, const std::vector<std::string>& inputs);

// Checks that two outputs are not the same file. Errors: kInvalidArgument.
void RequireApart(const std::string& one, const std::string& other);

}  // namespace elsa

#endif  // ELSA_TOOLS_TRACE_INPUTS_H_
