#include "elsa/io/trace_file.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "elsa/io/testing.h"

namespace elsa::io {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// A trace as a list of named tensors that a test may damage before it is written.
struct Draft {
  struct Tensor {
    Dtype dtype = Dtype::kF32;
    std::vector<std::int64_t> shape;
    std::string bytes;
  };
  std::map<std::string, Tensor> tensors;
  std::map<std::string, std::string, std::less<>> metadata = {{"elsa.trace", "1"},
                                                              {"elsa.model", "toy"},
                                                              {"elsa.scale", "0.25"},
                                                              {"elsa.causal", "false"},
                                                              {"elsa.source_digest", "abc"}};

  // Values 0, 1, 2, ... as F32.
  void Add(const std::string& name, std::vector<std::int64_t> shape) {
    std::int64_t count = 1;
    for (const std::int64_t extent : shape) count *= extent;
    std::string bytes(static_cast<std::size_t>(count) * 4, '\0');
    for (std::int64_t i = 0; i < count; ++i) {
      const auto value = static_cast<float>(i);
      std::memcpy(bytes.data() + 4 * i, &value, 4);
    }
    tensors[name] = {Dtype::kF32, std::move(shape), std::move(bytes)};
  }
  void Set(const std::string& name, std::int64_t index, float value) {
    std::memcpy(tensors.at(name).bytes.data() + 4 * index, &value, 4);
  }
  void SetLengths(const std::vector<std::int64_t>& lengths) {
    std::string bytes(lengths.size() * 8, '\0');
    std::memcpy(bytes.data(), lengths.data(), bytes.size());
    tensors["lengths"] = {Dtype::kI64, {std::ssize(lengths)}, bytes};
  }
  void Write(const std::string& path) const {
    std::vector<TensorToWrite> list;
    for (const auto& [name, tensor] : tensors) {
      list.push_back({name, tensor.dtype, tensor.shape, std::as_bytes(std::span(tensor.bytes))});
    }
    WriteSafetensors(path, list, metadata);
  }
};

// Two layers, batch 2, 4 heads of Q and 2 of K and V, n = 3, d = 5.
Draft GoodDraft() {
  Draft draft;
  for (const std::string layer : {"layer.0.", "layer.1."}) {
    draft.Add(layer + "q", {2, 4, 3, 5});
    draft.Add(layer + "k", {2, 2, 3, 5});
    draft.Add(layer + "v", {2, 2, 3, 5});
  }
  return draft;
}

class TraceFile : public ::testing::Test {
 protected:
  Trace Open(const Draft& draft) {
    draft.Write(path_);
    return Trace::Open(path_);
  }
  // The error without the file's name.
  std::string ErrorOfDraft(const Draft& draft) {
    return Stripped(ErrorOf([&] { Open(draft); }));
  }
  std::string ErrorAfter(const std::function<void(Draft&)>& damage) {
    Draft draft = GoodDraft();
    damage(draft);
    return ErrorOfDraft(draft);
  }
  std::string FiniteError(const Draft& draft) {
    const Trace trace = Open(draft);
    return Stripped(ErrorOf([&] { trace.CheckFinite(); }));
  }
  std::string Stripped(std::string error) {
    const std::size_t at = error.find(path_ + ": ");
    return at == error.npos ? error : error.erase(at, path_.size() + 2);
  }

  TemporaryFolder folder_;
  std::string path_ = folder_ / "t.safetensors";
};

TEST_F(TraceFile, ReadsShapesMetadataAndValues) {
  Draft draft = GoodDraft();
  draft.SetLengths({3, 0});
  draft.metadata["tokens"] = R"([["a","b","c"],[]])";
  const Trace trace = Open(draft);
  EXPECT_EQ(trace.model(), "toy");
  EXPECT_EQ(trace.scale(), 0.25);
  EXPECT_FALSE(trace.causal());
  EXPECT_EQ(trace.source_digest(), "abc");
  EXPECT_EQ(trace.layers(), 2);
  EXPECT_EQ(trace.batch(), 2);
  EXPECT_EQ(trace.n_q(), 3);
  EXPECT_EQ(trace.n_k(), 3);
  EXPECT_EQ(trace.shape(1).heads, 4);
  EXPECT_EQ(trace.shape(1).kv_heads, 2);
  EXPECT_EQ(trace.shape(1).d, 5);
  EXPECT_FALSE(trace.shape(1).has_bias);
  EXPECT_EQ(trace.lengths(), (std::vector<std::int64_t>{3, 0}));
  EXPECT_EQ(trace.RealQueries(1), 0);
  EXPECT_EQ(trace.tokens(0), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_TRUE(trace.tokens(1).empty());
  const LayerTensors layer = trace.Layer(1);
  EXPECT_TRUE(layer.owned.empty());  // aligned F32 needs no copy
  EXPECT_FALSE(layer.bias);
  EXPECT_EQ(layer.q(1, 3, 2, 4), 119.0f);
  EXPECT_EQ(layer.k(1, 0, 0, 0), 30.0f);
  EXPECT_EQ(layer.v(0, 1, 2, 3), 28.0f);
}

TEST_F(TraceFile, WithoutLengthsEveryPositionIsReal) {
  const Trace trace = Open(GoodDraft());
  EXPECT_FALSE(trace.has_lengths());
  EXPECT_EQ(trace.lengths(), (std::vector<std::int64_t>{3, 3}));
  EXPECT_FALSE(trace.has_tokens());
  EXPECT_TRUE(trace.tokens(0).empty());
}

TEST_F(TraceFile, AcceptsOneKeyAndOneQuery) {
  Draft draft;
  for (const std::string part : {"q", "k", "v"}) draft.Add("layer.0." + part, {1, 1, 1, 1});
  EXPECT_EQ(Open(draft).layers(), 1);
}

TEST_F(TraceFile, AcceptsCrossAttentionWithAllQueriesReal) {
  Draft draft;
  draft.Add("layer.0.q", {1, 2, 4, 5});
  draft.Add("layer.0.k", {1, 2, 7, 5});
  draft.Add("layer.0.v", {1, 2, 7, 5});
  draft.SetLengths({6});
  const Trace trace = Open(draft);
  EXPECT_EQ(trace.n_q(), 4);
  EXPECT_EQ(trace.n_k(), 7);
  EXPECT_EQ(trace.RealQueries(0), 4);
}

TEST_F(TraceFile, BroadcastsTheBias) {
  Draft draft = GoodDraft();
  draft.Add("layer.0.bias", {1, 1, 3, 3});
  draft.Add("layer.1.bias", {2, 4, 3, 3});
  const Trace trace = Open(draft);
  const View<const float, 4> shared = trace.Layer(0).bias;
  EXPECT_EQ(shared.shape, (std::array<std::int64_t, 4>{2, 4, 3, 3}));
  EXPECT_EQ(shared(1, 3, 2, 1), 7.0f);
  EXPECT_EQ(trace.Layer(1).bias(1, 3, 2, 1), 70.0f);
}

TEST_F(TraceFile, ConvertsHalfPrecision) {
  Draft draft = GoodDraft();
  // 1.5 is 0x3E00 as binary16 and 0x3FC0 as bfloat16.
  std::string half;
  std::string bf16;
  for (int i = 0; i < 120; ++i) {
    half += std::string("\x00\x3E", 2);
    bf16 += std::string("\xC0\x3F", 2);
  }
  draft.tensors["layer.0.q"] = {Dtype::kF16, {2, 4, 3, 5}, half};
  draft.tensors["layer.1.q"] = {Dtype::kBf16, {2, 4, 3, 5}, bf16};
  const Trace trace = Open(draft);
  for (int layer = 0; layer < 2; ++layer) {
    const LayerTensors tensors = trace.Layer(layer);
    EXPECT_EQ(tensors.owned.size(), 1u);
    EXPECT_EQ(tensors.q(1, 3, 2, 4), 1.5f);
    EXPECT_EQ(tensors.k(1, 1, 2, 4), 59.0f);
  }
}

TEST_F(TraceFile, CopiesMisalignedTensors) {
  GoodDraft().Write(path_);
  // The same file with one more space in the header: every tensor moves by one byte.
  const std::string bytes = ReadText(path_);
  std::uint64_t size = 0;
  std::memcpy(&size, bytes.data(), 8);
  WriteText(path_, RawSafetensors(bytes.substr(8, size) + ' ', bytes.substr(8 + size)));
  const Trace trace = Trace::Open(path_);
  const LayerTensors layer = trace.Layer(0);
  EXPECT_EQ(layer.owned.size(), 3u);
  EXPECT_EQ(layer.q(1, 3, 2, 4), 119.0f);
  trace.CheckFinite();
}

TEST_F(TraceFile, RefusesLayersOutOfRange) {
  const Trace trace = Open(GoodDraft());
  EXPECT_EQ(Stripped(ErrorOf([&] { trace.Layer(2); })),
            "invalid_argument: layer: expected 0 to 1, got 2");
  EXPECT_NE(ErrorOf([&] { trace.Layer(-1); }), "no error");
}

TEST_F(TraceFile, RefusesMissingMetadata) {
  for (const std::string key :
       {"elsa.trace", "elsa.model", "elsa.scale", "elsa.causal", "elsa.source_digest"}) {
    EXPECT_EQ(ErrorAfter([&](Draft& draft) { draft.metadata.erase(key); }),
              "invalid_format: metadata: expected the key \"" + key + "\", got none");
  }
}

TEST_F(TraceFile, RefusesUnknownMetadata) {
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.metadata["elsa.mask"] = "x"; }),
            "invalid_format: metadata: expected no unknown key, got \"elsa.mask\"");
}

TEST_F(TraceFile, RefusesAnotherVersion) {
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.metadata["elsa.trace"] = "2"; }),
            "unsupported: metadata: elsa.trace: format version: expected 1, got \"2\"");
}

TEST_F(TraceFile, RefusesScalesThatAreNotPositiveNumbers) {
  for (const std::string bad : {"", "0", "-1", "nan", "inf", "1x", " 1", "1e999", "0x1p0"}) {
    EXPECT_EQ(
        ErrorAfter([&](Draft& draft) { draft.metadata["elsa.scale"] = bad; }),
        "invalid_format: metadata: elsa.scale: expected a decimal number > 0, got \"" + bad + "\"");
  }
}

TEST_F(TraceFile, RefusesCausalThatIsNotTrueOrFalse) {
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.metadata["elsa.causal"] = "True"; }),
            "invalid_format: metadata: elsa.causal: expected \"true\" or \"false\", got \"True\"");
}

TEST_F(TraceFile, RefusesMissingTensorsAndLayers) {
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.tensors.clear(); }),
            "invalid_format: layer.0.q: expected the tensor, got none");
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.tensors.erase("layer.1.v"); }),
            "invalid_format: layer.1.v: expected the tensor, got none");
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.tensors.erase("layer.0.q"); }),
            "invalid_format: layer.0.q: expected the tensor, got none");
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.tensors.erase("layer.1.q"); }),
            "invalid_format: expected only lengths and layer.<L>.q, .k, .v, .bias with L from 0 to "
            "0, got the tensor \"layer.1.k\"");
}

TEST_F(TraceFile, RefusesUnknownTensors) {
  for (const std::string bad :
       {"x", "layer.0.w", "layer.00.q", "layer.2.k", "layer.-1.q", "layer.0.q ", "layer..q",
        "layer.99999999999999999999.q", "Lengths"}) {
    EXPECT_NE(ErrorAfter([&](Draft& draft) {
                draft.Add(bad, {2, 4, 3, 5});
              }).find("got the tensor \"" + bad + "\""),
              std::string::npos)
        << bad;
  }
}

TEST_F(TraceFile, RefusesTypesThatAreNotFloat) {
  for (const Dtype dtype : {Dtype::kI32, Dtype::kU32}) {
    EXPECT_EQ(ErrorAfter([&](Draft& draft) { draft.tensors["layer.1.k"].dtype = dtype; }),
              "invalid_format: layer.1.k: dtype: expected F32, F16 or BF16, got " +
                  std::string(Name(dtype)));
  }
  EXPECT_EQ(ErrorAfter([](Draft& draft) {
              draft.Add("layer.0.bias", {2, 4, 3, 3});
              draft.tensors["layer.0.bias"].dtype = Dtype::kI32;
            }),
            "invalid_format: layer.0.bias: dtype: expected F32, F16 or BF16, got I32");
}

TEST_F(TraceFile, RefusesWrongShapesNamingTensorAndAxis) {
  struct Case {
    std::string tensor;
    std::vector<std::int64_t> shape;
    std::string error;
  };
  const std::vector<Case> cases = {
      {"layer.0.q", {2, 3, 5}, "rank: expected 4 [batch, heads, n, d], got 3 [2, 3, 5]"},
      {"layer.0.bias", {3, 3}, "rank: expected 4 [batch, heads, n_q, n_k], got 2 [3, 3]"},
      {"layer.0.q", {2, 4, 0, 5}, "shape: expected extents >= 1, got [2, 4, 0, 5]"},
      {"layer.0.k", {1, 2, 3, 5}, "batch: expected 2, got 1"},
      {"layer.1.q", {3, 4, 3, 5}, "batch: expected 2, got 3"},
      {"layer.0.v", {1, 2, 3, 5}, "batch: expected 2, got 1"},
      {"layer.0.k", {2, 3, 3, 5}, "heads: expected a divisor of the 4 heads of Q, got 3"},
      {"layer.0.k", {2, 8, 3, 5}, "heads: expected a divisor of the 4 heads of Q, got 8"},
      {"layer.0.v", {2, 1, 3, 5}, "heads: expected 2, got 1"},
      {"layer.1.q", {2, 4, 4, 5}, "n: expected 3, got 4"},
      {"layer.1.k", {2, 2, 4, 5}, "n: expected 3, got 4"},
      {"layer.0.v", {2, 2, 4, 5}, "n: expected 3, got 4"},
      {"layer.0.k", {2, 2, 3, 6}, "d: expected 5, got 6"},
      {"layer.0.v", {2, 2, 3, 4}, "d: expected 5, got 4"},
      {"layer.0.bias", {3, 4, 3, 3}, "batch: expected 2, got 3"},
      {"layer.0.bias", {2, 2, 3, 3}, "heads: expected 4, got 2"},
      {"layer.0.bias", {2, 4, 2, 3}, "n_q: expected 3, got 2"},
      {"layer.0.bias", {2, 4, 3, 1}, "n_k: expected 3, got 1"},
  };
  for (const Case& test : cases) {
    EXPECT_EQ(ErrorAfter([&](Draft& draft) { draft.Add(test.tensor, test.shape); }),
              "invalid_format: " + test.tensor + ": " + test.error);
  }
}

TEST_F(TraceFile, RefusesWrongLengths) {
  EXPECT_EQ(ErrorAfter([](Draft& draft) { draft.SetLengths({1}); }),
            "invalid_format: lengths: shape: expected [2], got [1]");
  EXPECT_EQ(ErrorAfter([](Draft& draft) {
              draft.SetLengths({1, 4});
            }),
            "invalid_format: lengths[1]: expected 0 to 3, got 4");
  EXPECT_EQ(ErrorAfter([](Draft& draft) {
              draft.SetLengths({-1, 1});
            }),
            "invalid_format: lengths[0]: expected 0 to 3, got -1");
  EXPECT_EQ(ErrorAfter([](Draft& draft) {
              draft.SetLengths({1, 1});
              draft.tensors["lengths"].dtype = Dtype::kU64;
            }),
            "invalid_format: lengths: dtype: expected I64, got U64");
}

TEST_F(TraceFile, RefusesWrongTokens) {
  const auto error = [&](const std::string& tokens) {
    return ErrorAfter([&](Draft& draft) {
      draft.SetLengths({2, 1});
      draft.metadata["tokens"] = tokens;
    });
  };
  EXPECT_EQ(error(R"([["a","b"],["c"]])"), "no error");
  EXPECT_EQ(error(R"([["a","b","-"],["c","-","-"]])"), "no error");
  EXPECT_EQ(error(R"([["a","b"]])"), "invalid_format: metadata: tokens: expected 2 arrays, got 1");
  EXPECT_EQ(error(R"([["a"],["c"]])"),
            "invalid_format: metadata: tokens[0]: expected 2 to 3 strings, got 1");
  EXPECT_EQ(error(R"([["a","b"],["c","-","-","-"]])"),
            "invalid_format: metadata: tokens[1]: expected 1 to 3 strings, got 4");
  EXPECT_EQ(error(R"([["a",3],["c"]])"),
            "invalid_format: metadata: tokens[0][1]: expected a string, got 3");
  EXPECT_EQ(error(R"({"a":1})"),
            "invalid_format: metadata: tokens: expected an array, got {\"a\":1}");
  EXPECT_EQ(error("[[[]]]"),
            "invalid_format: metadata: tokens: JSON: expected at most 2 nested objects and arrays, "
            "got more");
  EXPECT_NE(error("[").find("metadata: tokens: JSON: expected a JSON document"), std::string::npos);
}

TEST_F(TraceFile, CheckFiniteNamesTensorAndPosition) {
  for (const auto& [value, text] :
       std::vector<std::pair<float, std::string>>{{kNan, "nan"}, {kInf, "inf"}, {-kInf, "-inf"}}) {
    for (const std::string part : {"q", "k", "v"}) {
      Draft draft = GoodDraft();
      EXPECT_EQ(FiniteError(draft), "no error");
      // [1, 1, 2, 3] of [2, 4 or 2, 3, 5]
      draft.Set("layer.1." + part, ((part == "q" ? 4 : 2) + 1) * 15 + 13, value);
      EXPECT_EQ(FiniteError(draft), "invalid_format: layer.1." + part +
                                        " at [1, 1, 2, 3]: expected a finite number, got " + text);
    }
  }
}

TEST_F(TraceFile, CheckFiniteIgnoresPadding) {
  Draft draft = GoodDraft();
  draft.Add("layer.0.bias", {2, 4, 3, 3});
  draft.SetLengths({3, 2});
  // Position 2 of sequence 1 is padding: [1, 0, 2, 0], and key 2 of [1, 0, 0, 2].
  draft.Set("layer.0.q", 60 + 10, kNan);
  draft.Set("layer.0.k", 30 + 10, kInf);
  draft.Set("layer.0.v", 30 + 14, kNan);
  draft.Set("layer.0.bias", 36 + 2, kNan);
  EXPECT_EQ(FiniteError(draft), "no error");
  draft.SetLengths({3, 3});
  EXPECT_NE(FiniteError(draft), "no error");
}

TEST_F(TraceFile, CheckFiniteTakesMinusInfinityInTheBiasAsMasked) {
  Draft draft = GoodDraft();
  draft.Add("layer.0.bias", {1, 1, 3, 3});
  draft.Set("layer.0.bias", 1, -kInf);
  draft.Set("layer.0.bias", 2, std::numeric_limits<float>::lowest());
  EXPECT_EQ(FiniteError(draft), "no error");
  draft.Set("layer.0.bias", 5, kInf);
  EXPECT_EQ(FiniteError(draft),
            "invalid_format: layer.0.bias at [0, 0, 1, 2]: expected a finite number or -infinity, "
            "got inf");
  draft.Set("layer.0.bias", 5, kNan);
  EXPECT_EQ(FiniteError(draft),
            "invalid_format: layer.0.bias at [0, 0, 1, 2]: expected a finite number or -infinity, "
            "got nan");
}

TEST_F(TraceFile, WriteTraceReadsBackEqual) {
  std::vector<float> values(2 * 3 * 4 * 5);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) / 7;
  TraceToWrite written;
  written.model = "toy \"x\"";
  written.scale = 1 / std::sqrt(5.0);
  written.causal = true;
  written.source_digest = "d";
  // q as numpy's transpose would hand it over: [batch 2, heads 4, n 3, d 5] from [2, 3, 4, 5].
  const View<const float, 4> q(values.data(), {2, 4, 3, 5}, {60, 5, 20, 1});
  const View<const float, 4> kv(values.data(), {2, 2, 3, 5});
  const View<const float, 4> bias(values.data(), {1, 1, 3, 3});
  written.layers = {{q, kv, kv, bias}, {q, kv, kv, {}}};
  written.lengths = {3, 1};
  written.tokens = {{"a", "\"", "\u00e9"}, {"x"}};
  WriteTrace(path_, written);
  const Trace trace = Trace::Open(path_);
  EXPECT_EQ(trace.model(), written.model);
  EXPECT_EQ(trace.scale(), written.scale);
  EXPECT_TRUE(trace.causal());
  EXPECT_EQ(trace.lengths(), written.lengths);
  EXPECT_EQ(trace.tokens(0), written.tokens[0]);
  EXPECT_EQ(trace.tokens(1), written.tokens[1]);
  EXPECT_FALSE(trace.shape(1).has_bias);
  const LayerTensors layer = trace.Layer(0);
  for (std::int64_t b = 0; b < 2; ++b) {
    for (std::int64_t h = 0; h < 4; ++h) {
      for (std::int64_t i = 0; i < 3; ++i) {
        EXPECT_EQ(layer.q(b, h, i, 4), q(b, h, i, 4));
        EXPECT_EQ(layer.bias(b, h, i, 2), bias(0, 0, i, 2));
      }
    }
  }
  EXPECT_EQ(layer.v(1, 1, 2, 4), kv(1, 1, 2, 4));
}

TEST_F(TraceFile, DigestIsTheFnv1aOfTheBytes) {
  const Trace trace = Open(GoodDraft());
  std::uint64_t hash = 14695981039346656037u;
  for (const char c : ReadText(path_)) {
    hash ^= static_cast<unsigned char>(c);
    hash *= 1099511628211u;
  }
  const std::string digest = trace.Digest();
  EXPECT_EQ(digest.size(), 16u);
  EXPECT_EQ(std::stoull(digest, nullptr, 16), hash);
  Draft other = GoodDraft();
  other.Set("layer.1.v", 7, 0.5f);
  EXPECT_NE(Open(other).Digest(), digest);
}

}  // namespace
}  // namespace elsa::io
