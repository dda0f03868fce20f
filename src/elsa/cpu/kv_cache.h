// Decoding against a cache: keys and values are appended as they come, and one query or a few
// attend to all of them, exactly or over the keys that a plan selects. Source: Sec. II-A, Sec. III;
// the cache is ours (the paper's machine takes whole sequences).
//
// The meaning is cpu::Attend's (reference::Attend's) on the cached rows, rounded to the storage
// type: the same keys bit for bit, the same counts, outputs within the error of binary32.
//
// A growing K_max. Thresholds are relative to the largest key norm that a query sees. What a cached
// key may be away from a query (its cut-off) is therefore only good for one K_max:
// cut-offs carry the value they were made for, and a query that sees another one (a longer key
// came, the longest one was evicted or masked) has them made anew before it decides. No decision is
// ever taken with an older K_max. That costs one pass over the norms, about ln(n) times while n
// keys arrive; KvCacheStats::cut_off_rebuilds counts it.
#ifndef ELSA_CPU_KV_CACHE_H_
#define ELSA_CPU_KV_CACHE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "elsa/base/view.h"
#include "elsa/cpu/attention.h"
#include "elsa/cpu/executor.h"
#include "elsa/cpu/target.h"
#include "elsa/cpu/tensor.h"
#include "elsa/params/plan.h"

namespace elsa::cpu {

struct KvCacheOptions {
  std::int64_t batch = 1;
  std::int64_t kv_heads = 1;
  std::int64_t heads = 1;     // query heads; a multiple of kv_heads
  std::int64_t d = 64;        // components of queries and keys, 1 to kMaxD
  std::int64_t d_v = 64;      // components of values, 1 to kMaxD
  DType dtype = DType::kF32;  // what keys and values are stored as; computed with in binary32
  std::int64_t capacity = 0;  // keys to make room for at once; grows by half when it is full
};

struct DecodeOptions {
  double scale = 1;    // of the scores, usually 1/sqrt(d)
  bool causal = true;  // the n_q queries are the last n_q positions of the cache
  // Optional [batch, heads, n_q, size()]; nonzero = visible. Strides of 0 broadcast, as of a
  // padding mask [batch, size()].
  View<const std::uint8_t, 4> mask = {};
  Tensor bias = {};               // optional [batch, heads, n_q, size()] of any dtype
  Select select = Select::kAuto;  // kAlways: the keys of reference::Attend
  // Every query head of a GQA group keeps what any of them keeps: more keys than the plan asks
  // for, never fewer, for one pass over the cache. Heads that share K and V only.
  bool group_union = false;
  Executor* executor = nullptr;                 // null: DefaultExecutor(). Never changes the result
  std::optional<Target> target = std::nullopt;  // default: SelectedTarget()
  View<float, 3> log_sum_exp = {};              // optional [batch, heads, n_q], as in AttendOptions
};

// Counts since the cache was made.
struct KvCacheStats {
  std::int64_t appended = 0;          // keys per sequence
  std::int64_t evicted = 0;           // keys per sequence
  std::int64_t moves = 0;             // times that all rows moved: growth, or room at the front
  std::int64_t cut_off_rebuilds = 0;  // times that a head's cut-offs were made anew for a new K_max
  std::int64_t mean_rebuilds = 0;     // times that the sums of a mean row were made anew
};

// The keys and values of one layer. All sequences of the batch have the same number of keys; mask
// the padding of shorter ones. Calls of one cache must not overlap in time. A call that throws
// changes nothing.
class KvCache {
 public:
  // `plan` null: exact attention. Otherwise `layer` of it, whose hash, thresholds and always-keep
  // sets the cache follows. Errors: kInvalidArgument naming the option; those of
  // reference::ValidatePlanFits.
  explicit KvCache(const KvCacheOptions& options, std::shared_ptr<const Plan> plan = nullptr,
                   std::int64_t layer = 0);
  ~KvCache();
  KvCache(KvCache&&) noexcept;
  KvCache& operator=(KvCache&&) noexcept;

  const KvCacheOptions& options() const;  // batch as Reorder left it
  std::int64_t size() const;              // keys per sequence
  std::int64_t capacity() const;          // keys per sequence that fit without growing
  std::int64_t bytes() const;             // memory held
  const KvCacheStats& stats() const;

  // Adds n_new keys and values at the end, rounded to the storage type.
  // Shapes: key [batch, kv_heads, n_new, d], value [batch, kv_heads, n_new, d_v]; any dtype, last
  // stride 1. Errors: kInvalidArgument naming argument, expected and got; std::bad_alloc.
  void Append(const Tensor& key, const Tensor& value);

  // Removes the oldest `count` keys, for a sliding window. The first plan->always_keep_first keys
  // (attention sinks) stay: the ones removed come after them.
  // Errors: kInvalidArgument if that many are not there.
  void EvictFront(std::int64_t count);

  // Keeps the first `length` keys: takes back what was appended, as speculative decoding does.
  // Errors: kInvalidArgument unless 0 <= length <= size().
  void Truncate(std::int64_t length);
  void Clear() { Truncate(0); }

  // Sequence i becomes a copy of what sequence rows[i] was, for beam search. The batch becomes
  // rows.size(). Errors: kInvalidArgument if a row is not one of the batch; std::bad_alloc.
  void Reorder(std::span<const std::int64_t> rows);

  // Attention of n_q queries over the cached keys; 1 or a few are what this is fast for.
  // Shapes: query [batch, heads, n_q, d]; out [batch, heads, n_q, d_v], float32 or query's dtype.
  // Errors: those of cpu::Attend; kInvalidArgument if causal and n_q > size().
  Report Attend(const Tensor& query, const MutableTensor& out, const DecodeOptions& options = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace elsa::cpu

#endif  // ELSA_CPU_KV_CACHE_H_
