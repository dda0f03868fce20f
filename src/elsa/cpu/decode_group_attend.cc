// The arithmetic of DecodeGroup: softmax over the rows that its queries keep.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "elsa/cpu/decode_group.h"

namespace elsa::cpu {
namespace {

constexpr std::int64_t kTurn = 32;  // rows that a query uses before the next has its turn
constexpr double kLog2E = std::numbers::log2e;

// Rows [from, to) of one query: how its part of a chunk continues.
void AttendRange(const DecodeCall& call, const DecodeRows& rows, std::int64_t from, std::int64_t to,
                 DecodePart& part) {
  if (to > from) call.kernels.decode->attend(rows, {nullptr, from, to - from, 0}, &part, 1);
}

}  // namespace

DecodeRows DecodeGroup::ChunkRows(std::int64_t chunk) const {
  DecodeRows rows = rows_;
  rows.data += chunk * kDecodeChunk * rows.row_bytes;
  return rows;
}

void DecodeGroup::Attend(std::int64_t chunk) {
  std::vector<std::size_t> adjacent;
  std::vector<std::size_t> listed;
  for (std::size_t at = 0; at < queries_.size(); ++at) {
    const Query& q = queries_[at];
    (q.kept == nullptr && q.seen == nullptr ? adjacent : listed).push_back(at);
  }
  AttendAdjacent(chunk, adjacent);
  AttendListed(chunk, listed);
}

// Biases of listed keys, or of those from `first` on; null without.
const float* DecodeGroup::BiasOf(const Query& q, std::int64_t first,
                                 std::span<const std::uint32_t> keys,
                                 std::vector<float>& buffer) const {
  if (!call_.inputs.bias) return nullptr;
  buffer.clear();
  for (std::uint32_t key : keys) {
    buffer.push_back(static_cast<float>(kLog2E * EstimateBias(q, first + key)));
  }
  return buffer.data();
}

// Queries that keep all that they see, up to kDecodeQueries of them over one reading of the rows.
void DecodeGroup::AttendAdjacent(std::int64_t chunk, std::span<const std::size_t> queries) {
  const DecodeRows rows = ChunkRows(chunk);
  const std::int64_t first = chunk * kDecodeChunk;
  const auto end = [&](std::size_t at) {
    return std::clamp<std::int64_t>(queries_[at].end - first, 0, kDecodeChunk);
  };
  std::vector<std::uint32_t> keys(call_.inputs.bias ? kDecodeChunk : 0);
  for (std::size_t j = 0; j < keys.size(); ++j) keys[j] = static_cast<std::uint32_t>(j);
  std::vector<float> biases[kDecodeQueries];
  for (std::size_t from = 0; from < queries.size(); from += kDecodeQueries) {
    const auto tile =
        queries.subspan(from, std::min<std::size_t>(kDecodeQueries, queries.size() - from));
    DecodePart parts[kDecodeQueries];
    std::int64_t shared = kDecodeChunk;
    for (std::size_t t = 0; t < tile.size(); ++t) {
      parts[t] = Part(tile[t], chunk);
      shared = std::min(shared, end(tile[t]));
      if (keys.empty()) continue;
      const std::span<const std::uint32_t> all(keys);
      parts[t].bias = BiasOf(queries_[tile[t]], first, all.first(end(tile[t])), biases[t]);
    }
    call_.kernels.decode->attend(rows, {nullptr, 0, shared, 0}, parts,
                                 static_cast<int>(tile.size()));
    for (std::size_t t = 0; t < tile.size(); ++t) {
      if (parts[t].bias != nullptr) parts[t].bias += shared;
      AttendRange(call_, rows, shared, end(tile[t]), parts[t]);
      Part(tile[t], chunk) = parts[t];
    }
  }
}

// Queries that pick keys take turns, so that a row that several of them pick is still in the cache
// when the second needs it.
void DecodeGroup::AttendListed(std::int64_t chunk, std::span<const std::size_t> queries) {
  if (queries.empty()) return;
  static thread_local Buffer buffer;
  constexpr std::int64_t kRoom = kDecodeChunk + 64;
  std::uint32_t* lists =
      buffer.Get<std::uint32_t>(static_cast<std::int64_t>(queries.size()) * kRoom);
  const std::int64_t first = chunk * kDecodeChunk;
  const std::int64_t mask_words = std::min(kDecodeChunk / 64, words() - first / 64);
  std::vector<std::int64_t> counts;
  std::vector<std::vector<float>> biases(queries.size());
  std::size_t longest = 0;
  for (std::size_t t = 0; t < queries.size(); ++t) {
    const Query& q = queries_[queries[t]];
    const std::uint64_t* mask = (q.kept != nullptr ? q.kept : q.seen) + first / 64;
    std::uint32_t* list = lists + t * kRoom;
    counts.push_back(call_.kernels.decode->list(mask, mask_words, list));
    DecodePart& part = Part(queries[t], chunk);
    part.bias = BiasOf(q, first, {list, static_cast<std::size_t>(counts[t])}, biases[t]);
    if (counts[t] > counts[longest]) longest = t;
  }
  const DecodeRows rows = ChunkRows(chunk);
  std::vector<std::int64_t> done(queries.size(), 0);
  for (std::int64_t at = 0; at < counts[longest] || at == 0; at += kTurn) {
    // Everybody goes as far as the one with the most keys does with its next few.
    const bool last_turn = queries.size() == 1 || at + kTurn >= counts[longest];
    const std::uint32_t limit = last_turn ? UINT32_MAX : lists[longest * kRoom + at + kTurn - 1];
    for (std::size_t t = 0; t < queries.size(); ++t) {
      const std::uint32_t* list = lists + t * kRoom;
      const std::int64_t to = std::upper_bound(list + done[t], list + counts[t], limit) - list;
      DecodePart& part = Part(queries[t], chunk);
      call_.kernels.decode->attend(rows, {list + done[t], 0, to - done[t], counts[t] - to}, &part,
                                   1);
      if (part.bias != nullptr) part.bias += to - done[t];
      done[t] = to;
    }
    if (last_turn) break;
  }
}

void DecodeGroup::Finish() {
  for (std::size_t at = 0; at < queries_.size(); ++at) Merge(at);
  Count();
}

// Puts the chunks of a query together, in their order.
void DecodeGroup::Merge(std::size_t query) {
  const Query& q = queries_[query];
  double peak = -HUGE_VAL;
  for (std::int64_t c = 0; c < chunks(); ++c) {
    peak = std::max<double>(peak, Part(query, c).peak);
  }
  double sum = 0;
  std::vector<double> row(rows_.d_v, 0.0);
  for (std::int64_t c = 0; c < chunks(); ++c) {
    const DecodePart& part = Part(query, c);
    if (part.sum == 0) continue;  // no key of this chunk, or all of them at -infinity
    const double factor = part.peak == peak ? 1 : std::exp2(part.peak - peak);
    sum += factor * part.sum;
    for (std::int64_t z = 0; z < rows_.d_v; ++z) row[z] += factor * part.values[z];
  }
  const bool with_mean = q.selects && state_.has_mean_row() && q.kept_count < q.visible;
  if (with_mean) AddMeanRow(q, peak, sum, row);
  Write(q, row, peak, sum);
}

double DecodeGroup::MeanBias(const Query& q) const {
  if (!call_.inputs.bias) return 0;
  double sum = 0;
  for (std::int64_t j = 0; j < q.end; ++j) {
    if (q.seen == nullptr || (q.seen[j / 64] >> (j % 64) & 1) != 0) sum += EstimateBias(q, j);
  }
  return sum / static_cast<double>(q.visible);
}

// Sums over the rows that a query sees.
std::vector<double> DecodeGroup::Sums(const Query& q) {
  const std::int64_t components = rows_.d + rows_.d_v;
  const KvSums sums = q.seen == nullptr ? state_.Sums(b_, kv_head_, q.end, mean_rebuilds_)
                                        : state_.SeenSums(b_, kv_head_, q.seen, q.end);
  return {sums.data(), sums.data() + components};
}

void DecodeGroup::AddMeanRow(const Query& q, double& peak, double& sum, std::vector<double>& row) {
  const std::vector<double> sums = Sums(q);
  const auto visible = static_cast<double>(q.visible);
  const float* query = call_.queries + Row(q) * rows_.d;
  double score = kLog2E * MeanBias(q);
  for (std::int64_t c = 0; c < rows_.d; ++c) score += query[c] * (sums[c] / visible);
  const double old = peak;
  if (score > peak) peak = score;
  const double factor = old == peak ? 1 : std::exp2(old - peak);
  const double weight = static_cast<double>(q.visible - q.kept_count) * std::exp2(score - peak);
  sum = factor * sum + weight;
  for (std::int64_t z = 0; z < rows_.d_v; ++z) {
    row[z] = factor * row[z] + weight * (sums[rows_.d + z] / visible);
  }
}

void DecodeGroup::Write(const Query& q, const std::vector<double>& row, double peak, double sum) {
  const std::int64_t d_v = state_.options.d_v;
  std::vector<float> out(d_v, 0.0f);
  for (std::int64_t z = 0; z < d_v && q.visible > 0; ++z) out[z] = static_cast<float>(row[z] / sum);
  ConvertRow(reinterpret_cast<const std::byte*>(out.data()), DType::kF32, d_v, d_v, call_.out.dtype,
             call_.out.Row(b_, q.head, q.i));
  if (!call_.log_sum_exp) return;
  call_.log_sum_exp(b_, q.head, q.i) =
      q.visible > 0 ? static_cast<float>((peak + std::log2(sum)) / kLog2E) : -HUGE_VALF;
}

void DecodeGroup::Count() {
  const std::int64_t group = state_.group();
  for (const Query& q : queries_) {
    reference::HeadStats& stats = reports_[q.head % group].stats;
    ++stats.queries;
    stats.empty_queries += q.visible == 0 ? 1 : 0;
    stats.exact_queries += q.visible > 0 && !q.selects ? 1 : 0;
    stats.fallback_queries += q.fallback ? 1 : 0;
    stats.pairs += q.visible;
    stats.kept += q.kept_count;
  }
  for (std::int64_t g = 0; g < group; ++g) {
    ++reports_[g].heads_by_path[static_cast<int>(paths_[g])];
  }
}

}  // namespace elsa::cpu
