#include "elsa/cpu/decode_group.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "elsa/reference/selection.h"

namespace elsa::cpu {
namespace {

constexpr std::int64_t kFilterBlock = 512;  // keys whose hashes stay in the first-level cache

// What a row that is picked costs over one that is read in a row, with its share of the filter. Our
// choice, as measured on Zen 3: random rows of 256 to 1024 bytes came at 0.45 to 0.55 of the rate
// of adjacent ones, 16-bit rows at 0.4; and all heads of a union compute with every row.
constexpr double kPickedRow = 2;
constexpr double kPickedRow16 = 2.4;
constexpr double kPickedByUnion = 1.3;
constexpr std::int64_t kTooShort = 128;  // keys; below, everything is in a cache
constexpr std::int64_t kSkippedCalls = 15;

std::int64_t CountOnes(const std::uint64_t* bits, std::int64_t words) {
  std::int64_t count = 0;
  for (std::int64_t w = 0; w < words; ++w) count += std::popcount(bits[w]);
  return count;
}

// A bit for each of `count` bytes: whether it is nonzero.
void MaskBits(const std::uint8_t* mask, std::int64_t count, std::uint64_t* bits) {
  std::int64_t j = 0;
  for (; j + 8 <= count; j += 8) {
    std::uint64_t bytes = 0;
    for (int i = 0; i < 8; ++i) bytes |= std::uint64_t{mask[j + i] != 0} << (8 * i);
    // The product moves the lowest bit of byte i to bit 56 + i, and nothing else there.
    bits[j / 64] |= ((bytes * 0x0102040810204080) >> 56) << (j % 64);
  }
  for (; j < count; ++j) bits[j / 64] |= std::uint64_t{mask[j] != 0} << (j % 64);
}

}  // namespace

DecodeGroup::DecodeGroup(const DecodeCall& call, KvState& state, std::int64_t batch,
                         std::int64_t kv_head)
    : call_(call),
      state_(state),
      b_(batch),
      kv_head_(kv_head),
      size_(state.store.size()),
      rows_(state.rows(batch, kv_head)),
      reports_(state.group()),
      paths_(state.group(), Path::kExact) {}

std::int64_t DecodeGroup::chunks() const { return (size_ + kDecodeChunk - 1) / kDecodeChunk; }

std::int64_t DecodeGroup::Row(const Query& q) const {
  return (b_ * call_.inputs.heads() + q.head) * call_.inputs.query.shape[2] + q.i;
}

std::uint64_t* DecodeGroup::NewBits() {
  bits_.emplace_back(words(), 0);
  return bits_.back().data();
}

template <typename F>
void DecodeGroup::ForVisible(const Query& q, const F& f) const {
  for (std::int64_t j = 0; j < q.end; ++j) {
    if (q.seen == nullptr || (q.seen[j / 64] >> (j % 64) & 1) != 0) f(j);
  }
}

void DecodeGroup::Prepare() {
  const Inputs& in = call_.inputs;
  const Plan* plan = state_.plan.get();
  const std::int64_t n_q = in.query.shape[2];
  for (std::int64_t i = 0; i < n_q; ++i) {
    for (std::int64_t g = 0; g < state_.group(); ++g) {
      Query q;
      q.head = kv_head_ * state_.group() + g;
      q.i = i;
      See(q);
      const bool exact = !state_.selects() || plan->IsExactHead(state_.layer, q.head);
      if (!exact) paths_[g] = Path::kSelected;
      q.selects = !exact && q.visible > 0 && q.visible >= plan->dense_below;
      q.kept_count = q.visible;
      queries_.push_back(q);
    }
  }
  if (call_.select == Select::kAuto) {
    const Path path = PathBeforeFilter();
    if (path != Path::kSelected) KeepAll(path);
  }
  for (Query& q : queries_) {
    if (q.selects) q.kept = NewBits();
  }
  if (state_.selects()) UseCutOffs();
  part_values_.assign(chunks() * queries_.size() * rows_.d_v, 0.0f);
  parts_.resize(chunks() * queries_.size());
  for (std::size_t p = 0; p < parts_.size(); ++p) {
    const std::int64_t row = Row(queries_[p % queries_.size()]);
    parts_[p] = {call_.queries + row * rows_.d, nullptr, -HUGE_VALF, 0,
                 part_values_.data() + static_cast<std::int64_t>(p) * rows_.d_v};
  }
}

bool DecodeGroup::SeesAlike(const Query& a, const Query& b) const {
  const Inputs& in = call_.inputs;
  if (a.end != b.end) return false;
  if (in.mask && &in.mask(b_, a.head, a.i, 0) != &in.mask(b_, b.head, b.i, 0)) return false;
  return !in.bias || in.bias.Row(b_, a.head, a.i) == in.bias.Row(b_, b.head, b.i);
}

void DecodeGroup::See(Query& q) {
  const Inputs& in = call_.inputs;
  q.end = q.visible = std::max<std::int64_t>(in.KeyEnd(b_, q.i), 0);
  if (!in.mask && !in.bias) return;
  if (!queries_.empty() && SeesAlike(queries_.back(), q)) {
    q.seen = queries_.back().seen;
    q.visible = queries_.back().visible;
    return;
  }
  std::uint64_t* seen = NewBits();
  if (!in.bias && in.mask.stride[3] == 1) {
    MaskBits(&in.mask(b_, q.head, q.i, 0), q.end, seen);
  } else {
    for (std::int64_t j = 0; j < q.end; ++j) {
      if (Unmasked(in, b_, q.head, q.i, j)) seen[j / 64] |= std::uint64_t{1} << (j % 64);
    }
  }
  q.visible = CountOnes(seen, words());
  if (q.visible < q.end) q.seen = seen;
}

// t * K_max, over the keys that the query sees.
float DecodeGroup::Cut(const Query& q) {
  const float* norms = state_.norms(b_, kv_head_);
  const float all = state_.slab(b_, kv_head_).norm_max;
  float largest = all;
  if (q.seen != nullptr) {
    if (largest_seen_ != q.seen || largest_end_ != q.end) {
      largest_seen_ = q.seen;
      largest_end_ = q.end;
      largest_norm_ = 0;
      for (std::int64_t w = 0; w < words(); ++w) {
        const float* at = norms + 64 * w;
        if (~q.seen[w] == 0) {
          largest_norm_ = LargestNorm(at, 64, largest_norm_);
          continue;
        }
        for (std::uint64_t left = q.seen[w]; left != 0; left &= left - 1) {
          largest_norm_ = LargestNorm(at + std::countr_zero(left), 1, largest_norm_);
        }
      }
    }
    largest = largest_norm_;
  } else if (LargestNorm(norms + q.end, size_ - q.end, 0) == all) {
    largest = LargestNorm(norms, q.end, 0);
  }
  return static_cast<float>(state_.plan->thresholds[state_.layer][q.head]) * largest;
}

// The cache holds the cut-offs of the last query, which sees the most; another that sees another
// K_max gets its own.
void DecodeGroup::UseCutOffs() {
  const Plan& plan = *state_.plan;
  if (plan.rule == Rule::kGap || (plan.bias_in_test && call_.inputs.bias)) return;
  const std::int64_t group = state_.group();
  std::vector<const Query*> last(group, nullptr);
  for (std::size_t at = queries_.size(); at-- > 0;) {
    Query& q = queries_[at];
    if (!q.selects) continue;
    const float cut = Cut(q);
    const Query*& cached = last[q.head % group];
    const bool same = cached != nullptr && cached->end >= q.end && [&] {
      const float of_cached = state_.slab(b_, kv_head_).cut_offs[q.head % group].cut;
      return std::memcmp(&of_cached, &cut, sizeof(cut)) == 0;
    }();
    if (cached == nullptr || same) {
      q.cut_offs = state_.CutOffs(b_, q.head, cut, q.end, call_.kernels, cut_off_rebuilds_);
      if (cached == nullptr) cached = &q;
      continue;
    }
    std::vector<std::int16_t>& own = own_cut_offs_.emplace_back(q.end);
    call_.kernels.select->cut_offs(state_.norms(b_, kv_head_), q.end, state_.cosines[q.head].data(),
                                   plan.hash.k, cut, own.data());
    q.cut_offs = own.data();
  }
}

double DecodeGroup::PickedRow() const {
  const double row = rows_.dtype == static_cast<int>(DType::kF32) ? kPickedRow : kPickedRow16;
  return call_.group_union && queries_.size() > 1 ? row * kPickedByUnion : row;
}

// From what is known before the keys are looked at: kSelected unless that is a loss.
Path DecodeGroup::PathBeforeFilter() {
  if (size_ < kTooShort) return Path::kExactTooShort;
  KvSlab& slab = state_.slab(b_, kv_head_);
  if (slab.skip > 0) {
    --slab.skip;
    return Path::kExactObserved;
  }
  if (!state_.selects() || state_.plan->calibration.empty()) return Path::kSelected;
  double expected = 0;
  for (const Query& q : queries_) {
    const double kept =
        q.selects ? state_.plan->calibration[state_.layer][q.head].kept_fraction : 1;
    expected = std::max(expected, kept);
  }
  return expected * PickedRow() >= 1 ? Path::kExactExpected : Path::kSelected;
}

void DecodeGroup::KeepAll(Path why) {
  for (Query& q : queries_) {
    if (!q.selects) continue;
    q.selects = q.fallback = false;
    q.kept = nullptr;
    q.kept_count = q.visible;
  }
  for (Path& path : paths_) {
    if (path == Path::kSelected) path = why;
  }
}

void DecodeGroup::Filter(std::int64_t chunk) {
  const std::int64_t first = chunk * kDecodeChunk;
  const std::int64_t last = std::min(first + kDecodeChunk, size_);
  const std::int64_t hash_words = state_.selects() ? state_.hash->words() : 0;
  for (std::int64_t at = first; at < last; at += kFilterBlock) {
    for (const Query& q : queries_) {
      if (!q.selects || q.cut_offs == nullptr) continue;
      const std::int64_t count = std::min({at + kFilterBlock, last, q.end}) - at;
      if (count <= 0) continue;
      std::uint64_t* kept = q.kept + at / 64;
      call_.kernels.select->filter_rows(call_.hashes + Row(q) * hash_words,
                                        state_.hashes(b_, kv_head_) + at * hash_words,
                                        q.cut_offs + at, count, hash_words, kept);
      if (q.seen == nullptr) continue;
      for (std::int64_t w = 0; w < (count + 63) / 64; ++w) kept[w] &= q.seen[at / 64 + w];
    }
  }
}

const float* DecodeGroup::Similarities(const Query& q) {
  const std::int64_t hash_words = state_.hash->words();
  similarities_.resize(size_);
  call_.kernels.select->similarities(
      call_.hashes + Row(q) * hash_words, state_.hashes(b_, kv_head_), state_.norms(b_, kv_head_),
      state_.cosines[q.head].data(), q.end, hash_words, similarities_.data());
  return similarities_.data();
}

float DecodeGroup::EstimateBias(const Query& q, std::int64_t key) const {
  const Tensor& bias = call_.inputs.bias;
  return ElementAt(bias.Row(b_, q.head, q.i), bias.dtype, key * bias.stride[3]);
}

// The tests that need the estimates themselves: rule gap, and a bias that takes part. The
// arithmetic is that of reference/selection.cc.
void DecodeGroup::TestEstimates(Query& q) {
  const Plan& plan = *state_.plan;
  const bool biased = plan.bias_in_test && call_.inputs.bias;
  const float* similarities = Similarities(q);
  const float* norms = state_.norms(b_, kv_head_);
  const float scale = static_cast<float>(call_.inputs.scale) * call_.norms[Row(q)];
  const auto limit = static_cast<float>(plan.thresholds[state_.layer][q.head]);
  const float cut = plan.rule == Rule::kGap ? 0 : Cut(q);
  const auto score = [&](std::int64_t j) {
    const float x = scale * similarities[j];
    return biased ? x + EstimateBias(q, j) : x;
  };
  bool found = false;
  float best = 0;
  if (plan.rule == Rule::kGap) {
    ForVisible(q, [&](std::int64_t j) {
      if (!std::isfinite(norms[j])) return;
      const float x = score(j);
      if (!found || x > best) best = x;
      found = true;
    });
  }
  ForVisible(q, [&](std::int64_t j) {
    const bool passes = plan.rule == Rule::kGap
                            ? best - score(j) < limit
                            : scale * (similarities[j] - cut) + EstimateBias(q, j) > 0;
    if (passes || !std::isfinite(norms[j])) q.kept[j / 64] |= std::uint64_t{1} << (j % 64);
  });
}

void DecodeGroup::KeepAlways(Query& q) {
  const reference::AlwaysKeep always = reference::AlwaysKeepOf(*state_.plan);
  if (!always.any()) return;
  const auto keep = [&](std::int64_t j) { q.kept[j / 64] |= std::uint64_t{1} << (j % 64); };
  const auto sees = [&](std::int64_t j) {
    return q.seen == nullptr || (q.seen[j / 64] >> (j % 64) & 1) != 0;
  };
  std::int64_t left = always.first;
  for (std::int64_t j = 0; j < q.end && left > 0; ++j) {
    if (!sees(j)) continue;
    keep(j);
    --left;
  }
  left = always.recent;
  for (std::int64_t j = q.end; j-- > 0 && left > 0;) {
    if (!sees(j)) continue;
    keep(j);
    --left;
  }
}

void DecodeGroup::KeepLargest(Query& q) {
  const bool biased = state_.plan->bias_in_test && call_.inputs.bias;
  const float* similarities = Similarities(q);
  const float scale = static_cast<float>(call_.inputs.scale) * call_.norms[Row(q)];
  std::int64_t best = -1;
  float largest = 0;
  ForVisible(q, [&](std::int64_t j) {
    const float x = biased ? scale * similarities[j] + EstimateBias(q, j) : similarities[j];
    if (best >= 0 && !(x > largest)) return;
    best = j;
    largest = x;
  });
  q.kept[best / 64] |= std::uint64_t{1} << (best % 64);
  q.kept_count = 1;
  q.fallback = true;
}

void DecodeGroup::KeepUnion() {
  const auto group = static_cast<std::size_t>(state_.group());
  for (std::size_t first = 0; first < queries_.size(); first += group) {
    std::vector<std::uint64_t> all(words(), 0);
    const std::span<Query> heads = std::span(queries_).subspan(first, group);
    for (const Query& q : heads) {
      for (std::int64_t w = 0; q.selects && w < words(); ++w) all[w] |= q.kept[w];
    }
    for (Query& q : heads) {
      if (!q.selects) continue;
      for (std::int64_t w = 0; w < words(); ++w) {
        q.kept[w] |= q.seen != nullptr ? all[w] & q.seen[w] : all[w];
      }
      q.kept_count = CountOnes(q.kept, words());
    }
  }
}

std::int64_t DecodeGroup::UnionCount() const {
  std::int64_t count = 0;
  for (std::int64_t w = 0; w < words(); ++w) {
    std::uint64_t all = 0;
    for (const Query& q : queries_) {
      if (!q.selects && q.seen == nullptr && q.visible > 0) return size_;
      if (q.kept != nullptr) all |= q.kept[w];
      if (q.kept == nullptr && q.seen != nullptr) all |= q.seen[w];
    }
    count += std::popcount(all);
  }
  return count;
}

void DecodeGroup::Decide() {
  bool selects = false;
  for (Query& q : queries_) {
    if (!q.selects) continue;
    selects = true;
    if (q.cut_offs == nullptr) TestEstimates(q);
    KeepAlways(q);
    q.kept_count = CountOnes(q.kept, words());
    if (q.kept_count == 0) KeepLargest(q);
  }
  if (!selects) return;
  if (call_.group_union) KeepUnion();
  if (call_.select != Select::kAuto) return;
  const double read = PickedRow() * static_cast<double>(UnionCount());
  const auto all = static_cast<double>(size_);
  if (read < all) return;
  state_.slab(b_, kv_head_).skip = kSkippedCalls;  // do without the filter for a while
  KeepAll(Path::kExactObserved);
}

}  // namespace elsa::cpu
