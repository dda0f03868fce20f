// What a KvCache holds: rows, and what a plan's decisions need of each.
#ifndef ELSA_CPU_KV_STATE_H_
#define ELSA_CPU_KV_STATE_H_

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "elsa/cpu/hash_program.h"
#include "elsa/cpu/kernels/decode.h"
#include "elsa/cpu/kv_cache.h"
#include "elsa/cpu/kv_store.h"
#include "elsa/cpu/kv_sums.h"

namespace elsa::cpu {

// Columns of the store. Those of selection are there only with a plan that selects.
enum KvColumn : int {
  kRows,     // key, value: each padded with zeros to a multiple of 16 components
  kHashes,   // words of 64 bits
  kNorms,    // binary32
  kCutOffs,  // 16 bits; one column per query head of a group
};

// Of one (sequence, kv head).
struct KvSlab {
  struct HeadCutOffs {
    float cut = 0;           // t * K_max that the cut-offs were made for
    std::int64_t count = 0;  // keys that have one, the first so many
  };

  explicit KvSlab(std::int64_t group, std::int64_t row_elements)
      : cut_offs(group), sums(row_elements), seen_sums(row_elements) {}

  float norm_max = 0;  // of the finite key norms
  std::vector<HeadCutOffs> cut_offs;
  KvSums sums;  // with a mean row
  // Likewise of the keys [0, seen_end) that a mask shows, bit by bit: the next call's is most often
  // the same and a little longer.
  KvSums seen_sums;
  std::vector<std::uint64_t> seen;
  std::int64_t seen_end = 0;
  std::int64_t skip = 0;  // calls yet to compute exactly without asking the filter
};

struct KvState {
  KvState(const KvCacheOptions& options_in, std::shared_ptr<const Plan> plan_in,
          std::int64_t layer_in);

  std::int64_t group() const { return options.heads / options.kv_heads; }
  bool selects() const { return hash != nullptr; }
  bool has_mean_row() const { return selects() && plan->remainder == Remainder::kMean; }
  KvSlab& slab(std::int64_t b, std::int64_t kv_head) {
    return slabs[b * options.kv_heads + kv_head];
  }
  DecodeRows rows(std::int64_t b, std::int64_t kv_head) const;
  const float* norms(std::int64_t b, std::int64_t kv_head) const {
    return reinterpret_cast<const float*>(store.At(kNorms, b, kv_head));
  }
  const std::uint64_t* hashes(std::int64_t b, std::int64_t kv_head) const {
    return reinterpret_cast<const std::uint64_t*>(store.At(kHashes, b, kv_head));
  }

  void Append(const Tensor& key, const Tensor& value);
  void Erase(std::int64_t first, std::int64_t count);  // keys [first, first + count)
  void Truncate(std::int64_t length);
  void Reorder(std::span<const std::int64_t> order);

  // Cut-offs of keys [0, end) for t * K_max = cut, made anew if they are for another. `anew` counts
  // those times.
  const std::int16_t* CutOffs(std::int64_t b, std::int64_t head, float cut, std::int64_t end,
                              const KernelSet& kernels, std::int64_t& anew);
  // Sums of the rows that are seen among [0, end).
  const KvSums& SeenSums(std::int64_t b, std::int64_t kv_head, const std::uint64_t* seen,
                         std::int64_t end);
  // Sums of the rows [0, end); `anew` counts the times that they had to be made anew.
  KvSums Sums(std::int64_t b, std::int64_t kv_head, std::int64_t end, std::int64_t& anew);

  KvCacheOptions options;
  std::shared_ptr<const Plan> plan;
  std::int64_t layer;
  std::shared_ptr<const HashProgram> hash;  // null: no head selects
  std::vector<std::vector<float>> cosines;  // [head], tables
  KvStore store;
  std::vector<KvSlab> slabs;
  KvCacheStats stats;
};

// Components of a key or value as stored.
inline std::int64_t Padded(std::int64_t d) { return (d + 15) / 16 * 16; }

// Whether a plan tells keys apart by norms and hashes that a cache can hold (centring moves them).
bool Selects(const Plan* plan, std::int64_t layer);

// The largest of `so_far` and the finite norms.
float LargestNorm(const float* norms, std::int64_t count, float so_far);

// `count` components of a row in another type, zeros up to `padded`.
void ConvertRow(const std::byte* from, DType dtype, std::int64_t count, std::int64_t padded,
                DType to_dtype, std::byte* to);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KV_STATE_H_
