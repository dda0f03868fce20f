#include "elsa/cpu/target.h"

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/cpu/attention.h"
#include "elsa/cpu/testing.h"

namespace elsa::cpu {
namespace {

using Words = std::vector<std::string>;

bool Contains(std::string_view text, const std::string& word) {
  std::istringstream words{std::string(text)};
  for (std::string w; words >> w;) {
    if (w == word) return true;
  }
  return false;
}

TEST(Target, ThePortableOneRunsEverywhereAndTheMostCapableIsTheLast) {
  const std::vector<Target> running = RunningTargets();
  ASSERT_FALSE(running.empty());
  EXPECT_EQ(running.front(), Target::kPortable);
}

// ctest runs this program once per target with ELSA_TARGET set (cmake/CpuKernels.cmake).
TEST(Target, TheForcedOneIsSelectedElseTheMostCapable) {
  const char* text = std::getenv("ELSA_TARGET");
  const std::string forced = text != nullptr ? text : "";
  if (forced.empty()) {
    EXPECT_EQ(SelectedTarget(), RunningTargets().back());
    return;
  }
  for (const TargetInfo& info : Targets()) {
    if (info.name != forced) continue;
    if (info.runs) {
      EXPECT_EQ(Name(SelectedTarget()), forced);
      return;
    }
    try {
      SelectedTarget();
      FAIL() << forced;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported) << error.what();
      return;
    }
  }
  try {
    SelectedTarget();
    FAIL() << forced;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    const std::string message = error.what();
    EXPECT_EQ(message.rfind("ELSA_TARGET: expected one of portable", 0), 0u) << message;
    EXPECT_NE(message.find("got " + forced), std::string::npos) << message;
  }
}

// What ran is what was asked for: the report names it, and its table is the target's own.
TEST(Target, AttentionRunsOnTheSelectedTargetUnlessTheCallNamesOne) {
  const char* text = std::getenv("ELSA_TARGET");
  if (text != nullptr && *text != '\0') {
    bool runs = false;
    for (const TargetInfo& info : Targets()) runs = runs || (info.runs && info.name == text);
    if (!runs) return;  // refused above
  }
  const std::vector<float> ones(4 * 8, 1.0f);
  std::vector<float> out(4 * 8);
  const std::array<std::int64_t, 4> shape = {1, 1, 4, 8};
  const View<const float, 4> rows(ones.data(), shape);
  Inputs inputs;
  inputs.query = inputs.key = inputs.value = Tensor(rows);
  const MutableTensor to(View<float, 4>(out.data(), shape));
  EXPECT_EQ(Attend(inputs, nullptr, 0, to).target, SelectedTarget());
  for (Target target : RunningTargets()) {
    AttendOptions options;
    options.target = target;
    EXPECT_EQ(Attend(inputs, nullptr, 0, to, options).target, target);
    EXPECT_EQ(out, ones) << Name(target);
  }
}

TEST(Target, KernelsWereCompiledForTheInstructionsThatTheirTargetNames) {
  const Words none = {"avx2", "fma", "avx512f", "avx512vpopcntdq", "avx512bf16", "avx512fp16"};
  const std::map<Target, std::pair<Words, Words>> has_and_lacks = {
#if defined(__aarch64__)
    {Target::kPortable, {{"neon"}, none}},  // every 64-bit Arm has it
#else
    {Target::kPortable, {{}, none}},
#endif
    {Target::kNeon, {{"neon"}, none}},
    {Target::kAvx2, {{"avx2", "fma"}, {"avx512f", "avx512vpopcntdq", "avx512bf16"}}},
    {Target::kAvx512, {{"avx2", "fma", "avx512f"}, {"avx512vpopcntdq", "avx512bf16"}}},
    {Target::kAvx512Vpopcnt,
     {{"avx512f", "avx512vpopcntdq", "avx512vnni"}, {"avx512bf16", "avx512fp16"}}},
    {Target::kAvx512Bf16, {{"avx512f", "avx512vpopcntdq", "avx512bf16"}, {"avx512fp16"}}},
    {Target::kAvx512Fp16, {{"avx512f", "avx512vpopcntdq", "avx512bf16", "avx512fp16"}, {}}},
  };
  for (Target target : RunningTargets()) {
    const KernelSet& kernels = KernelsOf(target);
    const auto& [has, lacks] = has_and_lacks.at(target);
    for (const std::string& word : has) {
      EXPECT_TRUE(Contains(kernels.compiled_for, word))
          << Name(target) << ": " << kernels.compiled_for << ": expected " << word;
    }
    for (const std::string& word : lacks) {
      EXPECT_FALSE(Contains(kernels.compiled_for, word))
          << Name(target) << ": " << kernels.compiled_for << ": did not expect " << word;
    }
  }
}

TEST(Target, EveryTargetHasTablesOfItsOwn) {
  std::map<const void*, Target> seen;
  for (Target target : RunningTargets()) {
    const KernelSet& kernels = KernelsOf(target);
    const void* tables[] = {&kernels, kernels.decode, kernels.exact, kernels.select,
                            kernels.sparse};
    for (const void* table : tables) {
      ASSERT_NE(table, nullptr) << Name(target);
      const auto [at, is_new] = seen.emplace(table, target);
      EXPECT_TRUE(is_new) << Name(target) << " shares a table with " << Name(at->second);
    }
  }
}

TEST(Target, OneThatDoesNotRunHereIsRefusedNamingThoseThatDo) {
  for (const TargetInfo& info : Targets()) {
    if (info.runs) {
      EXPECT_EQ(KernelsOf(info.target).compiled_for, info.compiled_for);
      continue;
    }
    try {
      KernelsOf(info.target);
      FAIL() << info.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
      const std::string message = error.what();
      EXPECT_NE(message.find("portable"), std::string::npos) << message;
      EXPECT_NE(message.find(info.name), std::string::npos) << message;
    }
  }
}

}  // namespace
}  // namespace elsa::cpu
