#include "elsa/cpu/kv_cache.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/cpu/kv_store.h"

namespace elsa::cpu {
namespace {

enum Column { kRows };  // of a KvStore

[[noreturn]] void Refuse(const std::string& what, const std::string& expected,
                         const std::string& got) {
  throw Error(ErrorCode::kInvalidArgument, what + ": expected " + expected + ", got " + got);
}

void RequireRange(const char* name, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value >= low && value <= high) return;
  Refuse(name, std::to_string(low) + " to " + std::to_string(high), std::to_string(value));
}

void ValidateOptions(const KvCacheOptions& options) {
  RequireRange("batch", options.batch, 0, INT32_MAX);
  RequireRange("kv_heads", options.kv_heads, 1, INT32_MAX);
  RequireRange("heads", options.heads, 1, INT32_MAX);
  if (options.heads % options.kv_heads != 0) {
    Refuse("heads", "a multiple of " + std::to_string(options.kv_heads),
           std::to_string(options.heads));
  }
  RequireRange("d", options.d, 1, kMaxD);
  RequireRange("d_v", options.d_v, 1, kMaxD);
  RequireRange("capacity", options.capacity, 0, INT32_MAX);
  const int dtype = static_cast<int>(options.dtype);
  RequireRange("dtype", dtype, 0, static_cast<int>(DType::kBf16));
}

// Components of a key or value as stored: zeros up here, so that kernels read whole registers.
std::int64_t Padded(std::int64_t d) { return (d + 15) / 16 * 16; }

void RequireRows(const char* name, const Tensor& t, const std::array<std::int64_t, 4>& expected) {
  reference::RequireShape(name, t.shape, expected);
  if (expected[0] * expected[1] * expected[2] == 0) return;
  if (t.data == nullptr) Refuse(name, "data", "a null pointer");
  if (t.shape[3] > 1 && t.stride[3] != 1) {
    Refuse(name, "a stride of 1 in the last dimension", std::to_string(t.stride[3]));
  }
  if (reinterpret_cast<std::uintptr_t>(t.data) % SizeOf(t.dtype) != 0) {
    Refuse(name, "an address that is a multiple of " + std::to_string(SizeOf(t.dtype)),
           "a misaligned one");
  }
}

// `count` components of one row in the storage type, zeros up to `padded`.
void StoreRow(const std::byte* from, DType dtype, std::int64_t count, std::int64_t padded,
              DType stored, std::byte* to) {
  const std::int64_t size = SizeOf(stored);
  std::memset(to + count * size, 0, (padded - count) * size);
  if (dtype == stored) {
    std::memcpy(to, from, count * size);
    return;
  }
  for (std::int64_t c = 0; c < count; ++c) {
    const float value = ElementAt(from, dtype, c);
    if (stored == DType::kF32) {
      std::memcpy(to + 4 * c, &value, 4);
    } else {
      const std::uint16_t bits = stored == DType::kF16 ? ToF16(value) : ToBf16(value);
      std::memcpy(to + 2 * c, &bits, 2);
    }
  }
}

std::vector<float> Packed(const Tensor& t) {
  std::vector<float> values;
  for (std::int64_t a = 0; a < t.shape[0]; ++a) {
    for (std::int64_t b = 0; b < t.shape[1]; ++b) {
      for (std::int64_t c = 0; c < t.shape[2]; ++c) {
        for (std::int64_t i = 0; i < t.shape[3]; ++i) {
          values.push_back(ElementAt(t.Row(a, b, c), t.dtype, i * t.stride[3]));
        }
      }
    }
  }
  return values;
}

}  // namespace

struct KvCache::State {
  KvCacheOptions options;
  std::shared_ptr<const Plan> plan;
  std::int64_t layer = 0;
  KvStore store;
  KvCacheStats stats;

  std::int64_t row_elements() const { return Padded(options.d) + Padded(options.d_v); }
  // The cached keys, or values, as a tensor.
  Tensor Rows(bool values) const {
    const std::int64_t size = SizeOf(options.dtype);
    const std::int64_t slab = store.SlabBytes(kRows) / size;
    return {store.At(kRows, 0, 0) + (values ? Padded(options.d) * size : 0),
            options.dtype,
            {options.batch, options.kv_heads, store.size(), values ? options.d_v : options.d},
            {options.kv_heads * slab, slab, row_elements(), 1}};
  }
};

KvCache::KvCache(const KvCacheOptions& options, std::shared_ptr<const Plan> plan,
                 std::int64_t layer) {
  ValidateOptions(options);
  if (plan != nullptr) {
    Inputs shapes;
    shapes.query.shape = {options.batch, options.heads, 0, options.d};
    shapes.key.shape = {options.batch, options.kv_heads, 0, options.d};
    ValidatePlanFits(*plan, layer, shapes);
  }
  const std::int64_t row = (Padded(options.d) + Padded(options.d_v)) * SizeOf(options.dtype);
  state_ = std::make_unique<State>(
      State{options,
            std::move(plan),
            layer,
            KvStore(options.batch, options.kv_heads, {row}, options.capacity),
            {}});
}

KvCache::~KvCache() = default;
KvCache::KvCache(KvCache&&) noexcept = default;
KvCache& KvCache::operator=(KvCache&&) noexcept = default;

const KvCacheOptions& KvCache::options() const { return state_->options; }
std::int64_t KvCache::size() const { return state_->store.size(); }
std::int64_t KvCache::capacity() const { return state_->store.capacity(); }
std::int64_t KvCache::bytes() const { return state_->store.bytes(); }
const KvCacheStats& KvCache::stats() const { return state_->stats; }

void KvCache::Append(const Tensor& key, const Tensor& value) {
  State& s = *state_;
  const KvCacheOptions& o = s.options;
  const std::int64_t n_new = key.shape[2];
  RequireRange("n_new", n_new, 0, INT32_MAX - size());
  RequireRows("key", key, {o.batch, o.kv_heads, n_new, o.d});
  RequireRows("value", value, {o.batch, o.kv_heads, n_new, o.d_v});
  s.store.Reserve(n_new);
  const std::int64_t element = SizeOf(o.dtype);
  const std::int64_t row = s.row_elements() * element;
  for (std::int64_t b = 0; b < o.batch; ++b) {
    for (std::int64_t g = 0; g < o.kv_heads; ++g) {
      std::byte* to = s.store.At(kRows, b, g) + size() * row;
      for (std::int64_t j = 0; j < n_new; ++j, to += row) {
        StoreRow(key.Row(b, g, j), key.dtype, o.d, Padded(o.d), o.dtype, to);
        StoreRow(value.Row(b, g, j), value.dtype, o.d_v, Padded(o.d_v), o.dtype,
                 to + Padded(o.d) * element);
      }
    }
  }
  s.store.Grow(n_new);
  s.stats.appended += n_new;
  s.stats.moves = s.store.moves();
}

void KvCache::EvictFront(std::int64_t count) {
  const std::int64_t first = 0;
  RequireRange("count", count, 0, std::max<std::int64_t>(size() - first, 0));
  state_->store.Erase(first, count);
  state_->stats.evicted += count;
}

void KvCache::Truncate(std::int64_t length) {
  RequireRange("length", length, 0, size());
  state_->store.Truncate(length);
}

void KvCache::Reorder(std::span<const std::int64_t> rows) {
  for (std::int64_t row : rows) RequireRange("rows", row, 0, options().batch - 1);
  state_->store.Reorder(rows);
  state_->options.batch = static_cast<std::int64_t>(rows.size());
}

Report KvCache::Attend(const Tensor& query, const MutableTensor& out,
                       const DecodeOptions& options) {
  State& s = *state_;
  const KvCacheOptions& o = s.options;
  const std::int64_t n_q = query.shape[2];
  reference::RequireShape("query", query.shape, {o.batch, o.heads, n_q, o.d});
  if (options.causal) RequireRange("n_q", n_q, 0, size());
  // The rows are not the caller's: only their shapes need checking.
  alignas(64) static constexpr std::byte kNothing[4 * kMaxD] = {};
  const Tensor rows(kNothing, query.dtype, {}, {0, 0, 0, 1});
  Inputs inputs;
  inputs.query = query;
  inputs.key = inputs.value = rows;
  inputs.key.shape = {o.batch, o.kv_heads, size(), o.d};
  inputs.value.shape = {o.batch, o.kv_heads, size(), o.d_v};
  inputs.scale = options.scale;
  inputs.causal = options.causal;
  inputs.causal_offset = options.causal ? size() - n_q : 0;
  inputs.mask = options.mask;
  inputs.bias = options.bias;
  ValidateInputs(inputs, out);
  if (s.plan != nullptr) ValidatePlanFits(*s.plan, s.layer, inputs);
  const Target target = options.target.value_or(SelectedTarget());
  KernelsOf(target);

  // Interim: the reference, until the kernels stand.
  const std::vector<float> q = Packed(query);
  const std::vector<float> k = Packed(s.Rows(false));
  const std::vector<float> v = Packed(s.Rows(true));
  const std::vector<float> bias = options.bias ? Packed(options.bias) : std::vector<float>();
  std::vector<std::uint8_t> mask(o.batch * o.heads * n_q * size());
  for (std::int64_t at = 0; at < static_cast<std::int64_t>(mask.size()); ++at) {
    const std::int64_t j = at % size();
    const std::int64_t i = at / size() % n_q;
    const std::int64_t h = at / size() / n_q % o.heads;
    const std::int64_t b = at / size() / n_q / o.heads;
    mask[at] = j < inputs.KeyEnd(b, i) && (!options.mask || options.mask(b, h, i, j) != 0);
  }
  reference::AttentionInputs plain;
  plain.query = {q.data(), query.shape};
  plain.key = {k.data(), inputs.key.shape};
  plain.value = {v.data(), inputs.value.shape};
  plain.scale = options.scale;
  plain.mask = {mask.data(), {o.batch, o.heads, n_q, size()}};
  if (options.bias) plain.bias = {bias.data(), options.bias.shape};
  std::vector<float> result(o.batch * o.heads * n_q * o.d_v);
  const View<float, 4> to(result.data(), {o.batch, o.heads, n_q, o.d_v});
  const auto stats = reference::Attend(plain, s.plan.get(), s.layer, to, {1});
  for (std::int64_t b = 0; b < o.batch; ++b) {
    for (std::int64_t h = 0; h < o.heads; ++h) {
      for (std::int64_t i = 0; i < n_q; ++i) {
        StoreRow(reinterpret_cast<const std::byte*>(&to(b, h, i, 0)), DType::kF32, o.d_v, o.d_v,
                 out.dtype, out.Row(b, h, i));
      }
    }
  }
  Report report{target, Precision::kFloat32, std::vector<HeadReport>(o.heads)};
  for (std::int64_t h = 0; h < o.heads; ++h) {
    report.heads[h].stats = stats[h];
    const bool exact = s.plan == nullptr || s.plan->IsExactHead(s.layer, h);
    const Path path = exact ? Path::kExact : Path::kSelected;
    report.heads[h].heads_by_path[static_cast<int>(path)] = o.batch;
  }
  return report;
}

}  // namespace elsa::cpu
