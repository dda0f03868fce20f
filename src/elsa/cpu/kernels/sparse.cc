#include "elsa/cpu/kernels/sparse.h"

#include "elsa/cpu/kernels/simd.h"
#include "elsa/cpu/kernels/sparse_int16.h"
#include "elsa/cpu/kernels/sparse_int8.h"
#include "elsa/cpu/kernels/sparse_lists.h"
#include "elsa/cpu/kernels/sparse_quantize.h"
#include "elsa/cpu/kernels/sparse_rows.h"
#include "elsa/cpu/kernels/sparse_scores.h"
#include "elsa/cpu/kernels/sparse_softmax.h"
#include "elsa/cpu/kernels/sparse_values.h"

namespace elsa::cpu::ELSA_CPU_TARGET {

extern const SparseKernels kSparse;
const SparseKernels kSparse = {
    .pack = Pack,
    .list = List,
    .scores = Scores,
    .softmax = Softmax,
    .values = Values,
    .scores16 = Scores16,
    .softmax16 = Softmax16,
    .values16 = Values16,
#if defined(__AVX2__)
    .scores8 = Scores8,
    .quantize_keys8 = QuantizeKeys8,
    .quantize_queries8 = QuantizeQueries8,
#else
    .scores8 = nullptr,
    .quantize_keys8 = nullptr,
    .quantize_queries8 = nullptr,
#endif
    .value_multiple16 = 2 * kLanes,
    .extent = Extent,
    .quantize_rows = QuantizeRows,
    .quantize_values = QuantizeValues,
    .quantize_queries = QuantizeQueries,
    .add_rows = AddRows,
    .scale_sums = ScaleSums,
    .scale_row = ScaleRow,
    .store_row = StoreRow,
    .dot = Dot,
};

}  // namespace elsa::cpu::ELSA_CPU_TARGET
