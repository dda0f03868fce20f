#include "elsa/cpu/kernels/sparse.h"

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse_lists.h"
#include "elsa/cpu/kernels/sparse_rows.h"
#include "elsa/cpu/kernels/sparse_scores.h"
#include "elsa/cpu/kernels/sparse_softmax.h"
#include "elsa/cpu/kernels/sparse_values.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const SparseKernels kSparse;
const SparseKernels kSparse = {Pack,    List,      Scores,   Softmax, Values,
                               AddRows, ScaleSums, ScaleRow, Dot};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
