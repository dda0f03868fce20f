#include "elsa/cpu/selection.h"

#include <algorithm>
#include <mutex>

#include "elsa/cpu/hash_program.h"
#include "elsa/reference/selection.h"
#include "elsa/reference/similarity.h"

namespace elsa::cpu {

class KeySketch {
 public:
  std::shared_ptr<const HashProgram> hash;
};

std::shared_ptr<const KeySketch> MakeKeySketch(const Inputs&, const Plan&,
                                               std::shared_ptr<const HashProgram> hash,
                                               std::int64_t, std::int64_t, const KernelSet&) {
  auto sketch = std::make_shared<KeySketch>();
  sketch->hash = std::move(hash);
  return sketch;
}

// Through the reference: a copy of the head, with rows for the queries before a causal offset.
struct HeadSelection::State {
  State(const Inputs& in, const Plan& p, std::int64_t l, std::int64_t b, std::int64_t h)
      : inputs(in),
        plan(p),
        layer(l),
        batch(b),
        head(h),
        keys(in.keys(b)),
        shift(in.causal_offset) {
    const std::int64_t d = in.query.shape[3];
    const std::int64_t queries = in.queries(b);
    const std::int64_t kv = in.kv_head(h);
    query.resize((queries + shift) * d);
    key.resize(keys * d);
    for (std::int64_t i = 0; i < queries * d; ++i) {
      query[shift * d + i] = ElementAt(in.query.Row(b, h, i / d), in.query.dtype, i % d);
    }
    for (std::int64_t i = 0; i < keys * d; ++i) {
      key[i] = ElementAt(in.key.Row(b, kv, i / d), in.key.dtype, i % d);
    }
    copy.query = {query.data(), {1, 1, queries + shift, d}};
    copy.key = {key.data(), {1, 1, keys, d}};
    copy.value = copy.key;
    copy.scale = in.scale;
    copy.causal = in.causal;
    const std::array<std::int64_t, 4> pairs{1, 1, queries + shift, keys};
    if (in.mask) {
      mask.assign((queries + shift) * keys, 1);
      for (std::int64_t i = 0; i < queries * keys; ++i) {
        mask[shift * keys + i] = in.mask(b, h, i / keys, i % keys);
      }
      copy.mask = {mask.data(), pairs};
    }
    if (in.bias) {
      bias.assign((queries + shift) * keys, 0);
      for (std::int64_t i = 0; i < queries * keys; ++i) {
        bias[shift * keys + i] =
            ElementAt(in.bias.Row(b, h, i / keys), in.bias.dtype, i % keys * in.bias.stride[3]);
      }
      copy.bias = {bias.data(), pairs};
    }
    rows = std::make_unique<reference::HeadInputs>(copy, 0, 0);
    estimator = std::make_unique<reference::SimilarityEstimator>(
        *rows, reference::EstimatorOptionsOf(plan, layer, head));
  }

  QueryCount Decide(std::int64_t i, std::uint64_t* words) {
    QueryCount count;
    const std::vector<std::int32_t>* kept = &rows->VisibleKeys(i + shift);
    count.visible = static_cast<std::int32_t>(kept->size());
    if (count.visible == 0) return count;
    reference::Selection selection;
    count.exact = count.visible < plan.dense_below;
    if (!count.exact) {
      reference::Select(estimator->Estimate(i + shift), plan.rule, plan.thresholds[layer][head],
                        selection);
      kept = &selection.kept;
      count.fallback = selection.fallback;
    }
    for (std::int32_t j : *kept) words[j / 64] |= std::uint64_t{1} << (j % 64);
    count.kept = static_cast<std::int32_t>(kept->size());
    return count;
  }

  const Inputs& inputs;
  const Plan& plan;
  std::int64_t layer;
  std::int64_t batch;
  std::int64_t head;
  std::int64_t keys;
  std::int64_t shift;
  std::vector<float> query;
  std::vector<float> key;
  std::vector<std::uint8_t> mask;
  std::vector<float> bias;
  reference::AttentionInputs copy;
  std::mutex mutex;  // the estimator is not thread-safe
  std::unique_ptr<reference::HeadInputs> rows;
  std::unique_ptr<reference::SimilarityEstimator> estimator;
};

HeadSelection::HeadSelection(const Inputs& inputs, const Plan& plan, std::int64_t layer,
                             std::int64_t batch, std::int64_t head,
                             std::shared_ptr<const KeySketch>, const KernelSet&)
    : state_(std::make_unique<State>(inputs, plan, layer, batch, head)) {}

HeadSelection::~HeadSelection() = default;

std::int64_t HeadSelection::words() const { return (state_->keys + 511) / 512 * 8; }

void HeadSelection::Decide(std::int64_t first, std::int64_t count, std::uint64_t* masks,
                           QueryCount* counts) const {
  const std::lock_guard lock(state_->mutex);
  std::fill(masks, masks + count * words(), 0);
  for (std::int64_t i = first; i < first + count; ++i) {
    const bool padding = i >= state_->inputs.queries(state_->batch);
    counts[i - first] = padding ? QueryCount() : state_->Decide(i, masks + (i - first) * words());
  }
}

double HeadSelection::SampleKeptFraction() const {
  const std::int64_t queries = state_->inputs.queries(state_->batch);
  const std::int64_t step = std::max<std::int64_t>(queries / 16, 1);
  std::vector<std::uint64_t> mask(words());
  std::int64_t visible = 0;
  std::int64_t kept = 0;
  for (std::int64_t i = step / 2; i < queries; i += step) {
    QueryCount count;
    Decide(i, 1, mask.data(), &count);
    visible += count.visible;
    kept += count.kept;
  }
  return visible > 0 ? static_cast<double>(kept) / static_cast<double>(visible) : 1;
}

}  // namespace elsa::cpu
