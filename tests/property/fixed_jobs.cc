// Prints random machines, inputs and plans, and what layer `fixed` makes of them, one JSON object
// per line: the C++ half of fixed_oracle_test.py. Usage: elsa_fixed_jobs FIRST_SEED COUNT
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <variant>

#include "elsa/fixed/attend.h"
#include "elsa/fixed/testing.h"

namespace elsa::fixed {
namespace {

using nlohmann::json;

json ConfigJson(const Config& config) {
  json object;
  for (const Field& field : Fields()) {
    const std::string key(field.key.substr(field.key.find('.') + 1));
    const std::string text = ValueText(config, field);
    object[key] = IsInteger(field) ? json(std::stoll(text)) : json(text);
  }
  return object;
}

json TensorJson(const reference::Tensor<float>& tensor) {
  json rows = json::array();
  for (std::int64_t i = 0; i < tensor.shape[2]; ++i) {
    json row = json::array();
    for (std::int64_t c = 0; c < tensor.shape[3]; ++c) row.push_back(tensor(0, 0, i, c));
    rows.push_back(row);
  }
  return rows;
}

json PlanJson(const Plan& plan) {
  json object;
  object["exact"] = plan.IsExactHead(0, 0);
  object["threshold"] = plan.IsExactHead(0, 0) ? json() : json(plan.thresholds[0][0]);
  object["theta_bias_rad"] = plan.ThetaBias(0, 0);
  object["dense_below"] = plan.dense_below;
  object["remainder"] = Name(plan.remainder);
  for (const HashBatch& batch : plan.hash.batches) {
    json factors = json::array();
    for (const Matrix& matrix : batch.factors) {
      factors.push_back({{"rows", matrix.rows}, {"cols", matrix.cols}, {"values", matrix.values}});
    }
    object["batches"].push_back({{"bits", batch.bits}, {"factors", factors}});
  }
  return object;
}

// Each bank's candidates in a random order, as queues and arbiters may deliver them.
IssueOrder RandomOrder(const Config& config, const Job& job, const Candidates* candidates,
                       Random& random) {
  IssueOrder order;
  order.begin.push_back(0);
  for (std::int64_t query = 0; query < job.queries; ++query) {
    for (std::int64_t bank = 0; bank < config.banks; ++bank) {
      const std::size_t first = order.keys.size();
      for (std::int64_t key = bank; key < job.Visible(query); key += config.banks) {
        const bool kept = candidates == nullptr || candidates->Kept(query, key) ||
                          candidates->fallback[query] == key;
        if (!kept) continue;
        order.keys.push_back(static_cast<std::int32_t>(key));
        const std::size_t with = first + random.Below(order.keys.size() - first);
        std::swap(order.keys.back(), order.keys[with]);
      }
      order.begin.push_back(static_cast<std::int64_t>(order.keys.size()));
    }
  }
  return order;
}

MachineProblem DrawProblem(const Config& config, std::uint64_t seed, Random& random) {
  MachineProblem drawn = RandomMachineProblem(config, seed);
  reference::Problem& problem = drawn.problem;
  const std::int64_t most = problem.causal ? 16 : 5;  // the other implementation is slow
  problem.query_lengths = {std::min(most, problem.query.shape[2])};
  if (!problem.causal && random.Below(3) == 0) {
    problem.mask = reference::Tensor<std::uint8_t>(problem.pairs());
    for (std::int64_t key = 0; key < problem.key.shape[2]; ++key) {
      const std::uint8_t visible = random.Below(4) != 0 ? 1 : 0;
      for (std::int64_t i = 0; i < problem.query.shape[2]; ++i)
        problem.mask(0, 0, i, key) = visible;
    }
  }
  return drawn;
}

// The first seeds are the named sets on the paper's machine, the others random machines.
Config DrawMachine(std::uint64_t seed, Random& random) {
  if (seed >= kFormatSets.size()) return RandomMachine(random);
  Config config;
  config.d = 16;  // smaller than the paper's, for the other implementation's sake
  config.k = 16;
  config.hash = HashKind::kKronecker2;
  config.hash_multipliers = 16;
  SetFormats(&config, kFormatSets[seed]);
  return config;
}

void Print(std::uint64_t seed) {
  Random random(seed + 5000);
  const Config config = DrawMachine(seed, random);
  const MachineProblem drawn = DrawProblem(config, seed, random);
  const Job job = JobOf(config, drawn.problem, &drawn.plan);
  Candidates selected;
  if (!job.exact) selected = SelectCandidates(config, job);
  const Candidates* candidates = job.exact ? nullptr : &selected;
  const IssueOrder order = RandomOrder(config, job, candidates, random);

  json object;
  object["seed"] = seed;
  object["config"] = ConfigJson(config);
  object["plan"] = PlanJson(drawn.plan);
  object["query"] = TensorJson(drawn.problem.query);
  object["key"] = TensorJson(drawn.problem.key);
  object["value"] = TensorJson(drawn.problem.value);
  object["queries"] = job.queries;
  object["causal"] = drawn.problem.causal;
  object["scale"] = drawn.problem.scale;
  object["visible"] = json::array();
  for (std::int64_t key = 0; key < drawn.problem.key.shape[2]; ++key) {
    object["visible"].push_back(drawn.problem.mask.values.empty() ||
                                drawn.problem.mask(0, 0, 0, key) != 0);
  }
  object["order"] = {{"keys", order.keys}, {"begin", order.begin}};

  object["kept"] = json();
  if (!job.exact) {
    object["kept"] = json::array();
    for (std::int64_t query = 0; query < job.queries; ++query) {
      json kept = json::array();
      for (std::int64_t key = 0; key < job.keys; ++key) {
        if (selected.Kept(query, key)) kept.push_back(key);
      }
      object["kept"].push_back(kept);
    }
    object["fallback"] = selected.fallback;
  }
  object["ascending"] = Attend(config, job, candidates).rows;
  object["ordered"] = Attend(config, job, candidates, &order).rows;
  std::vector<float> stored(job.queries * job.d_v);
  StoreOutput(config, job, Attend(config, job, candidates).rows,
              View<float, 2>(stored.data(), {job.queries, job.d_v}));
  object["stored"] = stored;
  std::puts(object.dump().c_str());
}

}  // namespace
}  // namespace elsa::fixed

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const std::uint64_t first = std::strtoull(argv[1], nullptr, 10);
  const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
  for (std::uint64_t seed = first; seed < first + count; ++seed) elsa::fixed::Print(seed);
  return 0;
}
