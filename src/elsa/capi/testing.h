// A problem of the reference's tests in the structs of elsa_c.h.
#ifndef ELSA_CAPI_TESTING_H_
#define ELSA_CAPI_TESTING_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "elsa/elsa_c.h"
#include "elsa/io/plan_file.h"
#include "elsa/params/plan.h"
#include "elsa/reference/testing.h"

namespace elsa::capi {

template <typename T>
elsa_tensor TensorOf(const reference::Tensor<T>& t, elsa_dtype dtype) {
  return elsa_tensor_packed(t.values.empty() ? nullptr : t.values.data(), dtype, t.shape[0],
                            t.shape[1], t.shape[2], t.shape[3]);
}

// Points into `p`.
inline elsa_inputs InputsOf(const reference::Problem& p) {
  elsa_inputs inputs = elsa_inputs_init();
  inputs.query = TensorOf(p.query, ELSA_FLOAT32);
  inputs.key = TensorOf(p.key, ELSA_FLOAT32);
  inputs.value = TensorOf(p.value, ELSA_FLOAT32);
  if (!p.mask.values.empty()) inputs.mask = TensorOf(p.mask, ELSA_BOOL);
  if (!p.bias.values.empty()) inputs.bias = TensorOf(p.bias, ELSA_FLOAT32);
  if (!p.query_lengths.empty()) inputs.query_lengths = p.query_lengths.data();
  if (!p.key_lengths.empty()) inputs.key_lengths = p.key_lengths.data();
  inputs.scale = p.scale;
  inputs.causal = p.causal ? 1 : 0;
  return inputs;
}

// An output that owns its values.
struct Out {
  explicit Out(const reference::Problem& p)
      : values({p.query.shape[0], p.query.shape[1], p.query.shape[2], p.value.shape[3]}, 7.5F) {}
  elsa_mutable_tensor tensor() {
    return elsa_mutable_tensor_packed(values.values.data(), ELSA_FLOAT32, values.shape[0],
                                      values.shape[1], values.shape[2], values.shape[3]);
  }
  reference::Tensor<float> values;
};

// The largest difference from `expected`.
inline double MaxDifference(const reference::Tensor<float>& got,
                            const reference::Tensor<double>& expected) {
  reference::Tensor<double> wide(got.shape);
  std::copy(got.values.begin(), got.values.end(), wide.values.begin());
  return reference::MaxDifference(wide, expected);
}

// Rows of these problems are averages of values below 6, and binary32 products, exponentials and
// sums over at most 100 keys of d at most 64 stray by under 200 half units: 6 * 200 * 6e-8.
inline constexpr double kFloat32Error = 8e-5;

struct Free {
  void operator()(elsa_plan* plan) const { elsa_plan_free(plan); }
  void operator()(elsa_report* report) const { elsa_report_free(report); }
  void operator()(elsa_executor* executor) const { elsa_executor_free(executor); }
};
using PlanHandle = std::unique_ptr<elsa_plan, Free>;
using ReportHandle = std::unique_ptr<elsa_report, Free>;
using ExecutorHandle = std::unique_ptr<elsa_executor, Free>;

inline PlanHandle HandleOf(const Plan& plan) {
  const std::string text = io::FormatPlan(plan);
  elsa_plan* handle = nullptr;
  EXPECT_EQ(elsa_plan_parse(text.data(), text.size(), "a test's plan", &handle), ELSA_OK)
      << elsa_last_error();
  return PlanHandle(handle);
}

// The status is `status`, and the message is one line with all `words`.
inline void ExpectFailure(elsa_status got, elsa_status status,
                          std::initializer_list<std::string_view> words) {
  EXPECT_EQ(elsa_status_name(got), std::string(elsa_status_name(status))) << elsa_last_error();
  const std::string message = elsa_last_error();
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  for (const std::string_view word : words) {
    EXPECT_NE(message.find(word), std::string::npos) << "no '" << word << "' in: " << message;
  }
}

}  // namespace elsa::capi

#endif  // ELSA_CAPI_TESTING_H_
