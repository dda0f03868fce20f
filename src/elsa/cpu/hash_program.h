// A plan's hash in the form that kernels take. Source: Sec. III-B, III-C.
#ifndef ELSA_CPU_HASH_PROGRAM_H_
#define ELSA_CPU_HASH_PROGRAM_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "elsa/cpu/kernels/kernel_set.h"
#include "elsa/cpu/kernels/select.h"
#include "elsa/cpu/tensor.h"
#include "elsa/params/plan.h"

namespace elsa::cpu {

// Owns what `view` points to.
struct HashProgram {
  HashSpec spec;
  std::vector<std::int32_t> positions;
  std::vector<HashFactor> factors;
  std::vector<HashBatchView> batches;
  HashView view;

  std::int64_t words() const { return view.words(); }
};

// Of rows of d components, which go where InputPositions says. Errors: kMismatch if the hash takes
// fewer.
std::shared_ptr<const HashProgram> MakeHashProgram(const HashSpec& hash, std::int64_t d);

// Hashes and norms (null: not wanted) of rows, minus `origin` unless that is null; see
// SelectKernels::hash_rows. Thread-safe.
void HashRows(const HashProgram& hash, const KernelSet& kernels, const RowsView& rows,
              const float* origin, std::uint64_t* bits, float* norms);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_HASH_PROGRAM_H_
