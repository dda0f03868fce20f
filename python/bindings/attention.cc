// Attention and its explanation. Source: Sec. III.
#include "elsa/reference/attention.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <utility>

#include "bindings.h"
#include "elsa/base/error.h"
#include "elsa/params/plan.h"
#include "elsa/reference/explain.h"

namespace elsa::python {

nb::tuple StatsTuple(const reference::HeadStats& stats) {
  return nb::make_tuple(stats.queries, stats.empty_queries, stats.fallback_queries,
                        stats.exact_queries, stats.pairs, stats.kept, stats.mass_kept_sum);
}

namespace {

nb::list Attention(FloatArray query, FloatArray key, FloatArray value,
                   std::optional<BoolArray> mask, std::optional<FloatArray> bias,
                   std::vector<std::int64_t> query_lengths, std::vector<std::int64_t> key_lengths,
                   double scale, bool causal, const Plan* plan, std::int64_t layer,
                   const OutArray& out, int threads, bool measure_mass,
                   std::optional<std::uint64_t> random_keys_seed) {
  const InputArguments arguments{std::move(query),       std::move(key),  std::move(value),
                                 std::move(mask),        std::move(bias), std::move(query_lengths),
                                 std::move(key_lengths), scale,           causal};
  const View<float, 4> to = ViewOf<float>(out);
  std::vector<reference::HeadStats> stats;
  {
    const nb::gil_scoped_release release;
    stats = reference::Attend(arguments.Inputs(), plan, layer, to,
                              {threads, measure_mass, random_keys_seed});
  }
  nb::list list;
  for (const reference::HeadStats& head : stats) list.append(StatsTuple(head));
  return list;
}

nb::dict KeyDict(const reference::QueryExplanation& query, const reference::KeyExplanation& key,
                 const std::vector<std::string>& labels) {
  const auto at = static_cast<std::size_t>(key.key);
  const std::string label = "key " + std::to_string(key.key) +
                            (at < labels.size() ? " '" + labels[at] + "'" : std::string());
  nb::dict dict;
  dict["key"] = key.key;
  dict["score"] = key.score;
  dict["weight"] = key.weight;
  dict["key_norm"] = key.key_norm;
  dict["distance"] = key.distance;
  dict["true_angle_rad"] = key.true_angle_rad;
  dict["angle_rad"] = key.angle_rad;
  dict["similarity"] = key.similarity;
  dict["true_similarity"] = key.true_similarity;
  dict["estimated_score"] = key.estimated_score;
  dict["kept"] = key.kept;
  dict["why"] = reference::WhySentence(query, key, label);
  return dict;
}

nb::dict Explain(FloatArray query, FloatArray key, FloatArray value, std::optional<BoolArray> mask,
                 std::optional<FloatArray> bias, std::vector<std::int64_t> query_lengths,
                 std::vector<std::int64_t> key_lengths, double scale, bool causal, const Plan& plan,
                 std::int64_t layer, std::int64_t batch, std::int64_t head,
                 std::int64_t query_index, const std::vector<std::string>& labels) {
  const InputArguments arguments{std::move(query),       std::move(key),  std::move(value),
                                 std::move(mask),        std::move(bias), std::move(query_lengths),
                                 std::move(key_lengths), scale,           causal};
  const reference::QueryExplanation e =
      reference::Explain(arguments.Inputs(), plan, layer, batch, head, query_index);
  nb::list keys;
  for (const reference::KeyExplanation& one : e.keys) keys.append(KeyDict(e, one, labels));
  nb::dict dict;
  dict["layer"] = e.layer;
  dict["head"] = e.head;
  dict["batch"] = e.batch;
  dict["query"] = e.query;
  dict["rule"] = std::string(Name(e.rule));
  dict["exact"] = e.exact;
  dict["fallback"] = e.fallback;
  dict["centred"] = e.centred;
  dict["bias_in_test"] = e.bias_in_test;
  dict["threshold"] = e.exact ? nb::object(nb::none()) : nb::object(nb::float_(e.threshold));
  dict["cut_off"] = e.exact ? nb::object(nb::none()) : nb::object(nb::float_(e.cut_off));
  dict["query_norm"] = e.query_norm;
  dict["key_norm_max"] = e.key_norm_max;
  dict["mass_kept"] = e.mass_kept;
  dict["keys"] = keys;
  return dict;
}

}  // namespace

void BindAttention(nb::module_& module) {
  module.def("attention", &Attention, nb::arg("query").noconvert(), nb::arg("key").noconvert(),
             nb::arg("value").noconvert(), nb::arg("mask").noconvert().none(),
             nb::arg("bias").noconvert().none(), nb::arg("query_lengths"), nb::arg("key_lengths"),
             nb::arg("scale"), nb::arg("causal"), nb::arg("plan").none(), nb::arg("layer"),
             nb::arg("out").noconvert(), nb::arg("threads") = 0, nb::arg("measure_mass") = false,
             nb::arg("random_keys_seed").none() = nb::none());
  module.def("explain", &Explain, nb::arg("query").noconvert(), nb::arg("key").noconvert(),
             nb::arg("value").noconvert(), nb::arg("mask").noconvert().none(),
             nb::arg("bias").noconvert().none(), nb::arg("query_lengths"), nb::arg("key_lengths"),
             nb::arg("scale"), nb::arg("causal"), nb::arg("plan"), nb::arg("layer"),
             nb::arg("batch"), nb::arg("head"), nb::arg("query_index"), nb::arg("labels"));
}

}  // namespace elsa::python
