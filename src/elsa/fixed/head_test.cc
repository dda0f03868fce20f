#include <gtest/gtest.h>

#include <cmath>
#include <string_view>

#include "elsa/fixed/attend.h"
#include "elsa/reference/testing.h"

namespace elsa::fixed {
namespace {

double RelativeError(std::string_view set, const reference::Problem& problem) {
  Config config;
  SetFormats(&config, set);
  reference::Tensor<float> out({problem.query.shape[0], problem.query.shape[1],
                                problem.query.shape[2], problem.value.shape[3]});
  Attend(config, problem.inputs(), nullptr, 0, View<float, 4>(out.values.data(), out.shape));
  const reference::Attended exact = reference::RunAttend(problem, nullptr);
  double error = 0;
  double size = 0;
  for (std::size_t i = 0; i < out.values.size(); ++i) {
    error += std::pow(out.values[i] - exact.out.values[i], 2);
    size += std::pow(exact.out.values[i], 2);
  }
  return std::sqrt(error / size);
}

TEST(FixedHead, IsCloseToTheReference) {
  const auto problem = reference::RandomProblem({1, 2, 2, 60, 60, 64, 64}, 5);
  EXPECT_LT(RelativeError("paper-literal", problem), 0.15);
  EXPECT_LT(RelativeError("recommended", problem), 0.05);
}

}  // namespace
}  // namespace elsa::fixed
