#include "elsa/cpu/kv_state.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "elsa/cpu/target.h"
#include "elsa/reference/angle.h"

namespace elsa::cpu {
namespace {

std::vector<std::int64_t> KeyBytes(const KvCacheOptions& o, const HashProgram* hash) {
  std::vector<std::int64_t> bytes{(Padded(o.d) + Padded(o.d_v)) * SizeOf(o.dtype)};
  if (hash == nullptr) return bytes;
  bytes.push_back(8 * hash->words());
  bytes.push_back(sizeof(float));
  bytes.insert(bytes.end(), o.heads / o.kv_heads, sizeof(std::int16_t));
  return bytes;
}

}  // namespace

float LargestNorm(const float* norms, std::int64_t count, float so_far) {
  constexpr float kMost = std::numeric_limits<float>::max();
  for (std::int64_t j = 0; j < count; ++j) {
    const float norm = norms[j] <= kMost ? norms[j] : 0;  // NaN and infinity take no part
    so_far = norm > so_far ? norm : so_far;
  }
  return so_far;
}

bool Selects(const Plan* plan, std::int64_t layer) {
  if (plan == nullptr || plan->centring != Centring::kOff) return false;
  const auto heads = static_cast<std::int64_t>(plan->thresholds[layer].size());
  for (std::int64_t h = 0; h < heads; ++h) {
    if (!plan->IsExactHead(layer, h)) return true;
  }
  return false;
}

void ConvertRow(const std::byte* from, DType dtype, std::int64_t count, std::int64_t padded,
                DType to_dtype, std::byte* to) {
  const std::int64_t size = SizeOf(to_dtype);
  std::memset(to + count * size, 0, (padded - count) * size);
  if (dtype == to_dtype) {
    std::memcpy(to, from, count * size);
    return;
  }
  for (std::int64_t c = 0; c < count; ++c) {
    const float value = ElementAt(from, dtype, c);
    if (to_dtype == DType::kF32) {
      std::memcpy(to + 4 * c, &value, 4);
    } else {
      const std::uint16_t bits = to_dtype == DType::kF16 ? ToF16(value) : ToBf16(value);
      std::memcpy(to + 2 * c, &bits, 2);
    }
  }
}

KvState::KvState(const KvCacheOptions& options_in, std::shared_ptr<const Plan> plan_in,
                 std::int64_t layer_in)
    : options(options_in),
      plan(std::move(plan_in)),
      layer(layer_in),
      hash(Selects(plan.get(), layer) ? MakeHashProgram(plan->hash, options.d) : nullptr),
      store(options.batch, options.kv_heads, KeyBytes(options, hash.get()), options.capacity),
      slabs(options.batch * options.kv_heads,
            KvSlab(group(), Padded(options.d) + Padded(options.d_v))) {
  if (!selects()) return;
  for (std::int64_t h = 0; h < options.heads; ++h) {
    cosines.push_back(reference::CosineTable(plan->hash.k, plan->ThetaBias(layer, h)));
  }
}

DecodeRows KvState::rows(std::int64_t b, std::int64_t kv_head) const {
  const std::int64_t size = SizeOf(options.dtype);
  const std::int64_t d = Padded(options.d);
  const std::int64_t d_v = Padded(options.d_v);
  return {store.At(kRows, b, kv_head),
          static_cast<int>(options.dtype),
          (d + d_v) * size,
          d * size,
          d,
          d_v};
}

void KvState::Append(const Tensor& key, const Tensor& value) {
  const std::int64_t count = key.shape[2];
  const std::int64_t size = store.size();
  store.Reserve(count);
  for (std::int64_t b = 0; b < options.batch; ++b) {
    for (std::int64_t g = 0; g < options.kv_heads; ++g) {
      const DecodeRows to = rows(b, g);
      auto* row = const_cast<std::byte*>(to.data) + size * to.row_bytes;
      for (std::int64_t j = 0; j < count; ++j, row += to.row_bytes) {
        ConvertRow(key.Row(b, g, j), key.dtype, options.d, to.d, options.dtype, row);
        ConvertRow(value.Row(b, g, j), value.dtype, options.d_v, to.d_v, options.dtype,
                   row + to.value_bytes);
      }
      if (!selects()) continue;
      const RowsView added{to.data + size * to.row_bytes, to.dtype,
                           to.row_bytes / SizeOf(options.dtype), count};
      HashRows(*hash, KernelsOf(SelectedTarget()), added, nullptr,
               const_cast<std::uint64_t*>(hashes(b, g)) + size * hash->words(),
               const_cast<float*>(norms(b, g)) + size);
    }
  }
  store.Grow(count);
  stats.appended += count;
  stats.moves = store.moves();
  if (!selects()) return;
  for (std::int64_t b = 0; b < options.batch; ++b) {
    for (std::int64_t g = 0; g < options.kv_heads; ++g) {
      KvSlab& s = slab(b, g);
      s.norm_max = LargestNorm(norms(b, g) + size, count, s.norm_max);
      if (has_mean_row()) s.sums.Add(rows(b, g), size, count);
    }
  }
}

void KvState::Erase(std::int64_t first, std::int64_t count) {
  if (count == 0) return;
  for (std::int64_t b = 0; b < options.batch && selects(); ++b) {
    for (std::int64_t g = 0; g < options.kv_heads; ++g) {
      KvSlab& s = slab(b, g);
      if (has_mean_row()) s.sums.Remove(rows(b, g), first, count);
      s.seen_end = 0;
      const float gone = LargestNorm(norms(b, g) + first, count, 0);
      if (gone == s.norm_max) {
        s.norm_max = LargestNorm(norms(b, g), first, 0);
        const std::int64_t after = first + count;
        s.norm_max = LargestNorm(norms(b, g) + after, store.size() - after, s.norm_max);
      }
      for (KvSlab::HeadCutOffs& made : s.cut_offs) {
        made.count = std::max(std::min(made.count, first), made.count - count);
      }
    }
  }
  store.Erase(first, count);
  stats.evicted += count;
}

void KvState::Truncate(std::int64_t length) {
  const std::int64_t count = store.size() - length;
  if (count == 0) return;
  for (std::int64_t b = 0; b < options.batch && selects(); ++b) {
    for (std::int64_t g = 0; g < options.kv_heads; ++g) {
      KvSlab& s = slab(b, g);
      if (s.seen_end > length) s.seen_end = 0;
      if (length == 0) {
        s.sums.Clear();
      } else if (has_mean_row()) {
        s.sums.Remove(rows(b, g), length, count);
      }
      const float gone = LargestNorm(norms(b, g) + length, count, 0);
      if (gone == s.norm_max) s.norm_max = LargestNorm(norms(b, g), length, 0);
      for (KvSlab::HeadCutOffs& made : s.cut_offs) made.count = std::min(made.count, length);
    }
  }
  store.Truncate(length);
}

void KvState::Reorder(std::span<const std::int64_t> order) {
  std::vector<KvSlab> reordered;
  reordered.reserve(order.size() * options.kv_heads);
  for (std::int64_t row : order) {
    for (std::int64_t g = 0; g < options.kv_heads; ++g) reordered.push_back(slab(row, g));
  }
  store.Reorder(order);
  slabs = std::move(reordered);
  options.batch = static_cast<std::int64_t>(order.size());
}

const std::int16_t* KvState::CutOffs(std::int64_t b, std::int64_t head, float cut, std::int64_t end,
                                     const KernelSet& kernels, std::int64_t& anew) {
  const std::int64_t kv_head = head / group();
  KvSlab::HeadCutOffs& made = slab(b, kv_head).cut_offs[head % group()];
  auto* cut_offs = reinterpret_cast<std::int16_t*>(
      store.At(kCutOffs + static_cast<int>(head % group()), b, kv_head));
  // Bits, not values: t * K_max may be NaN or -0.
  if (std::memcmp(&made.cut, &cut, sizeof(cut)) != 0 && made.count > 0) {
    made.count = 0;
    ++anew;
  }
  made.cut = cut;
  if (made.count < end) {
    kernels.select->cut_offs(norms(b, kv_head) + made.count, end - made.count, cosines[head].data(),
                             plan->hash.k, cut, cut_offs + made.count);
    made.count = end;
  }
  return cut_offs;
}

const KvSums& KvState::SeenSums(std::int64_t b, std::int64_t kv_head, const std::uint64_t* seen,
                                std::int64_t end) {
  KvSlab& s = slab(b, kv_head);
  const DecodeRows all = rows(b, kv_head);
  const auto sees = [&](std::int64_t j) { return (seen[j / 64] >> (j % 64) & 1) != 0; };
  const std::int64_t whole = s.seen_end / 64;
  bool continues =
      s.seen_end > 0 && s.seen_end <= end && std::equal(seen, seen + whole, s.seen.begin());
  for (std::int64_t j = 64 * whole; continues && j < s.seen_end; ++j) {
    continues = sees(j) == ((s.seen[whole] >> (j % 64) & 1) != 0);
  }
  if (!continues) {
    s.seen_end = 0;
    s.seen_sums.Clear();
  }
  s.seen.assign(seen, seen + (end + 63) / 64);
  for (std::int64_t j = s.seen_end; j < end; ++j) {
    if (sees(j)) s.seen_sums.Add(all, j, 1);
  }
  s.seen_end = end;
  return s.seen_sums;
}

KvSums KvState::Sums(std::int64_t b, std::int64_t kv_head, std::int64_t end, std::int64_t& anew) {
  KvSlab& s = slab(b, kv_head);
  const DecodeRows all = rows(b, kv_head);
  if (!s.sums.Good()) {
    s.sums.Clear();
    s.sums.Add(all, 0, store.size());
    ++anew;
  }
  KvSums prefix = s.sums;
  if (end == store.size()) return prefix;
  prefix.Remove(all, end, store.size() - end);
  if (prefix.Good()) return prefix;
  prefix.Clear();
  prefix.Add(all, 0, end);
  return prefix;
}

}  // namespace elsa::cpu
