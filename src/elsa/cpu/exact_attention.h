// Exact attention of some heads of a call. Source: Sec. II-A, Fig. 1.
#ifndef ELSA_CPU_EXACT_ATTENTION_H_
#define ELSA_CPU_EXACT_ATTENTION_H_

#include <cstdint>
#include <span>

#include "elsa/base/view.h"
#include "elsa/cpu/executor.h"
#include "elsa/cpu/inputs.h"
#include "elsa/cpu/kernels/kernel_set.h"

namespace elsa::cpu {

struct HeadItem {
  std::int64_t batch = 0;
  std::int64_t head = 0;
};

// Where results go. log_sum_exp is null if nobody asked.
struct Output {
  MutableTensor out;
  View<float, 3> log_sum_exp;
};

// What is computed and on what. All of it is valid (ValidateInputs).
struct Call {
  const Inputs& inputs;
  const Output& output;
  const KernelSet& kernels;
  Executor& executor;
  bool bits16;  // K, V and weights in 16 bits; else binary32
};

// Writes the rows of `heads`, every row of each: zeros where padding or nothing visible. The bits
// do not depend on the executor or on which heads are listed together.
void ExactAttention(const Call& call, std::span<const HeadItem> heads);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_EXACT_ATTENTION_H_
