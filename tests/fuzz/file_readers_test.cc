// Damaged files: every reader of io either accepts what it gets, and then what it returns is
// consistent, or throws elsa::Error. Run under address and undefined-behaviour sanitizers.
// ELSA_FUZZ_SEED=<n> chooses other damage; a failure prints the seed and the round.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "elsa/base/random.h"
#include "elsa/io/npy.h"
#include "elsa/io/plan_file.h"
#include "elsa/io/safetensors.h"
#include "elsa/io/testing.h"
#include "elsa/io/trace_file.h"
#include "mutator.h"

namespace elsa::io {
namespace {

// Runs `read` on `rounds` damaged inputs made by `damage`. Some must be accepted and many refused,
// else the damage tests nothing.
template <typename Damage, typename Read>
void Fuzz(int rounds, const Damage& damage, const Read& read) {
  const std::uint64_t seed = FuzzSeed();
  Random random(seed);
  int accepted = 0;
  int refused = 0;
  for (int round = 0; round < rounds; ++round) {
    SCOPED_TRACE("ELSA_FUZZ_SEED=" + std::to_string(seed) + " round " + std::to_string(round));
    const std::string input = damage(&random);
    try {
      read(input);
      ++accepted;
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string_view(error.what()).find('\n'), std::string_view::npos) << error.what();
    } catch (const std::exception& error) {
      ADD_FAILURE() << "not an elsa::Error: " << error.what();
    }
    if (::testing::Test::HasFailure()) break;
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, accepted / 10);
}

std::span<const std::byte> Bytes(const std::string& text) { return std::as_bytes(std::span(text)); }

// Touches every byte, so that a span beyond the buffer is caught.
int Sum(std::span<const std::byte> data) {
  int sum = 0;
  for (const std::byte byte : data) sum += std::to_integer<int>(byte);
  return sum;
}

// Shape x dtype in bytes, independent of CountBytes: exact below 2^53, and beyond that no file's
// size.
double BytesOf(Dtype dtype, const std::vector<std::int64_t>& shape) {
  double bits = BitsPerElement(dtype);
  for (const std::int64_t extent : shape) bits *= static_cast<double>(extent);
  return bits / 8;
}

constexpr std::string_view kHeader = R"({"__metadata__":{"a":"b","c":"d"},)"
                                     R"("w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
                                     R"("x":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]},)"
                                     R"("y":{"dtype":"F4","shape":[1,0,7],"data_offsets":[32,32]},)"
                                     R"("z":{"dtype":"U8","shape":[],"data_offsets":[32,33]}} )";

void ReadSafetensors(const std::string& input) {
  const SafetensorsFile file = SafetensorsFile::Parse(Bytes(input), "f");
  std::size_t total = 0;
  for (const auto& [name, entry] : file.tensors()) {
    EXPECT_EQ(BytesOf(entry.dtype, entry.shape), static_cast<double>(entry.data.size())) << name;
    EXPECT_GE(Sum(entry.data), 0);
    total += entry.data.size();
  }
  std::uint64_t header = 0;
  std::memcpy(&header, input.data(), 8);
  EXPECT_EQ(8 + header + total, input.size());
}

TEST(FuzzSafetensors, DamagedBytesAreRefusedOrConsistent) {
  const std::string good = RawSafetensors(kHeader, std::string(33, 'x'));
  Fuzz(
      20000, [&](Random* random) { return Mutated(good, random); }, ReadSafetensors);
}

TEST(FuzzSafetensors, DamagedHeadersOfTheRightSizeAreRefusedOrConsistent) {
  const auto damage = [](Random* random) {
    return RawSafetensors(Mutated(std::string(kHeader), random), std::string(33, 'x'));
  };
  Fuzz(40000, damage, ReadSafetensors);
}

TEST(FuzzNpy, DamagedBytesAreRefusedOrConsistent) {
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }";
  header += std::string(117 - header.size(), ' ') + '\n';
  std::string good("\x93NUMPY\1\0v\0", 10);
  good += header + std::string(48, 'x');
  const auto read = [](const std::string& input) {
    const NpyFile file = NpyFile::Parse(Bytes(input), "f");
    EXPECT_EQ(BytesOf(file.dtype(), file.shape()), static_cast<double>(file.data().size()));
    EXPECT_GE(Sum(file.data()), 0);
    EXPECT_EQ(file.data().data() + file.data().size(), Bytes(input).data() + input.size());
  };
  Fuzz(
      40000, [&](Random* random) { return Mutated(good, random); }, read);
}

TEST(FuzzPlan, DamagedTextIsRefusedOrReadsBackTheSame) {
  Plan plan;
  plan.model = "toy";
  plan.rule = Rule::kGap;
  plan.target = 0.9;
  plan.centring = Centring::kByLength;
  plan.centring_min_keys = 3;
  plan.hash.kind = HashKind::kKronecker2;
  plan.hash.d = 4;
  plan.hash.k = 4;
  const Matrix factor{2, 2, {0.5f, -0.5f, 0.5f, 0.5f}};
  plan.hash.batches = {{4, {factor, factor}}};
  plan.theta_bias_rad = {{0.1}, {0.2}};
  plan.thresholds = {{0.5}, {kExactHead}};
  plan.calibration = {{{10, 0.5, 0.25, 0.75}}, {{0, 0, 1, 1}}};
  const std::string good = FormatPlan(plan);
  const auto read = [](const std::string& input) {
    const Plan got = ParsePlan(input, "p");
    EXPECT_EQ(ParsePlan(FormatPlan(got), "p"), got);
  };
  Fuzz(
      40000, [&](Random* random) { return Mutated(good, random); }, read);
}

TEST(FuzzTrace, DamagedFilesAreRefusedOrConsistent) {
  const TemporaryFolder folder;
  const std::string path = folder / "t.safetensors";
  std::vector<float> values(24, 0.5f);
  TraceToWrite trace;
  trace.model = "toy";
  const View<const float, 4> q(values.data(), {1, 2, 3, 4});
  const View<const float, 4> kv(values.data(), {1, 1, 3, 4});
  trace.layers = {{q, kv, kv, View<const float, 4>(values.data(), {1, 1, 3, 3})}};
  trace.lengths = {2};
  trace.tokens = {{"a", "b"}};
  WriteTrace(path, trace);
  const std::string good = ReadText(path);
  std::uint64_t header_size = 0;
  std::memcpy(&header_size, good.data(), 8);
  // Half the rounds damage the header alone, so that more files pass as safetensors.
  const auto damage = [&](Random* random) {
    if (random->Below(2) == 0) return Mutated(good, random);
    return RawSafetensors(Mutated(good.substr(8, header_size), random),
                          good.substr(8 + header_size));
  };
  const auto read = [&](const std::string& input) {
    // Removed first: some file systems flush to the device when an old file is cut short.
    std::filesystem::remove(path);
    WriteText(path, input);
    const Trace got = Trace::Open(path);
    for (std::int64_t layer = 0; layer < got.layers(); ++layer) {
      const LayerTensors tensors = got.Layer(layer);
      EXPECT_EQ(tensors.q.size(),
                got.batch() * got.shape(layer).heads * got.n_q() * got.shape(layer).d);
    }
    EXPECT_LE(got.lengths()[0], got.n_k());
    got.CheckFinite();
  };
  Fuzz(4000, damage, read);
}

}  // namespace
}  // namespace elsa::io
