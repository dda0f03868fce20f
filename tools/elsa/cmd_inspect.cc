// elsa inspect: for one query every key with what decided its fate, and a sentence that says why.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/commands.h"
#include "elsa/io/plan_file.h"
#include "elsa/io/trace_file.h"
#include "elsa/output.h"
#include "elsa/reference/explain.h"
#include "elsa/trace_inputs.h"

namespace elsa {
namespace {

using reference::KeyExplanation;
using reference::QueryExplanation;

struct Options {
  std::string trace;
  std::string plan;
  std::int64_t layer = 0;
  std::int64_t head = 0;
  std::int64_t batch = 0;
  std::int64_t query = 0;
  std::optional<std::int64_t> key;
  std::int64_t top = 16;
  std::string sort = "weight";
  bool json = false;
};

constexpr char kExample[] =
    R"(weight: exact softmax weight. distance: bits in which the hashes of query and key differ.
angle: estimated from it, corrected. similarity: norm of the key times the cosine of the angle.

Example: why query 5 of the first sequence kept or dropped key 9
  $ elsa inspect trace.safetensors --plan plan.json --layer 3 --head 1 --query 5 --key 9)";

void RequireIndex(const char* option, std::int64_t got, std::int64_t count) {
  if (got >= 0 && got < count) return;
  const std::string expected =
      count > 0 ? "0 to " + std::to_string(count - 1) : "another sequence (this one is empty)";
  throw Error(ErrorCode::kInvalidArgument,
              std::string(option) + ": expected " + expected + ", got " + std::to_string(got));
}

// The token at a position, if the trace has it.
std::optional<std::string> TokenAt(const io::Trace& trace, std::int64_t batch,
                                   std::int64_t position) {
  if (!trace.has_tokens() || position >= std::ssize(trace.tokens(batch))) return std::nullopt;
  return trace.tokens(batch)[position];
}

// The token of a query: known in self-attention only, where queries sit at the keys' positions.
std::optional<std::string> QueryToken(const io::Trace& trace, const QueryExplanation& why) {
  if (trace.n_q() != trace.n_k()) return std::nullopt;
  return TokenAt(trace, why.batch, why.query);
}

Json OrNull(const std::optional<std::string>& text) { return text ? Json(*text) : Json(); }

std::string Label(const char* what, std::int64_t index, const std::optional<std::string>& token) {
  return std::string(what) + " " + std::to_string(index) +
         (token ? " '" + Escaped(*token) + "'" : "");
}

const KeyExplanation& FindKey(const QueryExplanation& why, std::int64_t key) {
  const auto found = std::find_if(why.keys.begin(), why.keys.end(),
                                  [&](const KeyExplanation& entry) { return entry.key == key; });
  if (found != why.keys.end()) return *found;
  throw Error(ErrorCode::kInvalidArgument,
              "--key: expected one of the " + std::to_string(why.keys.size()) +
                  " keys that the query sees (neither padding nor masked), got " +
                  std::to_string(key));
}

// The heaviest key that was kept, or dropped; nullptr if there is none.
const KeyExplanation* Heaviest(const QueryExplanation& why, bool kept) {
  const KeyExplanation* best = nullptr;
  for (const KeyExplanation& key : why.keys) {
    if (key.kept == kept && (best == nullptr || key.weight > best->weight)) best = &key;
  }
  return best;
}

// The rows to show: the first `top` in the order wanted, and the key asked for.
std::vector<KeyExplanation> Shown(const QueryExplanation& why, const Options& options) {
  std::vector<KeyExplanation> keys = why.keys;
  if (options.sort != "key") {
    const bool weight = options.sort == "weight";
    std::stable_sort(keys.begin(), keys.end(), [&](const auto& a, const auto& b) {
      return weight ? a.weight > b.weight : a.similarity > b.similarity;
    });
  }
  if (options.top == 0 || options.top >= std::ssize(keys)) return keys;
  keys.resize(options.top);
  if (options.key && std::none_of(keys.begin(), keys.end(),
                                  [&](const auto& entry) { return entry.key == *options.key; })) {
    keys.push_back(FindKey(why, *options.key));
  }
  return keys;
}

// Whether the test is on the estimated score instead of the similarity, and the cut-off in its
// unit. With the bias in the test: scale |q| (similarity - cut) + bias > 0, written for the score.
bool TestsScore(const QueryExplanation& why) { return why.rule == Rule::kGap || why.bias_in_test; }
double CutOff(const QueryExplanation& why) {
  return why.bias_in_test && why.rule != Rule::kGap ? why.cut_off * why.query_scale : why.cut_off;
}

Json ToJson(const io::Trace& trace, const KeyExplanation& key, std::int64_t batch) {
  return {{"key", key.key},
          {"token", OrNull(TokenAt(trace, batch, key.key))},
          {"score", key.score},
          {"weight", key.weight},
          {"key_norm", key.key_norm},
          {"distance_bits", key.distance},
          {"true_angle_rad", key.true_angle_rad},
          {"angle_rad", key.angle_rad},
          {"similarity", key.similarity},
          {"true_similarity", key.true_similarity},
          {"estimated_score", key.estimated_score},
          {"kept", key.kept}};
}

struct Sentence {
  KeyExplanation key;
  std::string text;
};

std::vector<Sentence> Sentences(const io::Trace& trace, const QueryExplanation& why,
                                const Options& options) {
  std::vector<Sentence> sentences;
  const auto add = [&](const KeyExplanation& key) {
    const std::string label = Label("key", key.key, TokenAt(trace, why.batch, key.key));
    sentences.push_back({key, reference::WhySentence(why, key, label)});
  };
  if (options.key) {
    add(FindKey(why, *options.key));
    return sentences;
  }
  if (const KeyExplanation* key = Heaviest(why, false)) add(*key);
  if (const KeyExplanation* key = Heaviest(why, true)) add(*key);
  return sentences;
}

void PrintReport(const Options& options, const io::Trace& trace, const Plan& plan,
                 const QueryExplanation& why, const std::vector<Sentence>& sentences) {
  const auto kept = std::count_if(why.keys.begin(), why.keys.end(),
                                  [](const KeyExplanation& key) { return key.kept; });
  Json keys = Json::array();
  for (const KeyExplanation& key : Shown(why, options)) {
    keys.push_back(ToJson(trace, key, why.batch));
  }
  Json reasons = Json::array();
  for (const Sentence& sentence : sentences) {
    reasons.push_back(
        {{"key", sentence.key.key}, {"kept", sentence.key.kept}, {"sentence", sentence.text}});
  }
  PrintJson({{"trace", options.trace},
             {"plan", options.plan},
             {"profile", ProfileName(plan)},
             {"model", trace.model()},
             {"layer", why.layer},
             {"head", why.head},
             {"batch", why.batch},
             {"query", why.query},
             {"token", OrNull(QueryToken(trace, why))},
             {"rule", Name(why.rule)},
             {"remainder", Name(plan.remainder)},
             {"exact", why.exact},
             {"fallback", why.fallback},
             {"centred", why.centred},
             {"bias_in_test", why.bias_in_test},
             {"k", plan.hash.k},
             {"theta_bias_rad", plan.ThetaBias(why.layer, why.head)},
             {"query_norm", why.query_norm},
             {"key_norm_max", why.key_norm_max},
             {"threshold", why.exact ? Json() : Json(why.threshold)},
             {"tested", TestsScore(why) ? "estimated_score" : "similarity"},
             {"cut_off", why.exact ? Json() : Json(CutOff(why))},
             {"pairs", why.keys.size()},
             {"kept", kept},
             {"mass_kept", why.mass_kept},
             {"keys", keys},
             {"why", reasons}});
}

void PrintHeading(const io::Trace& trace, const Plan& plan, const QueryExplanation& why) {
  const auto kept = std::count_if(why.keys.begin(), why.keys.end(),
                                  [](const KeyExplanation& key) { return key.kept; });
  std::cout << Label("query", why.query, QueryToken(trace, why)) << " of sequence " << why.batch
            << ", layer " << why.layer << ", head " << why.head << ": keeps " << kept << " of "
            << why.keys.size() << " keys with " << Fixed(100 * why.mass_kept, 1)
            << " % of the softmax mass\n";
  if (why.exact) {
    std::cout << "exact: no key is tested\n\n";
    return;
  }
  if (why.rule == Rule::kGap) {
    std::cout << "cut-off " << Fixed(CutOff(why), 3) << " = best estimated score - gap "
              << Fixed(why.threshold, 3);
  } else {
    std::cout << "cut-off " << Fixed(CutOff(why), 3) << " = threshold " << Fixed(why.threshold, 3)
              << " x largest key norm " << Fixed(why.key_norm_max, 3);
    if (why.bias_in_test) std::cout << " x scaled query norm " << Fixed(why.query_scale, 3);
  }
  std::cout << (plan.remainder == Remainder::kMean ? "; the mean row stands for dropped keys" : "")
            << "\n\n";
}

void PrintTable(const Options& options, const io::Trace& trace, const QueryExplanation& why) {
  std::vector<Table::Column> columns = {{"key"}};
  if (trace.has_tokens()) columns.push_back({"token", true});
  for (const char* name : {"score", "weight", "distance", "angle", "similarity"}) {
    columns.push_back({name});
  }
  if (TestsScore(why)) columns.push_back({"est. score"});
  columns.push_back({"cut-off"});
  columns.push_back({"decision", true});
  Table table(columns);
  const std::vector<KeyExplanation> keys = Shown(why, options);
  for (const KeyExplanation& key : keys) {
    std::vector<std::string> row = {std::to_string(key.key)};
    if (trace.has_tokens()) {
      row.push_back(Escaped(TokenAt(trace, why.batch, key.key).value_or("")));
    }
    row.insert(row.end(), {Fixed(key.score, 3), Fixed(key.weight, 5), std::to_string(key.distance),
                           Fixed(key.angle_rad, 3), Fixed(key.similarity, 3)});
    if (TestsScore(why)) row.push_back(Fixed(key.estimated_score, 3));
    row.push_back(why.exact ? "-" : Fixed(CutOff(why), 3));
    row.push_back(key.kept ? "kept" : "dropped");
    table.AddRow(row);
  }
  table.Print();
  if (keys.size() < why.keys.size()) {
    std::cout << "(" << keys.size() << " of " << why.keys.size() << " keys; --top 0 shows all)\n";
  }
}

void Inspect(const Options& options) {
  const Plan plan = io::ReadPlan(options.plan);
  const io::Trace trace = io::Trace::Open(options.trace);
  RequirePlanFits(plan, options.plan, trace);
  RequireIndex("--layer", options.layer, trace.layers());
  RequireIndex("--head", options.head, trace.shape(options.layer).heads);
  RequireIndex("--batch", options.batch, trace.batch());
  RequireIndex("--query", options.query, trace.RealQueries(options.batch));
  if (options.key) RequireIndex("--key", *options.key, trace.lengths()[options.batch]);
  trace.CheckFinite();

  const io::LayerTensors tensors = trace.Layer(options.layer);
  const QueryExplanation why = reference::Explain(InputsOf(trace, tensors), plan, options.layer,
                                                  options.batch, options.head, options.query);
  const std::vector<Sentence> sentences = Sentences(trace, why, options);
  if (options.json) {
    PrintReport(options, trace, plan, why, sentences);
    return;
  }
  PrintHeading(trace, plan, why);
  PrintTable(options, trace, why);
  std::cout << "\n";
  for (const Sentence& sentence : sentences) std::cout << sentence.text << "\n";
}

}  // namespace

void AddInspectCommand(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("inspect", "Say why a query kept some keys and dropped others");
  auto options = std::make_shared<Options>();
  const auto add = [&](const char* name, std::int64_t& value, const char* doc) {
    return command->add_option(name, value, doc)->type_name("N");
  };
  command->add_option("trace", options->trace, "Captured Q, K, V")->required()->type_name("FILE");
  command->add_option("--plan", options->plan, "The plan")->required()->type_name("FILE");
  add("--layer", options->layer, "Counted from 0, as everything here")->required();
  add("--head", options->head, "Of the layer")->required();
  add("--query", options->query, "Row of Q")->required();
  add("--batch", options->batch, "Sequence of the trace; default 0");
  command->add_option("--key", options->key, "Explain this key")->type_name("N");
  add("--top", options->top, "Rows shown; default 16; 0: all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40));
  command->add_option("--sort", options->sort, "weight (default), key or similarity")
      ->check(CLI::IsMember({"weight", "key", "similarity"}))
      ->option_text("WORD");
  command->add_flag("--json", options->json, "Print one JSON object (with the keys shown)");
  command->footer(kExample);
  command->callback([options] { Inspect(*options); });
}

}  // namespace elsa
