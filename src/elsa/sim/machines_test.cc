#include "elsa/sim/machines.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "elsa/base/error.h"
#include "elsa/params/repository_file_test.h"
#include "elsa/sim/accelerator.h"
#include "elsa/sim/machine_ideal.h"
#include "elsa/sim/machine_published.h"
#include "elsa/sim/machine_testing.h"

namespace elsa::sim {
namespace {

// Round numbers of no real machine: most tests are about arithmetic, not about the paper.
PaperFigures Figures() {
  const auto section = [](const std::string& name, const std::string& values) {
    return "[" + name + "]\nwhere = \"here\"\nwhat = \"test\"\nunit = \"times\"\n" + values;
  };
  return PaperFigures::Parse(
      section("v100_throughput", "fp32 = 1e12\n") + section("tpu_throughput", "fp32 = 4e12\n") +
          section("throughput_over_v100", "base_min = 2\nbase_max = 8\nconservative = 10\n") +
          section("latency_over_ideal", "conservative = 0.5\nbase = 1.25\n") +
          section("base_over_tpu", "squad11 = 2\nsquad20 = 8\nrace = 4\n"),
      "test.toml");
}

TEST(IdealMachine, TakesThePapersCyclesAtFullSize) {
  const MachineResult result = RunMachine("ideal", Config(), ZeroJob(512, 512, 64), nullptr);
  EXPECT_EQ(std::lround(result.cycles), 63550);  // Sec. V-C: 2 n^2 d / 528
  EXPECT_DOUBLE_EQ(result.cycles, 2.0 * 512 * 512 * 64 / 528);
  EXPECT_DOUBLE_EQ(result.latency_s, result.cycles * 1e-9);
  EXPECT_DOUBLE_EQ(result.batch_s * 12, result.latency_s);
  EXPECT_EQ(result.preprocess_cycles, 0);
  EXPECT_EQ(result.kept_pairs, 512 * 512);
}

TEST(IdealMachine, CountsVisiblePairsAndTheHeadsOwnSizes) {
  EXPECT_DOUBLE_EQ(RunIdeal(Config(), ZeroJob(100, 100, 64, true)).cycles,
                   2.0 * (100 * 101 / 2) * 64 / 528);
  EXPECT_DOUBLE_EQ(RunIdeal(Config(), ZeroJob(3, 7, 32)).cycles, 2.0 * 3 * 7 * 32 / 528);
  fixed::Job narrow_values = ZeroJob(3, 7, 32);
  narrow_values.d_v = 16;
  EXPECT_DOUBLE_EQ(RunIdeal(Config(), narrow_values).cycles, 3.0 * 7 * (32 + 16) / 528);
  EXPECT_DOUBLE_EQ(RunIdeal(Config(), ZeroJob(1, 1, 64)).cycles, 128.0 / 528);
}

TEST(BaseCycles, FollowTheClosedForm) {
  EXPECT_EQ(BaseCycles(Config(), ZeroJob(512, 512, 64)), 65536);  // n^2 / P_a
  EXPECT_EQ(BaseCycles(Config(), ZeroJob(1, 1, 64)), 4);          // d / m_o
  // Causal, 20 keys: 16 queries wait for the division, then ceil(17 .. 20 / 4) = 5 each.
  EXPECT_EQ(BaseCycles(Config(), ZeroJob(20, 20, 64, true)), 16 * 4 + 4 * 5);
}

TEST(PublishedRatio, GpuTypicalIsWhatThePaperImplies) {
  const PublishedRatio ratio = GpuOverBase(Figures());
  EXPECT_DOUBLE_EQ(ratio.low, 2);
  EXPECT_DOUBLE_EQ(ratio.typical, 4);  // 10 * 0.5 / 1.25
  EXPECT_DOUBLE_EQ(ratio.high, 8);
}

TEST(PublishedRatio, TpuTypicalIsTheGeometricMean) {
  const PublishedRatio ratio = TpuOverBase(Figures());
  EXPECT_DOUBLE_EQ(ratio.low, 2);
  EXPECT_NEAR(ratio.typical, 4, 1e-14);  // cube root of 64
  EXPECT_DOUBLE_EQ(ratio.high, 8);
}

TEST(PublishedRatio, OfThePapersFiguresIsWhatItsTextImplies) {
  const PaperFigures figures =
      PaperFigures::Parse(RepositoryFile("data/paper/evaluation.toml"), "evaluation.toml");
  const PublishedRatio gpu = GpuOverBase(figures);
  EXPECT_NEAR(gpu.typical, 57 * 0.38 / 1.03, 1e-12);  // Fig. 11: about 21
  EXPECT_EQ(gpu.low, 7.99);
  EXPECT_EQ(gpu.high, 43.93);
  const PublishedRatio tpu = TpuOverBase(figures);
  EXPECT_NEAR(tpu.typical, std::cbrt(8.3 * 6.4 * 2.4), 1e-12);
  EXPECT_EQ(tpu.low, 2.4);
  EXPECT_EQ(tpu.high, 8.3);
}

TEST(PublishedRatio, MissingFiguresAreRefused) {
  const PaperFigures none = PaperFigures::Parse("", "none.toml");
  EXPECT_THROW(GpuOverBase(none), Error);
  EXPECT_THROW(TpuOverBase(none), Error);
}

TEST(PublishedMachines, MultiplyTheBaseByTheRatio) {
  const PaperFigures figures = Figures();
  MachineOptions options;
  options.published = &figures;
  const MachineResult gpu =
      RunMachine("v100-published", Config(), ZeroJob(512, 512, 64), nullptr, options);
  const double base_s = 65536 * 1e-9 / 12;
  EXPECT_DOUBLE_EQ(gpu.batch_s, 4 * base_s);
  EXPECT_DOUBLE_EQ(gpu.batch_min_s, 2 * base_s);
  EXPECT_DOUBLE_EQ(gpu.batch_max_s, 8 * base_s);
  EXPECT_EQ(gpu.latency_s, 0);  // throughput is all that was published
  EXPECT_EQ(gpu.model, MachineModel::kPublishedRatio);
}

TEST(PublishedMachines, PeakIsPaddedAsAskedAndCausalSavesNothing) {
  const PaperFigures figures = Figures();
  MachineOptions options;
  options.published = &figures;
  for (const std::int64_t padded : {100, 128, 512}) {
    options.padded_n = padded;
    const double full_s = 4.0 * static_cast<double>(padded * padded) * 64 / 1e12;
    for (const bool causal : {false, true}) {
      const fixed::Job job = ZeroJob(100, 100, 64, causal);
      EXPECT_DOUBLE_EQ(RunMachine("v100-peak", Config(), job, nullptr, options).batch_s, full_s);
      EXPECT_DOUBLE_EQ(RunMachine("tpuv2-peak", Config(), job, nullptr, options).batch_s,
                       full_s / 4);
    }
  }
  options.padded_n = 0;  // its own rows
  EXPECT_DOUBLE_EQ(
      RunMachine("v100-peak", Config(), ZeroJob(100, 100, 64), nullptr, options).batch_s,
      4.0 * 100 * 100 * 64 / 1e12);
  options.padded_n = 99;
  EXPECT_THROW(RunMachine("v100-peak", Config(), ZeroJob(100, 100, 64), nullptr, options), Error);
}

TEST(PublishedMachines, NeedFigures) {
  EXPECT_THROW(RunMachine("v100-published", Config(), ZeroJob(4, 4, 64), nullptr), Error);
  EXPECT_THROW(RunMachine("tpuv2-published", Config(), ZeroJob(4, 4, 64), nullptr), Error);
}

TEST(RunMachine, UnknownNameListsAllNames) {
  try {
    RunMachine("abacus", Config(), ZeroJob(1, 1, 64), nullptr);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    for (const std::string_view name : MachineNames()) {
      EXPECT_NE(std::string_view(error.what()).find(name), std::string_view::npos) << name;
    }
  }
}

TEST(RunMachine, RunsEveryMachineButThoseOfTheCaller) {
  const PaperFigures figures = Figures();
  MachineOptions options;
  options.published = &figures;
  const fixed::Job job = RandomJob(5, 40, 40, 64);
  const fixed::Candidates candidates = RandomCandidates(6, job, 0.3);
  for (const std::string_view name : MachineNames()) {
    if (name == "elsa" || name == "base" || name == "cpu") {
      EXPECT_THROW(RunMachine(name, Config(), job, &candidates, options), Error) << name;
      continue;
    }
    fixed::Candidates kept;
    const MachineResult result = RunMachine(name, Config(), job, &candidates, options, &kept);
    EXPECT_EQ(result.machine, name);
    EXPECT_EQ(result.heads, 1) << name;
    EXPECT_EQ(result.pairs, 1600) << name;
    EXPECT_GT(result.batch_s, 0) << name;
    EXPECT_LE(result.batch_min_s, result.batch_s) << name;
    EXPECT_GE(result.batch_max_s, result.batch_s) << name;
    EXPECT_FALSE(result.notes.empty()) << name;
    EXPECT_LE(result.preprocess_cycles, result.cycles) << name;
    std::int64_t used = 0;
    for (std::int64_t i = 0; i < job.queries; ++i) used += CountUsed(kept, job, i);
    EXPECT_EQ(used, result.kept_pairs) << name;
    EXPECT_GE(result.scored_pairs, result.kept_pairs) << name;
  }
}

TEST(RunMachine, ColumnsOfZerosAreNotMultiplied) {
  const fixed::Job own = RandomJob(12, 30, 30, 8);
  fixed::Job spread = own;  // its columns at 0, 3, 6 ... of 24
  spread.d = 24;
  spread.query.assign(30 * 24, 0);
  spread.key.assign(30 * 24, 0);
  for (std::int64_t at = 0; at < 30 * 8; ++at) {
    spread.query[at * 3] = own.query[at];
    spread.key[at * 3] = own.key[at];
  }
  const PaperFigures figures = Figures();
  MachineOptions options;
  options.published = &figures;
  const fixed::Candidates elsa = RandomCandidates(13, own, 0.3);
  for (const std::string_view name : MachineNames()) {
    if (name == "elsa" || name == "base" || name == "cpu") continue;
    options.d = 0;
    fixed::Candidates expected, got;
    const MachineResult before = RunMachine(name, Config(), own, &elsa, options, &expected);
    for (const std::int64_t d : {0, 8}) {
      options.d = d;
      const MachineResult after = RunMachine(name, Config(), spread, &elsa, options, &got);
      EXPECT_EQ(after.cycles, before.cycles) << name;
      EXPECT_EQ(after.batch_s, before.batch_s) << name;
      EXPECT_EQ(got.bits, expected.bits) << name;
      EXPECT_EQ(got.fallback, expected.fallback) << name;
    }
  }
  options.d = 12;  // the model's vectors may have such columns of their own
  EXPECT_EQ(RunMachine("ideal", Config(), spread, nullptr, options).cycles, 900.0 * (12 + 8) / 528);
  for (const std::int64_t d : {-1, 7, 25}) {
    options.d = d;
    EXPECT_THROW(RunMachine("ideal", Config(), spread, nullptr, options), Error) << d;
  }
}

TEST(RunMachine, NamedSettingsOfA3AreItsOptions) {
  const fixed::Job job = RandomJob(11, 30, 30, 16);
  MachineOptions options;
  options.a3 = kA3Aggressive;
  const MachineResult chosen = RunMachine("a3", Config(), job, nullptr, options);
  const MachineResult named = RunMachine("a3-aggressive", Config(), job, nullptr);
  EXPECT_EQ(chosen.cycles, named.cycles);
  EXPECT_EQ(chosen.kept_pairs, named.kept_pairs);
  EXPECT_EQ(RunMachine("a3-base", Config(), job, nullptr).kept_pairs, 900);
  EXPECT_LT(named.selection_cycles, RunMachine("a3", Config(), job, nullptr).selection_cycles);
}

TEST(RunMachine, OracleIsNotSlowerThanElsa) {
  for (std::uint64_t seed = 0; seed < 8; ++seed) {
    const fixed::Job job = RandomJob(seed, 60, 60, 64, seed % 2 == 1);
    const fixed::Candidates elsa = RandomCandidates(seed, job, 0.05 + 0.12 * seed);
    Work work;
    work.queries = job.queries;
    work.keys = job.keys;
    work.d = job.d;
    work.d_v = job.d_v;
    work.causal = job.causal;
    work.candidates = &elsa;
    const Result simulated = Simulate(Config(), work);
    for (const std::string_view name : {"top-k", "top-k-count"}) {
      EXPECT_LT(RunMachine(name, Config(), job, &elsa).cycles, simulated.report.cycles) << name;
    }
  }
}

TEST(RunMachine, SimulatedBaseIsItsClosedFormAndAFewMore) {
  for (const std::int64_t n : {1, 20, 100}) {
    for (const bool causal : {false, true}) {
      Work work;
      work.queries = n;
      work.keys = n;
      work.d = 64;
      work.d_v = 64;
      work.causal = causal;
      work.exact = true;
      const Result simulated = Simulate(Config(), work);
      const std::int64_t closed = BaseCycles(Config(), ZeroJob(n, n, 64, causal));
      EXPECT_GE(simulated.report.cycles, closed);
      EXPECT_LE(simulated.report.cycles, closed + 40) << n;  // command, fill and drain
    }
  }
}

TEST(RunMachine, RefusesWorkThatDoesNotFit) {
  EXPECT_THROW(RunMachine("ideal", Config(), ZeroJob(513, 512, 64), nullptr), Error);
  EXPECT_THROW(RunMachine("ideal", Config(), ZeroJob(512, 513, 64), nullptr), Error);
  EXPECT_THROW(RunMachine("ideal", Config(), ZeroJob(4, 4, 65), nullptr), Error);
  EXPECT_THROW(RunMachine("ideal", Config(), ZeroJob(0, 4, 64), nullptr), Error);
  fixed::Job short_key = ZeroJob(4, 4, 64);
  short_key.key.pop_back();
  EXPECT_THROW(RunMachine("ideal", Config(), short_key, nullptr), Error);
  const fixed::Candidates other = NoCandidates(3, 4);
  EXPECT_THROW(RunMachine("ideal", Config(), ZeroJob(4, 4, 64), &other), Error);
}

TEST(RunMachine, MassIsTheShareOfSoftmaxOnKeptKeys) {
  // Weights 8, 4, 2, 1, 1 of 16; ELSA keeps the second and third: the oracle needs the first.
  const fixed::Job job = ScoresJob({3, 2, 1, 0, 0});
  fixed::Candidates elsa = NoCandidates(1, 5);
  Keep(&elsa, 0, 1);
  elsa.fallback[0] = 2;
  EXPECT_DOUBLE_EQ(MassKept(job, elsa, 0), 6.0 / 16);
  MachineOptions options;
  options.mass = true;
  EXPECT_DOUBLE_EQ(RunMachine("top-k", Config(), job, &elsa, options).MassKept(), 0.5);
  EXPECT_DOUBLE_EQ(RunMachine("top-k-count", Config(), job, &elsa, options).MassKept(), 0.75);
  EXPECT_DOUBLE_EQ(RunMachine("ideal", Config(), job, &elsa, options).MassKept(), 1);
  EXPECT_EQ(RunMachine("ideal", Config(), job, &elsa).mass_queries, 0);
}

TEST(MachineResult, SumsHeadsOfOneMachine) {
  const MachineResult first = RunIdeal(Config(), ZeroJob(8, 8, 64));
  MachineResult sum;
  sum += first;
  sum += RunIdeal(Config(), ZeroJob(4, 4, 64));
  sum += MachineResult();
  EXPECT_EQ(sum.machine, "ideal");
  EXPECT_EQ(sum.heads, 2);
  EXPECT_EQ(sum.pairs, 80);
  EXPECT_DOUBLE_EQ(sum.cycles, 80 * 128.0 / 528);
  EXPECT_EQ(sum.notes, first.notes);
  MachineResult other = first;
  other.machine = "a3";
  EXPECT_THROW(sum += other, Error);
}

}  // namespace
}  // namespace elsa::sim
