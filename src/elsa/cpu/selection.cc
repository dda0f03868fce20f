#include "elsa/cpu/selection.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "elsa/cpu/key_sketch.h"
#include "elsa/cpu/largest_norm.h"
#include "elsa/cpu/visibility.h"
#include "elsa/reference/angle.h"

namespace elsa::cpu {
namespace {

// Our choice: few enough that hashes, masks and patterns of a tile stay in the L1 and L2 caches,
// enough to use each of the filter's tables often.
constexpr std::int64_t kTile = 128;

// The filter's side of a threshold: cut-offs of the keys of one sketch, for one value of t * K_max.
struct Limits {
  const Sketch* keys = nullptr;
  float cut = 0;
  std::int64_t end = 0;  // keys [0, end) have limits
  const std::int16_t* cut_offs = nullptr;
  const std::byte* planes = nullptr;  // null if the hash is too long for bit planes
};

// Memory of Limits.
struct LimitBuffers {
  Buffer cut_offs;
  Buffer planes;
};

// One query under decision.
struct Item {
  std::int64_t query = 0;
  std::int64_t end = 0;  // it sees keys below this, at most
  const Sketch* keys = nullptr;
  float norm_max = 0;
  const std::uint64_t* visible = nullptr;  // null: all keys below end
};

// Whether `a` comes before `b` where items with the same limits lie together.
bool Before(const Item& a, const Item& b) {
  if (a.keys != b.keys) return std::less<>()(a.keys, b.keys);
  return a.norm_max < b.norm_max;
}

struct Scratch {
  Item items[kTile];
  std::int32_t order[kTile];
  Buffer query_bits;
  Buffer query_norms;
  Buffer patterns;
  Buffer visible;
  Buffer floats[2];
  Buffer words[2];
  LimitBuffers limits;
};

Scratch& ThreadScratch() {
  static thread_local Scratch scratch;
  return scratch;
}

// The heads of a layer mostly share theta_bias: the table of the last one is kept.
std::vector<float> Cosines(std::int64_t k, double theta_bias_rad) {
  static thread_local std::vector<float> table;
  static thread_local double table_bias = 0;
  if (static_cast<std::int64_t>(table.size()) != k + 1 || table_bias != theta_bias_rad) {
    table = reference::CosineTable(k, theta_bias_rad);
    table_bias = theta_bias_rad;
  }
  return table;
}

void SetBits(std::uint64_t* mask, std::int64_t first, std::int64_t end) {
  for (std::int64_t j = first; j < end;) {
    const std::int64_t last = std::min(end, (j / 64 + 1) * 64);
    const std::uint64_t upper = last % 64 == 0 ? 0 : ~std::uint64_t{0} << (last % 64);
    mask[j / 64] |= (~std::uint64_t{0} << (j % 64)) & ~upper;
    j = last;
  }
}

// The first and the last of the visible keys, as many as the plan always keeps.
void SetAlwaysKept(const Plan& plan, const Item& item, std::int64_t visible, std::uint64_t* mask) {
  const std::int64_t first = std::min(plan.always_keep_first, visible);
  const std::int64_t recent = std::min(plan.always_keep_recent, visible);
  if (item.visible == nullptr) {
    SetBits(mask, 0, first);
    SetBits(mask, item.end - recent, item.end);
    return;
  }
  std::int64_t left = first;
  for (std::int64_t w = 0; left > 0; ++w) {
    for (std::uint64_t bits = item.visible[w]; bits != 0 && left > 0; bits &= bits - 1, --left) {
      mask[w] |= bits & -bits;
    }
  }
  left = recent;
  for (std::int64_t w = (item.end - 1) / 64; left > 0; --w) {
    for (std::uint64_t bits = item.visible[w]; bits != 0 && left > 0; --left) {
      const std::uint64_t top = std::uint64_t{1} << (63 - __builtin_clzll(bits));
      mask[w] |= top;
      bits &= ~top;
    }
  }
}

}  // namespace

struct HeadSelection::State {
  State(const Inputs& inputs, const Plan& plan, std::int64_t layer, std::int64_t batch,
        std::int64_t head, std::shared_ptr<const KeySketch> keys, const KernelSet& kernels);

  void DecideTile(std::int64_t first, std::int64_t step, std::int64_t count, std::uint64_t* masks,
                  QueryCount* counts) const;

 private:
  const Sketch& KeysFor(std::int64_t visible) const;
  Limits MakeLimits(const Sketch& keys, float norm_max, std::int64_t end,
                    LimitBuffers& buffers) const;
  void KeepLimits();
  Limits LimitsFor(const Sketch& keys, float norm_max, std::int64_t end) const;
  void Filter(const Item* items, std::int64_t item_count, const std::int32_t* order,
              std::int64_t count, const std::uint64_t* query_bits, std::uint64_t* masks) const;
  bool Describe(std::int64_t first, std::int64_t step, std::int64_t count, QueryCount* counts,
                std::int64_t* tested) const;
  void FilterGroup(const Item* items, const std::int32_t* order, std::int64_t count,
                   const Limits& limits, const std::uint64_t* query_bits,
                   const std::uint16_t* patterns, std::uint64_t* masks) const;
  // The visible keys of an item as a mask, whether or not it has one.
  const std::uint64_t* VisibleWords(const Item& item) const;
  void TestScores(const Item& item, const std::uint64_t* query_bits, float query_norm,
                  std::uint64_t* mask) const;
  void KeepLargest(const Item& item, const std::uint64_t* query_bits, float query_norm,
                   std::uint64_t* mask) const;

 public:
  const Inputs& inputs;
  const Plan& plan;
  const KernelSet& kernels;
  const SelectKernels& select;
  const std::int64_t batch;
  const std::int64_t head;
  const Visibility visibility;

 private:
  const std::shared_ptr<const KeySketch> shared_;
  std::shared_ptr<const Sketch> plain_;
  std::shared_ptr<const Sketch> centred_;
  const std::vector<float> cosines_;
  const float limit_;
  const bool by_distance_;
  const SelectKernels::FilterSizes sizes_;
  LargestNorm plain_largest_;
  LargestNorm centred_largest_;
  std::vector<Limits> limits_;  // made once, for the thresholds of most queries
  std::vector<LimitBuffers> limit_buffers_;
};

HeadSelection::State::State(const Inputs& inputs_in, const Plan& plan_in, std::int64_t layer,
                            std::int64_t batch_in, std::int64_t head_in,
                            std::shared_ptr<const KeySketch> keys, const KernelSet& kernels_in)
    : inputs(inputs_in),
      plan(plan_in),
      kernels(kernels_in),
      select(*kernels_in.select),
      batch(batch_in),
      head(head_in),
      visibility(inputs_in, batch_in, head_in, kernels_in),
      shared_(std::move(keys)),
      plain_(shared_->plain),
      centred_(shared_->centred),
      cosines_(Cosines(plan_in.hash.k, plan_in.ThetaBias(layer, head_in))),
      limit_(static_cast<float>(plan_in.thresholds[layer][head_in])),
      by_distance_(DecidesByDistance(plan_in, inputs_in)),
      sizes_(kernels_in.select->filter_sizes(plan_in.hash.k)) {
  if (centred_ == nullptr && (plan.centring == Centring::kOn || plain_ == nullptr ||
                              (plan.centring == Centring::kByLength && visibility.masked()))) {
    centred_ = MakeCentred(inputs, plan, *shared_->hash, batch, head, kernels);
  }
  if (plan.rule == Rule::kGap) return;  // compares scores with each other
  if (plain_ != nullptr) plain_largest_ = LargestNorm(*plain_, visibility);
  if (centred_ != nullptr) centred_largest_ = LargestNorm(*centred_, visibility);
  if (by_distance_) KeepLimits();
}

const Sketch& HeadSelection::State::KeysFor(std::int64_t visible) const {
  const bool centred = plan.centring == Centring::kOn ||
                       (plan.centring == Centring::kByLength && visible >= plan.centring_min_keys);
  return centred ? *centred_ : *plain_;
}

Limits HeadSelection::State::MakeLimits(const Sketch& keys, float norm_max, std::int64_t end,
                                        LimitBuffers& buffers) const {
  const std::int64_t block = select.block_keys;
  const std::int64_t blocks = (end + block - 1) / block;
  auto* cut_offs = buffers.cut_offs.Get<std::int16_t>(end);
  Limits limits{&keys, limit_ * norm_max, end, cut_offs, nullptr};
  select.cut_offs(keys.norms(), end, cosines_.data(), plan.hash.k, limits.cut, cut_offs);
  if (sizes_.table_bytes == 0) return limits;
  auto* planes = buffers.planes.Get<std::byte>(blocks * sizes_.limit_bytes);
  for (std::int64_t b = 0; b < blocks; ++b) {
    select.build_limits(cut_offs + b * block, std::min(block, end - b * block), plan.hash.k,
                        planes + b * sizes_.limit_bytes);
  }
  limits.planes = planes;
  return limits;
}

// Makes the limits that most queries share. Without a causal limit these are all queries; with one,
// the largest norm so far is a step function of the query, and steps are few unless norms rise all
// along: then the last steps, which are the longest, have to do.
void HeadSelection::State::KeepLimits() {
  const std::int64_t queries = visibility.queries();
  if (queries == 0) return;
  std::int64_t room = 4 * visibility.keys() + 4096;
  for (const Sketch* keys : {plain_.get(), centred_.get()}) {
    if (keys == nullptr) continue;
    const LargestNorm& largest = keys == plain_.get() ? plain_largest_ : centred_largest_;
    std::int64_t query = queries - 1;
    while (query >= 0) {
      const std::int64_t end = visibility.KeyEnd(query);
      if (end == 0 || room < end) break;
      room -= end;
      const float norm = largest.Of(end, nullptr);
      limit_buffers_.emplace_back();
      limits_.push_back(MakeLimits(*keys, norm, end, limit_buffers_.back()));
      if (!inputs.causal) break;
      const std::int64_t before = largest.FirstEndOf(norm) - inputs.causal_offset - 2;
      if (before >= query) break;
      query = before;
    }
  }
}

Limits HeadSelection::State::LimitsFor(const Sketch& keys, float norm_max, std::int64_t end) const {
  const float cut = limit_ * norm_max;
  for (const Limits& limits : limits_) {
    if (limits.keys == &keys && limits.end >= end && (limits.cut == cut)) return limits;
  }
  return MakeLimits(keys, norm_max, end, ThreadScratch().limits);
}

// The items in `order` share their limits.
void HeadSelection::State::FilterGroup(const Item* items, const std::int32_t* order,
                                       std::int64_t count, const Limits& limits,
                                       const std::uint64_t* query_bits,
                                       const std::uint16_t* patterns, std::uint64_t* masks) const {
  const std::int64_t words = visibility.words();
  const std::int64_t hash_words = shared_->hash->words();
  if (limits.planes == nullptr) {
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t at = order[i];
      select.filter_rows(query_bits + at * hash_words, limits.keys->bits(), limits.cut_offs,
                         items[at].end, hash_words, masks + at * words);
    }
    return;
  }
  const std::int64_t block = select.block_keys;
  for (std::int64_t i = 0; i < count;) {
    std::int64_t run = 1;  // of items that lie side by side; their ends do not fall
    while (i + run < count && order[i + run] == order[i] + run) ++run;
    const std::int64_t last = order[i] + run;
    for (std::int64_t b = 0; b * block < items[last - 1].end; ++b) {
      std::int64_t at = order[i];
      while (items[at].end <= b * block) ++at;
      select.filter_block(limits.keys->table(b), limits.planes + b * sizes_.limit_bytes,
                          patterns + at * sizes_.patterns, last - at, plan.hash.k,
                          masks + at * words + b * block / 64, words);
    }
    i += run;
  }
}

void HeadSelection::State::Filter(const Item* items, std::int64_t item_count,
                                  const std::int32_t* order, std::int64_t count,
                                  const std::uint64_t* query_bits, std::uint64_t* masks) const {
  const std::uint16_t* patterns = nullptr;
  if (sizes_.table_bytes > 0) {
    auto* to = ThreadScratch().patterns.Get<std::uint16_t>(item_count * sizes_.patterns + 16);
    select.query_patterns(query_bits, item_count, plan.hash.k, to);
    patterns = to;
  }
  for (std::int64_t i = 0; i < count;) {
    const Item& item = items[order[i]];
    std::int64_t end = item.end;
    std::int64_t group = 1;
    for (; i + group < count; ++group) {
      const Item& next = items[order[i + group]];
      if (next.keys != item.keys || next.norm_max != item.norm_max) break;
      end = std::max(end, next.end);
    }
    const Limits limits = LimitsFor(*item.keys, item.norm_max, end);
    FilterGroup(items, order + i, group, limits, query_bits, patterns, masks);
    i += group;
  }
}

const std::uint64_t* HeadSelection::State::VisibleWords(const Item& item) const {
  if (item.visible != nullptr) return item.visible;
  const std::int64_t words = visibility.words();
  auto* mask = ThreadScratch().words[0].Get<std::uint64_t>(words);
  std::fill(mask, mask + words, 0);
  SetBits(mask, 0, item.end);
  return mask;
}

// The gap rule, and thresholds with the bias in the test.
void HeadSelection::State::TestScores(const Item& item, const std::uint64_t* query_bits,
                                      float query_norm, std::uint64_t* mask) const {
  Scratch& scratch = ThreadScratch();
  const std::int64_t end = item.end;
  auto* values = scratch.floats[0].Get<float>(end);
  select.similarities(query_bits, item.keys->bits(), item.keys->norms(), cosines_.data(), end,
                      shared_->hash->words(), values);
  const float scale = static_cast<float>(inputs.scale) * query_norm;
  const float* bias = nullptr;
  if (plan.bias_in_test && inputs.bias) {
    bias = visibility.BiasRow(item.query, end, scratch.floats[1].Get<float>(end));
  }
  const std::uint64_t* endless = item.keys->endless();
  const std::int64_t words = (end + 63) / 64;
  if (plan.rule == Rule::kGap) {
    const std::uint64_t* visible = VisibleWords(item);
    auto* finite = scratch.words[1].Get<std::uint64_t>(words);
    for (std::int64_t w = 0; w < words; ++w) finite[w] = visible[w] & ~endless[w];
    select.scores(values, scale, bias, end, values);
    const std::int64_t best = select.first_largest(values, finite, end);
    select.gap_test(values, best >= 0 ? values[best] : 0, limit_, end, mask);
  } else {
    select.bias_test(values, scale, limit_ * item.norm_max, bias, end, mask);
  }
  for (std::int64_t w = 0; w < words; ++w) mask[w] |= endless[w];
}

void HeadSelection::State::KeepLargest(const Item& item, const std::uint64_t* query_bits,
                                       float query_norm, std::uint64_t* mask) const {
  Scratch& scratch = ThreadScratch();
  auto* values = scratch.floats[0].Get<float>(item.end);
  select.similarities(query_bits, item.keys->bits(), item.keys->norms(), cosines_.data(), item.end,
                      shared_->hash->words(), values);
  if (plan.bias_in_test && inputs.bias) {
    const float* bias =
        visibility.BiasRow(item.query, item.end, scratch.floats[1].Get<float>(item.end));
    select.scores(values, static_cast<float>(inputs.scale) * query_norm, bias, item.end, values);
  }
  const std::int64_t best = select.first_largest(values, VisibleWords(item), item.end);
  SetBits(mask, best, best + 1);
}

// Fills the items of a tile and what is known of their counts; lists those whose keys are to be
// tested. Returns whether these come in the order of their limits.
bool HeadSelection::State::Describe(std::int64_t first, std::int64_t step, std::int64_t count,
                                    QueryCount* counts, std::int64_t* tested) const {
  Scratch& scratch = ThreadScratch();
  const std::int64_t words = visibility.words();
  std::uint64_t* visible = nullptr;
  if (visibility.masked()) visible = scratch.visible.Get<std::uint64_t>(count * words);
  bool sorted = true;
  *tested = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    Item& item = scratch.items[i];
    const std::int64_t query = first + i * step;
    const std::int64_t end = visibility.KeyEnd(query);
    if (i > 0 && visible == nullptr && end == scratch.items[i - 1].end) {
      item = scratch.items[i - 1];
      counts[i] = counts[i - 1];
    } else {
      item = {query, end, nullptr, 0, nullptr};
      std::int64_t seen = end;
      if (visible != nullptr) {
        std::uint64_t* to = visible + i * words;
        visibility.MaskWords(query, scratch.floats[0].Get<float>(visibility.keys()), to);
        seen = select.keep_visible(to, nullptr, end, words);
        item.visible = to;
      }
      counts[i] = {static_cast<std::int32_t>(seen), 0, false, seen > 0 && seen < plan.dense_below};
      if (seen > 0 && !counts[i].exact) item.keys = &KeysFor(seen);
      if (item.keys != nullptr && plan.rule != Rule::kGap) {
        const bool centred = item.keys == centred_.get();
        item.norm_max = (centred ? centred_largest_ : plain_largest_).Of(end, item.visible);
      }
    }
    item.query = query;
    if (item.keys == nullptr) continue;
    if (*tested > 0) {
      sorted = sorted && !Before(item, scratch.items[scratch.order[*tested - 1]]);
    }
    scratch.order[(*tested)++] = static_cast<std::int32_t>(i);
  }
  return sorted;
}

// Queries first, first + step, ...: `count` <= kTile of them, none padded.
void HeadSelection::State::DecideTile(std::int64_t first, std::int64_t step, std::int64_t count,
                                      std::uint64_t* masks, QueryCount* counts) const {
  Scratch& scratch = ThreadScratch();
  const std::int64_t words = visibility.words();
  const HashProgram& hash = *shared_->hash;
  auto* query_bits = scratch.query_bits.Get<std::uint64_t>(count * hash.words());
  float* norms = by_distance_ ? nullptr : scratch.query_norms.Get<float>(count);
  HashRows(hash, kernels, RowsOf(inputs.query, batch, head, first, step, count), nullptr,
           query_bits, norms);

  const Item* items = scratch.items;
  std::int32_t* order = scratch.order;
  std::int64_t tested = 0;
  const bool sorted = Describe(first, step, count, counts, &tested);
  if (by_distance_) {
    if (!sorted) {
      std::stable_sort(order, order + tested,
                       [&](std::int32_t a, std::int32_t b) { return Before(items[a], items[b]); });
    }
    Filter(items, count, order, tested, query_bits, masks);
  } else {
    for (std::int64_t n = 0; n < tested; ++n) {
      const std::int64_t i = order[n];
      TestScores(items[i], query_bits + i * hash.words(), norms[i], masks + i * words);
    }
  }
  const bool always = plan.always_keep_first > 0 || plan.always_keep_recent > 0;
  for (std::int64_t i = 0; i < count; ++i) {
    std::uint64_t* mask = masks + i * words;
    const Item& item = items[i];
    if (counts[i].exact) SetBits(mask, 0, item.end);
    if (always && item.keys != nullptr) SetAlwaysKept(plan, item, counts[i].visible, mask);
    counts[i].kept =
        static_cast<std::int32_t>(select.keep_visible(mask, item.visible, item.end, words));
    if (counts[i].kept > 0 || counts[i].visible == 0) continue;
    KeepLargest(item, query_bits + i * hash.words(), norms != nullptr ? norms[i] : 0, mask);
    counts[i].kept = 1;
    counts[i].fallback = true;
  }
}

HeadSelection::HeadSelection(const Inputs& inputs, const Plan& plan, std::int64_t layer,
                             std::int64_t batch, std::int64_t head,
                             std::shared_ptr<const KeySketch> keys, const KernelSet& kernels)
    : state_(std::make_unique<State>(inputs, plan, layer, batch, head, std::move(keys), kernels)) {}

HeadSelection::~HeadSelection() = default;

std::int64_t HeadSelection::words() const { return state_->visibility.words(); }

void HeadSelection::Decide(std::int64_t first, std::int64_t count, std::uint64_t* masks,
                           QueryCount* counts) const {
  std::fill(masks, masks + count * words(), 0);
  std::fill(counts, counts + count, QueryCount());
  const std::int64_t real = std::min(count, state_->visibility.queries() - first);
  for (std::int64_t i = 0; i < real; i += kTile) {
    state_->DecideTile(first + i, 1, std::min(kTile, real - i), masks + i * words(), counts + i);
  }
}

double HeadSelection::SampleKeptFraction() const {
  // Our choice: 16 to 64 queries, evenly spaced: at most 0.4 % of the time of exact attention.
  constexpr std::int64_t kMost = 64;
  const std::int64_t queries = state_->visibility.queries();
  const std::int64_t wanted = std::clamp<std::int64_t>(queries / 32, 16, kMost);
  const std::int64_t step = std::max<std::int64_t>(queries / wanted, 1);
  const std::int64_t count = std::min((queries + step - 1) / step, kMost);
  std::vector<std::uint64_t> masks(count * words());
  std::vector<QueryCount> counts(count);
  if (count > 0) {
    state_->DecideTile(std::min(step / 2, queries - 1 - (count - 1) * step), step, count,
                       masks.data(), counts.data());
  }
  std::int64_t visible = 0;
  std::int64_t kept = 0;
  for (const QueryCount& query : counts) {
    visible += query.visible;
    kept += query.kept;
  }
  return visible > 0 ? static_cast<double>(kept) / static_cast<double>(visible) : 1;
}

}  // namespace elsa::cpu
