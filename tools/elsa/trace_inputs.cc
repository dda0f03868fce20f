#include "elsa/trace_inputs.h"

#include <filesystem>
#include <system_error>

#include "elsa/base/error.h"
#include "elsa/io/atomic_file.h"

namespace elsa {
namespace {

void RequireSame(const std::string& where, const std::string& trace_path,
                 const std::string& expected, const std::string& got) {
  if (expected == got) return;
  throw Error(ErrorCode::kMismatch,
              where + ": expected " + expected + " as in " + trace_path + ", got " + got);
}

}  // namespace

reference::AttentionInputs InputsOf(const io::Trace& trace, const io::LayerTensors& tensors) {
  reference::AttentionInputs inputs;
  inputs.query = tensors.q;
  inputs.key = tensors.k;
  inputs.value = tensors.v;
  inputs.bias = tensors.bias;
  inputs.scale = trace.scale();
  inputs.causal = trace.causal();
  inputs.key_lengths = trace.lengths();
  // Lengths are those of the keys; queries share them in self-attention only (Trace::RealQueries).
  if (trace.n_q() == trace.n_k()) inputs.query_lengths = trace.lengths();
  return inputs;
}

void RequirePlanFits(const Plan& plan, const std::string& plan_path, const io::Trace& trace) {
  if (!plan.model.empty() && !trace.model().empty()) {
    RequireSame(plan_path + ": model", trace.path(), "'" + trace.model() + "'",
                "'" + plan.model + "'");
  }
  RequireSame(plan_path + ": layers", trace.path(), std::to_string(trace.layers()),
              std::to_string(plan.layers()));
  for (std::int64_t layer = 0; layer < trace.layers(); ++layer) {
    const std::string where = plan_path + ": layer " + std::to_string(layer);
    RequireSame(where + ": heads", trace.path(), std::to_string(trace.shape(layer).heads),
                std::to_string(plan.thresholds[layer].size()));
    // A hash may take more components than the vectors have, not fewer.
    const std::int64_t d = trace.shape(layer).d;
    if (plan.hash.d < d) {
      throw Error(ErrorCode::kMismatch, where + ": d: expected " + std::to_string(d) +
                                            " or more as in " + trace.path() + ", got " +
                                            std::to_string(plan.hash.d));
    }
  }
}

void RequireWritable(const std::string& output, const std::vector<std::string>& inputs) {
  if (output.empty()) {
    throw Error(ErrorCode::kInvalidArgument, "output: expected a file name, got an empty one");
  }
  for (const std::string& input : inputs) {
    std::error_code missing;  // an output that does not exist yet equals no input
    if (std::filesystem::equivalent(output, input, missing)) {
      throw Error(ErrorCode::kInvalidArgument,
                  output + ": expected an output other than the inputs, got the input " + input);
    }
  }
  const io::AtomicFile probe(output);  // creates its temporary file and removes it again
}

void RequireApart(const std::string& one, const std::string& other) {
  std::error_code failed;  // a path that cannot be followed is refused by RequireWritable
  if (std::filesystem::weakly_canonical(one, failed) !=
      std::filesystem::weakly_canonical(other, failed)) {
    return;
  }
  throw Error(ErrorCode::kInvalidArgument,
              other + ": expected an output of its own, got the same file twice");
}

}  // namespace elsa
