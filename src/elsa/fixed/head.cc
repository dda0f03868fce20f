#include "elsa/fixed/head.h"

#include <algorithm>
#include <string>

#include "elsa/base/error.h"
#include "elsa/fixed/attention_unit.h"
#include "elsa/fixed/bank_sums.h"
#include "elsa/fixed/candidate_selector.h"
#include "elsa/fixed/exp_unit.h"
#include "elsa/fixed/hash_unit.h"
#include "elsa/fixed/norm_unit.h"
#include "elsa/fixed/output_divider.h"
#include "elsa/fixed/rounding.h"
#include "elsa/reference/hash.h"

namespace elsa::fixed {
namespace {

std::span<const std::int16_t> Row(const std::vector<std::int16_t>& rows, std::int64_t row,
                                  std::int64_t width) {
  return {rows.data() + row * width, static_cast<std::size_t>(width)};
}

std::vector<std::int64_t> KeyNorms(const Config& config, const Job& job, MachineCounts* counts) {
  const NormUnit unit(config);
  std::vector<std::int64_t> norms;
  for (std::int64_t key = 0; key < job.keys; ++key) {
    bool saturated = false;
    norms.push_back(
        unit.Norm(NormUnit::Square(Row(job.key, key, job.d)), job.norm_shift, &saturated));
    if (counts == nullptr) continue;
    ++counts->norms;
    counts->saturated_norms += saturated ? 1 : 0;
  }
  return norms;
}

// Sums of the columns times the constant 1/n, as one row.
std::vector<std::int16_t> MeanOf(const Config& config, const std::vector<std::int16_t>& rows,
                                 std::int64_t width, const ScoreConstant& constant) {
  std::vector<std::int64_t> sums(width, 0);
  for (std::size_t i = 0; i < rows.size(); ++i) sums[i % width] += rows[i];
  std::vector<std::int16_t> mean;
  for (const std::int64_t sum : sums) {
    // 1/n has more fraction bits than its mantissa has bits beyond the first: never a left shift.
    const std::int64_t rounded =
        RoundShift(sum * constant.mantissa, -constant.exponent, config.qkv_rounding);
    mean.push_back(static_cast<std::int16_t>(
        Saturate(rounded, config.qkv_integer_bits + config.qkv_fraction_bits)));
  }
  return mean;
}

// The attention of one head, query by query.
class HeadRun {
 public:
  HeadRun(const Config& config, const Job& job, const Candidates* candidates,
          const IssueOrder* order)
      : config_(config),
        job_(job),
        candidates_(candidates),
        order_(order),
        exp_(config),
        sums_(config, job.d_v),
        divider_(config),
        banks_(config.banks) {
    if (job.mean_row) mean_ = MeanRowOf(config, job);
  }

  HeadOutput Run() {
    output_.rows.assign(job_.queries * job_.d_v, 0);
    for (std::int64_t query = 0; query < job_.queries; ++query) {
      if (job_.Visible(query) > 0) Query(query);
    }
    return std::move(output_);
  }

 private:
  void Query(std::int64_t query) {
    std::int64_t kept = 0;
    for (std::int64_t bank = 0; bank < config_.banks; ++bank) {
      sums_.Start();
      const std::span<const std::int32_t> keys = KeysOf(query, bank);
      for (const std::int32_t key : keys) {
        sums_.Add(WeightOf(query, &job_.key[key * job_.d]), &job_.value[key * job_.d_v]);
      }
      kept += static_cast<std::int64_t>(keys.size());
      const std::int64_t dropped = job_.Visible(query) - kept;
      if (job_.mean_row && dropped > 0 && bank == config_.banks - 1) {
        sums_.Add(exp_.Multiply(WeightOf(query, mean_.key.data()), dropped), mean_.value.data());
      }
      sums_.CopyTo(banks_[bank]);
    }
    Divide(query);
  }

  Weight WeightOf(std::int64_t query, const std::int16_t* key) {
    const std::int64_t dot = FastDot(&job_.query[query * job_.d], key, job_.d);
    const std::int64_t y = exp_.Exponent(dot, job_.score_constant);
    ++output_.counts.scores;
    output_.counts.clamped_scores += y == exp_.lowest() || y == exp_.highest() ? 1 : 0;
    return exp_.Power(y);
  }

  void Divide(std::int64_t query) {
    const BankSums merged = divider_.Merge(banks_);
    const Dyadic reciprocal = divider_.Reciprocal(merged);
    for (std::int64_t c = 0; c < job_.d_v; ++c) {
      bool saturated = false;
      output_.rows[query * job_.d_v + c] = divider_.Quotient(merged, c, reciprocal, &saturated);
      output_.counts.saturated_outputs += saturated ? 1 : 0;
    }
    output_.counts.outputs += job_.d_v;
  }

  // The candidates of a bank in their order; valid until the next call.
  std::span<const std::int32_t> KeysOf(std::int64_t query, std::int64_t bank) {
    if (order_ != nullptr) {
      const std::int64_t* begin = &order_->begin[query * config_.banks + bank];
      return {order_->keys.data() + begin[0], static_cast<std::size_t>(begin[1] - begin[0])};
    }
    keys_.clear();
    const std::int64_t visible = job_.Visible(query);
    for (std::int64_t key = bank; key < visible; key += config_.banks) {
      if (candidates_ == nullptr || candidates_->Kept(query, key) ||
          candidates_->fallback[query] == key) {
        keys_.push_back(static_cast<std::int32_t>(key));
      }
    }
    return keys_;
  }

  const Config& config_;
  const Job& job_;
  const Candidates* candidates_;
  const IssueOrder* order_;
  ExpUnit exp_;
  FastBankSums sums_;
  OutputDivider divider_;
  MeanRow mean_;
  std::vector<BankSums> banks_;
  std::vector<std::int32_t> keys_;
  HeadOutput output_;
};

void RequireSizes(const Config& config, const Job& job, const Candidates* candidates,
                  const IssueOrder* order) {
  const auto require = [](const std::string& where, std::size_t expected, std::size_t got) {
    if (expected == got) return;
    throw Error(ErrorCode::kMismatch, where + ": expected " + std::to_string(expected) +
                                          " entries, got " + std::to_string(got));
  };
  const auto queries = static_cast<std::size_t>(job.queries);
  if (!job.exact) {
    require("candidates", queries, candidates != nullptr ? candidates->fallback.size() : 0);
    require("candidates: bits", queries * static_cast<std::size_t>((job.keys + 63) / 64),
            candidates != nullptr ? candidates->bits.size() : 0);
  }
  if (order != nullptr) {
    require("order", queries * static_cast<std::size_t>(config.banks) + 1, order->begin.size());
  }
}

}  // namespace

MachineCounts& MachineCounts::operator+=(const MachineCounts& other) {
  norms += other.norms;
  saturated_norms += other.saturated_norms;
  scores += other.scores;
  clamped_scores += other.clamped_scores;
  outputs += other.outputs;
  saturated_outputs += other.saturated_outputs;
  return *this;
}

MeanRow MeanRowOf(const Config& config, const Job& job) {
  return {MeanOf(config, job.key, job.d, job.mean_constant),
          MeanOf(config, job.value, job.d_v, job.mean_constant)};
}

Candidates SelectCandidates(const Config& config, const Job& job, MachineCounts* counts) {
  const std::vector<std::int64_t> norms = KeyNorms(config, job, counts);
  const std::vector<std::uint64_t> query_hashes = HashRows(config, job.hash, job.query);
  const std::vector<std::uint64_t> key_hashes = HashRows(config, job.hash, job.key);
  const CandidateSelector selector(config, job);
  const std::size_t hash_words = (config.k + 63) / 64;
  Candidates candidates;
  candidates.words = (job.keys + 63) / 64;
  candidates.bits.assign(job.queries * candidates.words, 0);
  candidates.fallback.assign(job.queries, -1);
  for (std::int64_t query = 0; query < job.queries; ++query) {
    const std::int64_t visible = job.Visible(query);
    if (visible == 0) continue;
    const bool keep_all = visible < job.exact_below;
    const std::int64_t cut_off =
        selector.CutOff(*std::max_element(norms.begin(), norms.begin() + visible));
    const std::span query_hash(&query_hashes[query * hash_words], hash_words);
    std::uint64_t* bits = &candidates.bits[query * candidates.words];
    std::int64_t best = 0;
    std::int64_t best_key = -1;
    bool any = false;
    for (std::int64_t key = 0; key < visible; ++key) {
      const std::span key_hash(&key_hashes[key * hash_words], hash_words);
      const std::int64_t similarity =
          selector.Similarity(reference::HammingDistance(query_hash, key_hash), norms[key]);
      if (keep_all || selector.Keeps(similarity, cut_off)) {
        bits[key / 64] |= std::uint64_t{1} << (key % 64);
        any = true;
      }
      if (best_key < 0 || similarity > best) {
        best = similarity;
        best_key = key;
      }
    }
    if (!any) candidates.fallback[query] = static_cast<std::int32_t>(best_key);
  }
  return candidates;
}

HeadOutput Attend(const Config& config, const Job& job, const Candidates* candidates,
                  const IssueOrder* order) {
  RequireSizes(config, job, candidates, order);
  return HeadRun(config, job, job.exact ? nullptr : candidates, order).Run();
}

}  // namespace elsa::fixed
