// The cache of the CPU engine.
#include "elsa/cpu/kv_cache.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <cmath>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "bindings.h"
#include "cpu.h"
#include "elsa/base/error.h"
#include "elsa/params/plan.h"

namespace elsa::python {
namespace {

cpu::DType ParseDType(const std::string& name) {
  for (const cpu::DType dtype : {cpu::DType::kF32, cpu::DType::kF16, cpu::DType::kBf16}) {
    if (Name(dtype) == name) return dtype;
  }
  throw Error(ErrorCode::kInvalidArgument,
              "dtype: expected float32, float16 or bfloat16, got " + name);
}

// Python's threads may meet at one cache: its calls take turns. The lock is only taken without the
// GIL, so that nobody waits for it who could keep its holder from going on.
class KvCache {
 public:
  KvCache(const cpu::KvCacheOptions& options, const Plan* plan, std::int64_t layer)
      : cache_(options, plan != nullptr ? std::make_shared<const Plan>(*plan) : nullptr, layer) {}

  template <typename Function>
  auto WithLock(Function function) {
    const nb::gil_scoped_release release;
    const std::lock_guard lock(mutex_);
    return function(cache_);
  }

 private:
  std::mutex mutex_;
  cpu::KvCache cache_;
};

void Construct(KvCache* self, std::int64_t batch, std::int64_t kv_heads, std::int64_t heads,
               std::int64_t d, std::int64_t d_v, const std::string& dtype, std::int64_t capacity,
               const Plan* plan, std::int64_t layer) {
  new (self) KvCache({batch, kv_heads, heads, d, d_v, ParseDType(dtype), capacity}, plan, layer);
}

// NotImplemented, with nothing done, if a tensor cannot be read in place.
nb::object Append(KvCache& self, nb::handle key, nb::handle value) {
  Borrowed k, v;
  if (!k.Read(key) || k.rank() < 2 || k.kind() == Borrowed::Kind::kBool ||
      !UnitRows(k.As4<const std::byte>()) || !ReadFloats(v, value, k.rank())) {
    return nb::borrow(Py_NotImplemented);
  }
  self.WithLock([&](cpu::KvCache& cache) {
    cache.Append(k.As4<const std::byte>(), v.As4<const std::byte>());
  });
  return nb::none();
}

// As cpu_attention.
nb::object Attend(KvCache& self, nb::handle query, nb::handle mask, nb::handle bias,
                  std::optional<double> scale, bool causal, nb::handle out, nb::handle log_sum_exp,
                  int threads, const std::string& select, bool group_union, bool count) {
  Borrowed q, m, b, o, sums;
  cpu::DecodeOptions options;
  options.select = ParseSelect(select);
  options.causal = causal;
  options.group_union = group_union;
  if (!q.Read(query)) return nb::borrow(Py_NotImplemented);
  const int rank = q.rank();
  if (rank < 2 || q.kind() == Borrowed::Kind::kBool || !ReadFloats(o, out, rank) || !o.writable() ||
      !ReadLogSumExp(sums, log_sum_exp, rank, options.log_sum_exp)) {
    return nb::borrow(Py_NotImplemented);
  }
  const auto rows = q.As4<const std::byte>();
  if (!UnitRows(rows)) return nb::borrow(Py_NotImplemented);
  options.scale = scale.value_or(rows.shape[3] > 0 ? std::pow(rows.shape[3], -0.5) : 1);
  const auto n_k = self.WithLock([](cpu::KvCache& cache) { return cache.size(); });
  const std::array<std::int64_t, 4> pairs{rows.shape[0], rows.shape[1], rows.shape[2], n_k};
  if (!ReadMask(m, mask, rank, pairs, options.mask, options.bias) ||
      !ReadMask(b, bias, rank, pairs, options.mask, options.bias)) {
    return nb::borrow(Py_NotImplemented);
  }
  const cpu::Report report = self.WithLock([&](cpu::KvCache& cache) {
    if (cache.size() != n_k && (options.mask || options.bias)) {
      throw Error(ErrorCode::kInvalidArgument, "attn_mask: expected one of the keys in the cache");
    }
    options.executor = &ExecutorOf(threads);
    return cache.Attend(rows, o.As4<std::byte>(), options);
  });
  return count ? nb::object(ReportTuple(report)) : nb::none();
}

nb::dict Stats(KvCache& self) {
  const cpu::KvCacheStats stats = self.WithLock([](cpu::KvCache& cache) { return cache.stats(); });
  nb::dict dict;
  dict["appended"] = stats.appended;
  dict["evicted"] = stats.evicted;
  dict["moves"] = stats.moves;
  dict["cut_off_rebuilds"] = stats.cut_off_rebuilds;
  dict["mean_rebuilds"] = stats.mean_rebuilds;
  return dict;
}

// A number of the cache.
template <typename Get>
auto Number(Get get) {
  return [get](KvCache& self) -> std::int64_t { return self.WithLock(get); };
}

}  // namespace

void BindKvCache(nb::module_& module) {
  using Cache = cpu::KvCache;
  nb::class_<KvCache>(module, "KvCache")
      .def("__init__", &Construct, nb::arg("batch"), nb::arg("kv_heads"), nb::arg("heads"),
           nb::arg("d"), nb::arg("d_v"), nb::arg("dtype"), nb::arg("capacity"),
           nb::arg("plan").none(), nb::arg("layer"))
      .def("append", &Append, nb::arg("key"), nb::arg("value"))
      .def("attend", &Attend, nb::arg("query"), nb::arg("mask").none(), nb::arg("bias").none(),
           nb::arg("scale").none(), nb::arg("causal"), nb::arg("out"),
           nb::arg("log_sum_exp").none(), nb::arg("threads"), nb::arg("select"),
           nb::arg("group_union"), nb::arg("count"))
      .def(
          "evict_front",
          [](KvCache& self, std::int64_t count) {
            self.WithLock([&](Cache& cache) { cache.EvictFront(count); });
          },
          nb::arg("count"))
      .def(
          "truncate",
          [](KvCache& self, std::int64_t length) {
            self.WithLock([&](Cache& cache) { cache.Truncate(length); });
          },
          nb::arg("length"))
      .def(
          "reorder",
          [](KvCache& self, const std::vector<std::int64_t>& rows) {
            self.WithLock([&](Cache& cache) { cache.Reorder(rows); });
          },
          nb::arg("rows"))
      .def_prop_ro("batch", Number([](Cache& cache) { return cache.options().batch; }))
      .def_prop_ro("size", Number([](Cache& cache) { return cache.size(); }))
      .def_prop_ro("capacity", Number([](Cache& cache) { return cache.capacity(); }))
      .def_prop_ro("bytes", Number([](Cache& cache) { return cache.bytes(); }))
      .def_prop_ro("stats", &Stats);
}

}  // namespace elsa::python
