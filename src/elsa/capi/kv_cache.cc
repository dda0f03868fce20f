// KV caches of the C interface.
#include "elsa/cpu/kv_cache.h"

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "elsa/base/error.h"
#include "elsa/capi/convert.h"
#include "elsa/capi/guard.h"
#include "elsa/capi/handles.h"
#include "elsa/elsa_c.h"

struct elsa_kv_cache {
  elsa::cpu::KvCache cache;
};

namespace elsa::capi {
namespace {

cpu::KvCacheOptions OptionsOf(const elsa_kv_cache_options* given) {
  const elsa_kv_cache_options o = CopyStruct("options", given);
  cpu::KvCacheOptions options;
  options.batch = o.batch;
  options.heads = o.heads;
  options.kv_heads = o.kv_heads;
  options.d = o.d;
  options.d_v = o.d_v == 0 ? o.d : o.d_v;
  options.dtype = DTypeOf("options", o.dtype);
  options.capacity = o.capacity;
  return options;
}

cpu::DecodeOptions OptionsOf(const elsa_decode_options* given, std::int64_t d) {
  const elsa_decode_options o =
      given != nullptr ? CopyStruct("options", given) : elsa_decode_options_init();
  cpu::DecodeOptions options;
  options.scale = ScaleOf(o.scale, d);
  options.causal = o.causal != 0;
  options.group_union = o.group_union != 0;
  options.mask = MaskOf(o.mask);
  options.bias = OptionalTensorOf("bias", o.bias);
  options.executor = &ExecutorOf(o.executor, o.threads);
  options.select = SelectOf(o.select);
  options.target = TargetOf(o.target);
  options.log_sum_exp = LogSumExpOf(o.log_sum_exp);
  return options;
}

cpu::KvCache& CacheOf(elsa_kv_cache* cache) {
  RequirePointer("cache", cache);
  return cache->cache;
}

const cpu::KvCache& CacheOf(const elsa_kv_cache* cache) {
  RequirePointer("cache", cache);
  return cache->cache;
}

}  // namespace
}  // namespace elsa::capi

extern "C" {

elsa_status elsa_kv_cache_create(const elsa_kv_cache_options* options, const elsa_plan* plan,
                                 int64_t layer, elsa_kv_cache** cache) {
  return elsa::capi::Guard([&] {
    elsa::capi::RequirePointer("cache", cache);
    *cache = nullptr;
    *cache = new elsa_kv_cache{elsa::cpu::KvCache(elsa::capi::OptionsOf(options),
                                                  plan != nullptr ? plan->plan : nullptr, layer)};
  });
}

void elsa_kv_cache_free(elsa_kv_cache* cache) { delete cache; }

int64_t elsa_kv_cache_size(const elsa_kv_cache* cache) {
  return elsa::capi::GuardValue<int64_t>(-1, [&] { return elsa::capi::CacheOf(cache).size(); });
}

int64_t elsa_kv_cache_batch(const elsa_kv_cache* cache) {
  return elsa::capi::GuardValue<int64_t>(
      -1, [&] { return elsa::capi::CacheOf(cache).options().batch; });
}

int64_t elsa_kv_cache_bytes(const elsa_kv_cache* cache) {
  return elsa::capi::GuardValue<int64_t>(-1, [&] { return elsa::capi::CacheOf(cache).bytes(); });
}

elsa_status elsa_kv_cache_append(elsa_kv_cache* cache, const elsa_tensor* key,
                                 const elsa_tensor* value) {
  return elsa::capi::Guard([&] {
    elsa::cpu::KvCache& c = elsa::capi::CacheOf(cache);
    elsa::capi::RequirePointer("key", key);
    elsa::capi::RequirePointer("value", value);
    c.Append(elsa::capi::TensorOf("key", *key), elsa::capi::TensorOf("value", *value));
  });
}

elsa_status elsa_kv_cache_evict_front(elsa_kv_cache* cache, int64_t count) {
  return elsa::capi::Guard([&] { elsa::capi::CacheOf(cache).EvictFront(count); });
}

elsa_status elsa_kv_cache_truncate(elsa_kv_cache* cache, int64_t length) {
  return elsa::capi::Guard([&] { elsa::capi::CacheOf(cache).Truncate(length); });
}

elsa_status elsa_kv_cache_reorder(elsa_kv_cache* cache, const int64_t* rows, int64_t count) {
  return elsa::capi::Guard([&] {
    elsa::cpu::KvCache& c = elsa::capi::CacheOf(cache);
    elsa::capi::RequirePointer("rows", rows);
    if (count < 1) {
      throw elsa::Error(elsa::ErrorCode::kInvalidArgument,
                        "count: expected 1 row or more, got " + std::to_string(count));
    }
    c.Reorder({rows, static_cast<std::size_t>(count)});
  });
}

elsa_status elsa_kv_cache_attend(elsa_kv_cache* cache, const elsa_tensor* query,
                                 const elsa_mutable_tensor* out, const elsa_decode_options* options,
                                 elsa_report** report) {
  return elsa::capi::Guard([&] {
    if (report != nullptr) *report = nullptr;
    elsa::cpu::KvCache& c = elsa::capi::CacheOf(cache);
    elsa::capi::RequirePointer("query", query);
    elsa::capi::RequirePointer("out", out);
    elsa::capi::GiveReport(
        c.Attend(elsa::capi::TensorOf("query", *query), elsa::capi::TensorOf("out", *out),
                 elsa::capi::OptionsOf(options, c.options().d)),
        report);
  });
}

}  // extern "C"
