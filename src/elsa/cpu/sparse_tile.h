// One tile of queries of one (batch, head): decide, list, score, softmax, sum. Source: Sec. III-D.
#ifndef ELSA_CPU_SPARSE_TILE_H_
#define ELSA_CPU_SPARSE_TILE_H_

#include <cstdint>

#include "elsa/cpu/exact_attention.h"
#include "elsa/cpu/mean_row.h"
#include "elsa/cpu/selection.h"
#include "elsa/cpu/sparse_rows.h"
#include "elsa/reference/attention.h"

namespace elsa::cpu {

// How work is cut. Never changes which keys are kept; sums are made in the same order for every
// tile.
struct TileShape {
  std::int64_t queries = 128;
  std::int64_t super_block = 2048;  // keys; a multiple of 64, 32768 at most
  int key_block = 2;                // words of 64 keys
  int value_block = 2;
};

// One (batch, head) that is selected.
struct SparseHead {
  HeadItem item;
  const HeadSelection* selection = nullptr;
  const PackedHead* rows = nullptr;
  const MeanRows* mean = nullptr;  // null: dropped keys are forgotten
  TileShape shape;
};

// Computes queries [first, first + count), at most shape.queries of them, padding included, and
// returns their counts.
reference::HeadStats AttendTile(const Call& call, const SparseHead& head, std::int64_t first,
                                std::int64_t count);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_SPARSE_TILE_H_
