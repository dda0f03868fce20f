// Versions, targets, plans, structs of other versions and messages of the C interface.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <string>
#include <thread>

#include "elsa/base/error.h"
#include "elsa/capi/guard.h"
#include "elsa/capi/testing.h"
#include "elsa/cpu/target.h"
#include "elsa/elsa_c.h"

extern "C" const char* elsa_c99_check(void);  // c99_test.c

namespace elsa::capi {
namespace {

using reference::TestPlan;

TEST(CInterface, WorksFromC99) { EXPECT_STREQ(elsa_c99_check(), ""); }

TEST(CInterface, TheLibraryHasTheVersionOfItsHeader) {
  EXPECT_EQ(elsa_abi_version(), ELSA_ABI_VERSION);
  const std::string version = elsa_version();  // which one: tests/install/find_package_test.py
  EXPECT_EQ(version.find_first_not_of("0123456789."), std::string::npos) << version;
}

TEST(CInterface, ListsTheTargetsOfTheEngine) {
  const auto targets = cpu::Targets();
  ASSERT_EQ(elsa_target_count(), static_cast<std::int32_t>(targets.size()));
  for (std::int32_t i = 0; i < elsa_target_count(); ++i) {
    EXPECT_EQ(elsa_target_name(i), targets[i].name);
    EXPECT_EQ(elsa_target_runs(i), targets[i].runs ? 1 : 0);
    EXPECT_EQ(elsa_target_compiled_for(i), targets[i].compiled_for);
  }
  EXPECT_EQ(elsa_target_name(-1), nullptr);
  EXPECT_EQ(elsa_target_name(elsa_target_count()), nullptr);
  EXPECT_EQ(elsa_target_compiled_for(-1), nullptr);
  EXPECT_EQ(elsa_target_runs(elsa_target_count()), -1);
  EXPECT_EQ(elsa_selected_target(), cpu::Name(cpu::SelectedTarget()));
  EXPECT_EQ(elsa_processor_name(), cpu::ProcessorName());
}

TEST(CInterface, EveryStatusHasAName) {
  EXPECT_STREQ(elsa_status_name(ELSA_OK), "ok");
  EXPECT_STREQ(elsa_status_name(ELSA_INTERNAL), "internal");
  EXPECT_STREQ(elsa_status_name(-1), "unknown");
  EXPECT_STREQ(elsa_status_name(ELSA_INTERNAL + 1), "unknown");
  for (elsa_status status = ELSA_OK; status <= ELSA_INTERNAL; ++status) {
    EXPECT_STRNE(elsa_status_name(status), "unknown") << status;
  }
}

TEST(CInterface, EveryExceptionBecomesAStatusAndAMessage) {
  const auto status = [](auto thrown) { return Guard([&] { throw thrown; }); };
  ExpectFailure(status(Error(ErrorCode::kIo, "disk: full")), ELSA_IO, {"disk: full"});
  ExpectFailure(status(Error(ErrorCode::kMismatch, "a")), ELSA_MISMATCH, {"a"});
  ExpectFailure(status(Error(ErrorCode::kInvalidFormat, "b")), ELSA_INVALID_FORMAT, {"b"});
  ExpectFailure(status(Error(ErrorCode::kUnsupported, "c")), ELSA_UNSUPPORTED, {"c"});
  ExpectFailure(status(std::bad_alloc()), ELSA_OUT_OF_MEMORY, {"memory"});
  ExpectFailure(status(std::length_error("vector")), ELSA_OUT_OF_MEMORY, {"memory"});
  ExpectFailure(status(CallbackError("run")), ELSA_CALLBACK_FAILED, {"run"});
  ExpectFailure(status(std::runtime_error("bug")), ELSA_INTERNAL, {"bug"});
  ExpectFailure(status(7), ELSA_INTERNAL, {"unknown exception"});
  EXPECT_EQ(GuardValue<int>(-1, []() -> int { throw 7; }), -1);
}

TEST(CInterface, MessagesBelongToAThreadAndOutliveSuccess) {
  ExpectFailure(elsa_plan_read("no such file", nullptr), ELSA_INVALID_ARGUMENT, {"plan"});
  std::thread([] { EXPECT_STREQ(elsa_last_error(), ""); }).join();
  const PlanHandle plan = HandleOf(TestPlan(8, 64, 2, 0.5));
  EXPECT_NE(elsa_last_error(), std::string());
}

TEST(CPlan, ReadsAndAnswers) {
  Plan plan = TestPlan(8, 96, 2, 0.5);
  plan.model = "toy";
  plan.thresholds[0][1] = kExactHead;
  const std::string path = testing::TempDir() + "elsa_capi_plan.json";
  io::WritePlan(path, plan);
  elsa_plan* raw = nullptr;
  ASSERT_EQ(elsa_plan_read(path.c_str(), &raw), ELSA_OK) << elsa_last_error();
  std::filesystem::remove(path);
  const PlanHandle handle(raw);
  EXPECT_STREQ(elsa_plan_model(raw), "toy");
  EXPECT_STREQ(elsa_plan_profile(raw), "paper");
  EXPECT_EQ(elsa_plan_layers(raw), 1);
  EXPECT_EQ(elsa_plan_heads(raw, 0), 2);
  EXPECT_EQ(elsa_plan_hash_d(raw), 8);
  EXPECT_EQ(elsa_plan_hash_bits(raw), 96);
  EXPECT_EQ(elsa_plan_is_exact_head(raw, 0, 0), 0);
  EXPECT_EQ(elsa_plan_is_exact_head(raw, 0, 1), 1);
}

TEST(CPlan, SaysWhatIsWrong) {
  elsa_plan* plan = reinterpret_cast<elsa_plan*>(1);
  ExpectFailure(elsa_plan_read("/no/such/plan.json", &plan), ELSA_IO, {"/no/such/plan.json"});
  EXPECT_EQ(plan, nullptr);
  ExpectFailure(elsa_plan_read(nullptr, &plan), ELSA_INVALID_ARGUMENT, {"path", "null"});
  ExpectFailure(elsa_plan_read("x", nullptr), ELSA_INVALID_ARGUMENT, {"plan", "null"});
  ExpectFailure(elsa_plan_parse(nullptr, 3, "mine", &plan), ELSA_INVALID_ARGUMENT, {"json"});
  ExpectFailure(elsa_plan_parse("{}", 2, "mine", nullptr), ELSA_INVALID_ARGUMENT, {"plan"});
  ExpectFailure(elsa_plan_parse("{}", 2, "mine", &plan), ELSA_INVALID_FORMAT, {"mine"});
  ExpectFailure(elsa_plan_parse("{nonsense", 9, nullptr, &plan), ELSA_INVALID_FORMAT, {"plan"});
  EXPECT_EQ(plan, nullptr);

  EXPECT_EQ(elsa_plan_model(nullptr), nullptr);
  EXPECT_EQ(elsa_plan_profile(nullptr), nullptr);
  EXPECT_EQ(elsa_plan_layers(nullptr), -1);
  EXPECT_EQ(elsa_plan_hash_d(nullptr), -1);
  EXPECT_EQ(elsa_plan_hash_bits(nullptr), -1);
  EXPECT_EQ(elsa_plan_heads(nullptr, 0), -1);
  EXPECT_EQ(elsa_plan_is_exact_head(nullptr, 0, 0), -1);
  elsa_plan_free(nullptr);

  const PlanHandle good = HandleOf(TestPlan(8, 64, 2, 0.5));
  EXPECT_EQ(elsa_plan_heads(good.get(), 1), -1);
  EXPECT_STREQ(elsa_last_error(), "layer: expected 0 to 0, got 1");
  EXPECT_EQ(elsa_plan_is_exact_head(good.get(), 0, 2), -1);
  EXPECT_STREQ(elsa_last_error(), "head: expected 0 to 1, got 2");
}

// A caller whose header has one more option than this library.
struct NewerOptions {
  elsa_attend_options known = elsa_attend_options_init();
  std::int64_t added = 0;
};

TEST(CStructs, OfANewerHeaderWorkWhileTheyAskForNothingNew) {
  const reference::Problem p = reference::RandomProblem({}, 1);
  const elsa_inputs inputs = InputsOf(p);
  Out out(p);
  const elsa_mutable_tensor to = out.tensor();
  NewerOptions options;
  options.known.struct_size = sizeof(NewerOptions);
  EXPECT_EQ(elsa_attend(&inputs, nullptr, 0, &to, &options.known, nullptr), ELSA_OK);
  options.added = 1;
  ExpectFailure(elsa_attend(&inputs, nullptr, 0, &to, &options.known, nullptr), ELSA_UNSUPPORTED,
                {"options", "newer"});
}

TEST(CStructs, WithoutTheirSizeAreRefused) {
  const reference::Problem p = reference::RandomProblem({}, 1);
  elsa_inputs inputs = InputsOf(p);
  Out out(p);
  const elsa_mutable_tensor to = out.tensor();
  for (const std::size_t size : {std::size_t{0}, sizeof(elsa_inputs) - 1, std::size_t{1} << 40}) {
    inputs.struct_size = size;
    ExpectFailure(elsa_attend(&inputs, nullptr, 0, &to, nullptr, nullptr), ELSA_INVALID_ARGUMENT,
                  {"inputs: struct_size", std::to_string(size)});
  }
}

}  // namespace
}  // namespace elsa::capi
