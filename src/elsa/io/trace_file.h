// A trace: the Q, K and V that a real model computed, per layer and head, with what is needed to
// redo its attention. A safetensors file with fixed names; the contract is docs/reference/files.md.
// Not a model and not a result: outputs of `elsa attend` are plain safetensors files.
#ifndef ELSA_IO_TRACE_FILE_H_
#define ELSA_IO_TRACE_FILE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "elsa/base/view.h"
#include "elsa/io/safetensors.h"

namespace elsa::io {

// Sizes of one layer. Heads and d may differ between layers; batch, n_q and n_k may not.
struct LayerShape {
  std::int64_t heads = 0;     // of Q
  std::int64_t kv_heads = 0;  // of K and V; divides heads (grouped-query attention)
  std::int64_t d = 0;
  bool has_bias = false;
};

// One layer as float32. Views point into the trace's memory map where they can (aligned F32), else
// into `owned`. The trace must outlive them.
struct LayerTensors {
  LayerTensors() = default;
  LayerTensors(LayerTensors&&) = default;
  LayerTensors& operator=(LayerTensors&&) = default;

  View<const float, 4> q;     // [batch, heads, n_q, d]
  View<const float, 4> k;     // [batch, kv_heads, n_k, d]
  View<const float, 4> v;     // [batch, kv_heads, n_k, d]
  View<const float, 4> bias;  // [batch, heads, n_q, n_k], stride 0 where broadcast; null if none
  std::vector<std::vector<float>> owned;
};

class Trace {
 public:
  // Opens and checks names, types, shapes and metadata; reads no values but `lengths`.
  // Errors: kIo; kInvalidFormat naming file and tensor or key; kUnsupported: another version.
  static Trace Open(const std::string& path);

  const std::string& path() const { return path_; }
  const std::string& model() const { return model_; }
  double scale() const { return scale_; }  // scores are scale * q . k
  bool causal() const { return causal_; }
  const std::string& source_digest() const { return source_digest_; }
  std::int64_t layers() const { return static_cast<std::int64_t>(shapes_.size()); }
  std::int64_t batch() const { return batch_; }
  std::int64_t n_q() const { return n_q_; }
  std::int64_t n_k() const { return n_k_; }
  const LayerShape& shape(std::int64_t layer) const { return shapes_[layer]; }

  // Real keys of each sequence, 0 to n_k; the rest is padding. n_k each if the file has none.
  const std::vector<std::int64_t>& lengths() const { return lengths_; }
  bool has_lengths() const { return has_lengths_; }
  // Real queries of sequence b: lengths()[b] where n_q == n_k, else all n_q.
  std::int64_t RealQueries(std::int64_t b) const { return n_q_ == n_k_ ? lengths_[b] : n_q_; }

  bool has_tokens() const { return !tokens_.empty(); }
  // The token at each key position of sequence b, at least lengths()[b]; empty without tokens.
  const std::vector<std::string>& tokens(std::int64_t b) const;

  // The tensors of one layer as float32, converted only where needed, so that a large trace
  // streams.
  LayerTensors Layer(std::int64_t layer) const;

  // Checks every real position of every layer: q, k, v finite, bias neither NaN nor +infinity
  // (-infinity masks a pair). Errors: kInvalidFormat naming tensor and position.
  void CheckFinite() const;

  // Fingerprint of the whole file: 64-bit FNV-1a over its bytes, 16 hexadecimal digits.
  // Tells traces apart; no defence against someone who forges one.
  std::string Digest() const;

 private:
  void ReadMetadata();
  void ReadShapes();
  void ReadLengths();
  void ReadTokens();

  SafetensorsFile file_;
  std::string path_;
  std::string model_;
  double scale_ = 1;
  bool causal_ = false;
  std::string source_digest_;
  std::int64_t batch_ = 0;
  std::int64_t n_q_ = 0;
  std::int64_t n_k_ = 0;
  std::vector<LayerShape> shapes_;
  std::vector<std::int64_t> lengths_;
  bool has_lengths_ = false;
  std::vector<std::vector<std::string>> tokens_;
};

// A trace to write, as F32.
struct TraceToWrite {
  struct Layer {
    View<const float, 4> q, k, v;
    View<const float, 4> bias;  // null if none; batch and heads may be 1
  };
  std::string model;
  double scale = 1;
  bool causal = false;
  std::string source_digest;
  std::vector<Layer> layers;
  std::vector<std::int64_t> lengths;             // empty: none
  std::vector<std::vector<std::string>> tokens;  // empty: none
};

// Writes a trace atomically; the same values give the same bytes. Only what Trace::Open accepts
// should be passed: shapes are checked there. Errors: kIo; kInvalidArgument.
void WriteTrace(const std::string& path, const TraceToWrite& trace);

}  // namespace elsa::io

#endif  // ELSA_IO_TRACE_FILE_H_
