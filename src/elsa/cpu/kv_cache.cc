#include "elsa/cpu/kv_cache.h"

#include <algorithm>
#include <array>
#include <numbers>
#include <string>
#include <utility>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/cpu/decode_group.h"
#include "elsa/cpu/kv_state.h"

namespace elsa::cpu {
namespace {

// More queries than this are the business of the engine for whole sequences. Our choice.
constexpr std::int64_t kMostQueries = 32;

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

// The elements of a tensor as packed binary32.
std::vector<float> Packed(const Tensor& t) {
  std::vector<float> values;
  values.reserve(t.shape[0] * t.shape[1] * t.shape[2] * t.shape[3]);
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

// The cached keys, or values, as a tensor.
Tensor CachedRows(const KvState& s, bool values) {
  const DecodeRows rows = s.rows(0, 0);
  const std::int64_t size = SizeOf(s.options.dtype);
  const std::int64_t slab = s.store.SlabBytes(kRows) / size;
  return {
      rows.data + (values ? rows.value_bytes : 0),
      s.options.dtype,
      {s.options.batch, s.options.kv_heads, s.store.size(), values ? s.options.d_v : s.options.d},
      {s.options.kv_heads * slab, slab, rows.row_bytes / size, 1}};
}

// Many queries, or a plan with centring: as one call of the engine for whole sequences.
Report AttendWhole(const KvState& s, Inputs inputs, const MutableTensor& out,
                   const DecodeOptions& options) {
  AttendOptions attend;
  attend.executor = options.executor;
  attend.select = options.select;
  attend.target = options.target;
  attend.log_sum_exp = options.log_sum_exp;
  attend.precision = Precision::kFloat32;
  inputs.key = CachedRows(s, false);
  inputs.value = CachedRows(s, true);
  if (inputs.query.dtype == s.options.dtype) {
    return cpu::Attend(inputs, s.plan.get(), s.layer, out, attend);
  }
  const std::vector<float> query = Packed(inputs.query);
  const std::vector<float> key = Packed(inputs.key);
  const std::vector<float> value = Packed(inputs.value);
  inputs.query = View<const float, 4>(query.data(), inputs.query.shape);
  inputs.key = View<const float, 4>(key.data(), inputs.key.shape);
  inputs.value = View<const float, 4>(value.data(), inputs.value.shape);
  std::vector<float> rows(out.shape[0] * out.shape[1] * out.shape[2] * out.shape[3]);
  const View<float, 4> to(rows.data(), out.shape);
  Report report = cpu::Attend(inputs, s.plan.get(), s.layer, to, attend);
  for (std::int64_t b = 0; b < out.shape[0]; ++b) {
    for (std::int64_t h = 0; h < out.shape[1]; ++h) {
      for (std::int64_t i = 0; i < out.shape[2]; ++i) {
        ConvertRow(reinterpret_cast<const std::byte*>(&to(b, h, i, 0)), DType::kF32, out.shape[3],
                   out.shape[3], out.dtype, out.Row(b, h, i));
      }
    }
  }
  return report;
}

// Queries as kernels take them: rows padded with zeros, times scale * log2(e); hashes and norms.
struct Queries {
  std::vector<float> rows;
  std::vector<std::uint64_t> hashes;
  std::vector<float> norms;
};

Queries PrepareQueries(const KvState& s, const Inputs& inputs, const KernelSet& kernels) {
  const auto& shape = inputs.query.shape;
  const std::int64_t count = shape[0] * shape[1] * shape[2];
  const std::int64_t padded = Padded(shape[3]);
  Queries q;
  q.rows.resize(count * padded);
  std::int64_t at = 0;
  for (std::int64_t b = 0; b < shape[0]; ++b) {
    for (std::int64_t h = 0; h < shape[1]; ++h) {
      for (std::int64_t i = 0; i < shape[2]; ++i, ++at) {
        ConvertRow(inputs.query.Row(b, h, i), inputs.query.dtype, shape[3], padded, DType::kF32,
                   reinterpret_cast<std::byte*>(&q.rows[at * padded]));
      }
    }
  }
  if (s.selects()) {
    q.hashes.resize(count * s.hash->words());
    q.norms.resize(count);
    const RowsView rows{reinterpret_cast<const std::byte*>(q.rows.data()),
                        static_cast<int>(DType::kF32), padded, count};
    HashRows(*s.hash, kernels, rows, nullptr, q.hashes.data(), q.norms.data());
  }
  const auto scale = static_cast<float>(inputs.scale * std::numbers::log2e);
  for (float& x : q.rows) x *= scale;
  return q;
}

// Runs the groups of a call, whole if there are enough of them to keep the threads busy, else step
// by step over their chunks.
void RunGroups(std::vector<DecodeGroup>& groups, Executor& executor) {
  const auto count = static_cast<std::int64_t>(groups.size());
  if (count == 0) return;
  const std::int64_t chunks = groups[0].chunks();
  if (chunks <= 1 || executor.threads() == 1 || count >= 4 * executor.threads()) {
    return executor.Run(count, [&](std::int64_t item) {
      DecodeGroup& group = groups[item];
      group.Prepare();
      for (std::int64_t c = 0; c < chunks; ++c) group.Filter(c);
      group.Decide();
      for (std::int64_t c = 0; c < chunks; ++c) group.Attend(c);
      group.Finish();
    });
  }
  const auto each = [&](const auto& step) {
    executor.Run(count, [&](std::int64_t item) { step(groups[item]); });
  };
  const auto each_chunk = [&](const auto& step) {
    executor.Run(count * chunks,
                 [&](std::int64_t item) { step(groups[item / chunks], item % chunks); });
  };
  each([](DecodeGroup& group) { group.Prepare(); });
  each_chunk([](DecodeGroup& group, std::int64_t chunk) { group.Filter(chunk); });
  each([](DecodeGroup& group) { group.Decide(); });
  each_chunk([](DecodeGroup& group, std::int64_t chunk) { group.Attend(chunk); });
  each([](DecodeGroup& group) { group.Finish(); });
}

}  // namespace

struct KvCache::State : KvState {
  using KvState::KvState;
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
  state_ = std::make_unique<State>(options, std::move(plan), layer);
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
  const KvCacheOptions& o = options();
  const std::int64_t n_new = key.shape[2];
  RequireRange("key: new rows", n_new, 0, INT32_MAX - size());
  RequireRows("key", key, {o.batch, o.kv_heads, n_new, o.d});
  RequireRows("value", value, {o.batch, o.kv_heads, n_new, o.d_v});
  state_->Append(key, value);
}

void KvCache::EvictFront(std::int64_t count) {
  const Plan* plan = state_->plan.get();
  const std::int64_t stay = plan != nullptr ? std::min(plan->always_keep_first, size()) : 0;
  RequireRange("count", count, 0, size() - stay);
  state_->Erase(stay, count);
}

void KvCache::Truncate(std::int64_t length) {
  RequireRange("length", length, 0, size());
  state_->Truncate(length);
}

void KvCache::Reorder(std::span<const std::int64_t> rows) {
  for (std::int64_t row : rows) RequireRange("rows", row, 0, options().batch - 1);
  state_->Reorder(rows);
}

Report KvCache::Attend(const Tensor& query, const MutableTensor& out,
                       const DecodeOptions& options) {
  State& s = *state_;
  const KvCacheOptions& o = s.options;
  const std::int64_t n_q = query.shape[2];
  reference::RequireShape("query", query.shape, {o.batch, o.heads, n_q, o.d});
  if (options.causal) RequireRange("query: causal rows", n_q, 0, size());
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
  ValidateInputs(inputs, out, options.log_sum_exp);
  if (s.plan != nullptr) ValidatePlanFits(*s.plan, s.layer, inputs);
  const Target target = options.target.value_or(SelectedTarget());
  const KernelSet& kernels = KernelsOf(target);
  const bool centred = s.plan != nullptr && s.plan->centring != Centring::kOff;
  if (centred || n_q > kMostQueries) return AttendWhole(s, inputs, out, options);

  const Queries queries = PrepareQueries(s, inputs, kernels);
  const DecodeCall call{inputs,
                        kernels,
                        out,
                        options.log_sum_exp,
                        options.select,
                        options.group_union,
                        queries.rows.data(),
                        queries.hashes.data(),
                        queries.norms.data()};
  std::vector<DecodeGroup> groups;
  groups.reserve(o.batch * o.kv_heads);
  for (std::int64_t b = 0; b < o.batch; ++b) {
    for (std::int64_t g = 0; g < o.kv_heads; ++g) groups.emplace_back(call, s, b, g);
  }
  RunGroups(groups, options.executor != nullptr ? *options.executor : DefaultExecutor());

  Report report{target, Precision::kFloat32, std::vector<HeadReport>(o.heads)};
  for (std::size_t at = 0; at < groups.size(); ++at) {
    const std::int64_t kv_head = static_cast<std::int64_t>(at) % o.kv_heads;
    for (std::int64_t g = 0; g < s.group(); ++g) {
      report.heads[kv_head * s.group() + g] += groups[at].report(g);
    }
    s.stats.cut_off_rebuilds += groups[at].cut_off_rebuilds();
    s.stats.mean_rebuilds += groups[at].mean_rebuilds();
  }
  return report;
}

}  // namespace elsa::cpu
