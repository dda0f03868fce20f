// Attention over random data: exact, and over the keys that ELSA selects after one calibration.
//
// Build against an installed ELSA (cmake --install build/release --prefix DIR):
//   cmake -S examples/cpp -B build/examples -DCMAKE_PREFIX_PATH=DIR && cmake --build build/examples
//   build/examples/attention
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <random>
#include <vector>

#include "elsa/elsa.h"

namespace {

constexpr std::int64_t kHeads = 8;
constexpr std::int64_t kKeys = 512;
constexpr std::int64_t kD = 64;

// Rows in a few directions, as trained models have them: then most keys do not matter to a query.
std::vector<float> Rows(std::uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> directions(16 * kD);
  std::mt19937 shared(7);
  for (float& x : directions) x = normal(shared);
  std::vector<float> rows(kHeads * kKeys * kD);
  for (std::int64_t row = 0; row < kHeads * kKeys; ++row) {
    const std::int64_t direction = random() % 16;
    for (std::int64_t c = 0; c < kD; ++c) {
      rows[row * kD + c] = directions[direction * kD + c] + 0.5F * normal(random);
    }
  }
  return rows;
}

double Difference(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    norm += b[i] * b[i];
  }
  return std::sqrt(difference / norm);
}

elsa::cpu::Inputs InputsOf(const std::vector<float>& query, const std::vector<float>& key,
                           const std::vector<float>& value) {
  const std::array<std::int64_t, 4> shape{1, kHeads, kKeys, kD};  // [batch, heads, n, d]
  elsa::cpu::Inputs inputs;
  inputs.query = elsa::View<const float, 4>(query.data(), shape);
  inputs.key = elsa::View<const float, 4>(key.data(), shape);
  inputs.value = elsa::View<const float, 4>(value.data(), shape);
  inputs.scale = 1 / std::sqrt(static_cast<double>(kD));
  return inputs;
}

void Run() {
  const std::vector<float> query = Rows(1);
  const std::vector<float> key = Rows(2);
  const std::vector<float> value = Rows(3);
  const elsa::cpu::Inputs inputs = InputsOf(query, key, value);
  std::vector<float> exact(query.size());
  std::vector<float> approximate(query.size());
  const std::array<std::int64_t, 4> shape{1, kHeads, kKeys, kD};

  const elsa::cpu::Report report =
      elsa::cpu::Attend(inputs, nullptr, 0, elsa::View<float, 4>(exact.data(), shape));
  const auto target = elsa::cpu::Name(report.target);
  std::printf("exact on %.*s\n", static_cast<int>(target.size()), target.data());

  // Thresholds from inputs like those to come. A real model's come from `elsa calibrate` or
  // ea.calibrate, and are read with elsa::io::ReadPlan.
  elsa::Plan plan;
  plan.target = 1;  // p, the paper's degree of approximation
  plan.hash = elsa::reference::MakeHash(elsa::HashKind::kKronecker3, kD, 64, 1);
  plan.theta_bias_rad = {{elsa::reference::MeasureThetaBias(plan.hash, kD)}};
  elsa::reference::AttentionInputs sample;
  sample.query = elsa::View<const float, 4>(query.data(), shape);
  sample.key = elsa::View<const float, 4>(key.data(), shape);
  sample.value = elsa::View<const float, 4>(value.data(), shape);
  sample.scale = inputs.scale;
  elsa::reference::Calibrator calibrator(plan, 1, kHeads);
  calibrator.Observe(0, sample);
  plan = calibrator.Finish();

  elsa::cpu::AttendOptions options;
  options.executor = &elsa::cpu::SharedExecutor(2);  // two threads; the result is the same for any
  options.select = elsa::cpu::Select::kAlways;
  const elsa::cpu::Report selected =
      elsa::cpu::Attend(inputs, &plan, 0, elsa::View<float, 4>(approximate.data(), shape), options);
  elsa::cpu::HeadReport total;
  for (const elsa::cpu::HeadReport& head : selected.heads) total += head;
  std::printf("kept %.1f %% of the keys, relative error %.2e\n", 100 * total.stats.kept_fraction(),
              Difference(approximate, exact));
}

}  // namespace

int main() {
  try {
    Run();
    return 0;
  } catch (const std::exception& error) {  // elsa::Error, or no memory
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
}
