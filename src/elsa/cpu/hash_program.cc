#include "elsa/cpu/hash_program.h"

#include "elsa/cpu/buffer.h"
#include "elsa/params/hash_shape.h"
#include "elsa/reference/hash.h"

namespace elsa::cpu {

std::shared_ptr<const HashProgram> MakeHashProgram(const HashSpec& hash, std::int64_t d) {
  reference::RequireHashTakes(hash, d);
  auto program = std::make_shared<HashProgram>();
  program->spec = hash;
  bool in_place = true;
  for (std::int64_t position : InputPositions(hash, d)) {
    in_place = in_place && position == static_cast<std::int64_t>(program->positions.size());
    program->positions.push_back(static_cast<std::int32_t>(position));
  }
  for (const HashBatch& batch : program->spec.batches) {
    for (const Matrix& factor : batch.factors) {
      program->factors.push_back({factor.values.data(), factor.rows, factor.cols});
    }
  }
  const HashFactor* next = program->factors.data();
  for (const HashBatch& batch : program->spec.batches) {
    const auto count = static_cast<std::int64_t>(batch.factors.size());
    program->batches.push_back({batch.bits, next, count});
    next += count;
  }
  program->view = {hash.kind == HashKind::kHadamard,
                   hash.d,
                   hash.k,
                   d,
                   in_place ? nullptr : program->positions.data(),
                   program->batches.data(),
                   static_cast<std::int64_t>(program->batches.size())};
  return program;
}

void HashRows(const HashProgram& hash, const KernelSet& kernels, const RowsView& rows,
              const float* origin, std::uint64_t* bits, float* norms) {
  static thread_local Buffer buffer;
  float* scratch = buffer.Get<float>(kernels.select->hash_scratch(hash.view));
  kernels.select->hash_rows(hash.view, rows, origin, scratch, bits, norms);
}

}  // namespace elsa::cpu
