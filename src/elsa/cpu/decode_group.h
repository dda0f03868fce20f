// One decode step of one GQA group: the queries that share a slab of a cache. What they keep is
// decided first, then every row that one of them keeps is read once.
#ifndef ELSA_CPU_DECODE_GROUP_H_
#define ELSA_CPU_DECODE_GROUP_H_

#include <cstdint>
#include <span>
#include <vector>

#include "elsa/cpu/kv_state.h"

namespace elsa::cpu {

// Keys are worked on in chunks of this many, whatever the threads, so that the order of sums does
// not depend on them. Our choice: 2 MB of binary32 rows of d = 64, a fair share of a 32k cache.
inline constexpr std::int64_t kDecodeChunk = 4096;

// What all groups of a call share.
struct DecodeCall {
  const Inputs& inputs;  // valid; the rows of key and value are not there
  const KernelSet& kernels;
  MutableTensor out;
  View<float, 3> log_sum_exp;
  Select select;
  bool group_union;
  // Of row (batch * heads + head) * n_q + i: the query, padded and times scale * log2(e); its hash;
  // its norm. Hash and norm only if the cache selects.
  const float* queries;
  const std::uint64_t* hashes;
  const float* norms;
};

// A call: Prepare; Filter of every chunk; Decide; Attend of every chunk; Finish. Chunks may run at
// once.
class DecodeGroup {
 public:
  DecodeGroup(const DecodeCall& call, KvState& state, std::int64_t batch, std::int64_t kv_head);

  void Prepare();
  void Filter(std::int64_t chunk);
  void Decide();
  void Attend(std::int64_t chunk);
  void Finish();

  std::int64_t chunks() const;
  // Counts of query head `g` of the group, and of the cache; after Finish.
  const HeadReport& report(std::int64_t g) const { return reports_[g]; }
  std::int64_t cut_off_rebuilds() const { return cut_off_rebuilds_; }
  std::int64_t mean_rebuilds() const { return mean_rebuilds_; }

 private:
  struct Query {
    std::int64_t head = 0;
    std::int64_t i = 0;
    std::int64_t end = 0;                    // keys from here on are out of sight
    std::int64_t visible = 0;                // how many it sees
    const std::uint64_t* seen = nullptr;     // a bit per key; null: all below end
    bool selects = false;                    // by the test; otherwise it keeps what it sees
    const std::int16_t* cut_offs = nullptr;  // null: the test needs the estimates themselves
    std::uint64_t* kept = nullptr;           // a bit per key; null: what it sees
    std::int64_t kept_count = 0;
    bool fallback = false;
  };

  std::int64_t words() const { return (size_ + 63) / 64; }
  std::int64_t Row(const Query& q) const;
  float Cut(const Query& q);
  void See(Query& q);
  bool SeesAlike(const Query& a, const Query& b) const;
  template <typename F>
  void ForVisible(const Query& q, const F& f) const;
  void UseCutOffs();
  Path PathBeforeFilter();
  double PickedRow() const;
  void TestEstimates(Query& q);
  void KeepAlways(Query& q);
  void KeepLargest(Query& q);
  void KeepUnion();
  std::int64_t UnionCount() const;
  void KeepAll(Path why);
  float EstimateBias(const Query& q, std::int64_t key) const;
  const float* Similarities(const Query& q);
  std::uint64_t* NewBits();

  DecodePart& Part(std::size_t query, std::int64_t chunk) {
    return parts_[chunk * queries_.size() + query];
  }
  DecodeRows ChunkRows(std::int64_t chunk) const;
  void AttendAdjacent(std::int64_t chunk, std::span<const std::size_t> queries);
  void AttendListed(std::int64_t chunk, std::span<const std::size_t> queries);
  const float* BiasOf(const Query& q, std::int64_t first, std::span<const std::uint32_t> keys,
                      std::vector<float>& buffer) const;
  void Merge(std::size_t query);
  void AddMeanRow(const Query& q, double& peak, double& sum, std::vector<double>& row);
  double MeanBias(const Query& q) const;
  std::vector<double> Sums(const Query& q);
  void Write(const Query& q, const std::vector<double>& row, double peak, double sum);
  void Count();

  const DecodeCall& call_;
  KvState& state_;
  std::int64_t b_;
  std::int64_t kv_head_;
  std::int64_t size_;
  DecodeRows rows_;
  std::vector<Query> queries_;
  std::vector<std::vector<std::uint64_t>> bits_;
  std::vector<std::vector<std::int16_t>> own_cut_offs_;
  std::vector<float> similarities_;
  std::vector<DecodePart> parts_;  // [chunk][query]
  std::vector<float> part_values_;
  std::vector<HeadReport> reports_;  // [query head of the group]
  std::vector<Path> paths_;          // likewise
  // Cut's last answer: heads of a group mostly see alike.
  const std::uint64_t* largest_seen_ = nullptr;
  std::int64_t largest_end_ = 0;
  float largest_norm_ = 0;
  std::int64_t cut_off_rebuilds_ = 0;
  std::int64_t mean_rebuilds_ = 0;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_DECODE_GROUP_H_
