// Executors of the C interface: the library's pools, and those of callers that do as they like.
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "elsa/capi/guard.h"
#include "elsa/capi/handles.h"
#include "elsa/capi/testing.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {
namespace {

using reference::Problem;
using reference::RandomProblem;

// The items from the last to the first, on two threads; counts what it is told.
struct TwoThreads {
  std::atomic<int> runs{0};
  int destroyed = 0;
  static std::int32_t Run(void* context, std::int64_t count, elsa_task task, void* task_context) {
    ++static_cast<TwoThreads*>(context)->runs;
    std::thread other([&] {
      for (std::int64_t i = count - 1; i >= 0; i -= 2) task(task_context, i);
    });
    for (std::int64_t i = count - 2; i >= 0; i -= 2) task(task_context, i);
    other.join();
    return 0;
  }
  static void Destroy(void* context) { ++static_cast<TwoThreads*>(context)->destroyed; }
};

using RunFunction = std::int32_t (*)(void*, std::int64_t, elsa_task, void*);

ExecutorHandle MakeExecutor(RunFunction run, void* context = nullptr,
                            void (*destroy)(void*) = nullptr) {
  elsa_executor_callbacks callbacks = elsa_executor_callbacks_init();
  callbacks.context = context;
  callbacks.threads = 2;
  callbacks.run = run;
  callbacks.destroy = destroy;
  elsa_executor* executor = nullptr;
  EXPECT_EQ(elsa_executor_create_from(&callbacks, &executor), ELSA_OK) << elsa_last_error();
  return ExecutorHandle(executor);
}

std::vector<float> AttendWith(const Problem& p, elsa_executor* executor) {
  const elsa_inputs inputs = InputsOf(p);
  Out out(p);
  const elsa_mutable_tensor to = out.tensor();
  elsa_attend_options options = elsa_attend_options_init();
  options.executor = executor;
  EXPECT_EQ(elsa_attend(&inputs, nullptr, 0, &to, &options, nullptr), ELSA_OK) << elsa_last_error();
  return out.values.values;
}

TEST(CExecutor, NeverChangesTheResult) {
  const Problem p =
      RandomProblem({.batch = 3, .heads = 4, .kv_heads = 2, .queries = 70, .keys = 90}, 1);
  elsa_executor* one = nullptr;
  ASSERT_EQ(elsa_executor_create(1, &one), ELSA_OK);
  const ExecutorHandle single(one);
  EXPECT_EQ(elsa_executor_threads(one), 1);
  const auto expected = AttendWith(p, one);
  elsa_executor* five = nullptr;
  ASSERT_EQ(elsa_executor_create(5, &five), ELSA_OK);
  const ExecutorHandle pool(five);
  EXPECT_EQ(AttendWith(p, five), expected);
  TwoThreads callers;
  {
    const ExecutorHandle mine = MakeExecutor(&TwoThreads::Run, &callers, &TwoThreads::Destroy);
    EXPECT_EQ(elsa_executor_threads(mine.get()), 2);
    EXPECT_EQ(AttendWith(p, mine.get()), expected);
    EXPECT_EQ(callers.destroyed, 0);
  }
  EXPECT_EQ(callers.destroyed, 1);
}

TEST(CExecutor, RunsEveryItemOnceAndPassesErrorsOn) {
  TwoThreads callers;
  const ExecutorHandle executor = MakeExecutor(&TwoThreads::Run, &callers);
  std::vector<std::atomic<int>> done(100);
  executor->executor->Run(100, [&](std::int64_t i) {
    // From inside an item: here, not through the caller's threads again.
    executor->executor->Run(2, [&](std::int64_t) { ++done[i]; });
  });
  EXPECT_EQ(callers.runs, 1);
  for (const auto& count : done) EXPECT_EQ(count, 2);
  EXPECT_THROW(executor->executor->Run(9,
                                       [](std::int64_t i) {
                                         if (i == 4) throw std::out_of_range("4");
                                       }),
               std::out_of_range);
}

// The items that a task would see are the engine's: through the executor itself, any number.
void ExpectRunFails(RunFunction run, std::initializer_list<std::string_view> words) {
  const ExecutorHandle executor = MakeExecutor(run);
  ExpectFailure(Guard([&] { executor->executor->Run(3, [](std::int64_t) {}); }),
                ELSA_CALLBACK_FAILED, words);
}

TEST(CExecutorErrors, ARunThatDoesNotDoItsWork) {
  ExpectRunFails([](void*, std::int64_t, elsa_task, void*) -> std::int32_t { return 5; },
                 {"run", "expected 0", "got 5"});
  ExpectRunFails([](void*, std::int64_t, elsa_task, void*) -> std::int32_t { return 0; },
                 {"each of 3 items once", "got 0"});
  ExpectRunFails(
      [](void*, std::int64_t, elsa_task task, void* context) -> std::int32_t {
        for (const std::int64_t i : {0, 1, 1}) task(context, i);
        return 0;
      },
      {"got 2 and 1 wrong calls"});
  ExpectRunFails(
      [](void*, std::int64_t, elsa_task task, void* context) -> std::int32_t {
        for (const std::int64_t i : {0, 1, 2, 3, -1}) task(context, i);
        return 0;
      },
      {"got 3 and 2 wrong calls"});
}

TEST(CExecutorErrors, CallbacksThatMakeNoSense) {
  elsa_executor* executor = reinterpret_cast<elsa_executor*>(1);
  ExpectFailure(elsa_executor_create_from(nullptr, &executor), ELSA_INVALID_ARGUMENT,
                {"callbacks", "null"});
  EXPECT_EQ(executor, nullptr);
  elsa_executor_callbacks callbacks = elsa_executor_callbacks_init();
  callbacks.threads = 1;
  ExpectFailure(elsa_executor_create_from(&callbacks, &executor), ELSA_INVALID_ARGUMENT,
                {"run", "null"});
  callbacks.run = &TwoThreads::Run;
  ExpectFailure(elsa_executor_create_from(&callbacks, nullptr), ELSA_INVALID_ARGUMENT,
                {"executor", "null"});
  callbacks.threads = 0;
  ExpectFailure(elsa_executor_create_from(&callbacks, &executor), ELSA_INVALID_ARGUMENT,
                {"threads", "got 0"});
  ExpectFailure(elsa_executor_create(-1, &executor), ELSA_INVALID_ARGUMENT, {"threads", "-1"});
  ExpectFailure(elsa_executor_create(1, nullptr), ELSA_INVALID_ARGUMENT, {"executor"});
  EXPECT_EQ(elsa_executor_threads(nullptr), -1);
  elsa_executor_free(nullptr);
}

TEST(CExecutorErrors, AnExecutorHasItsOwnThreads) {
  elsa_executor* raw = nullptr;
  ASSERT_EQ(elsa_executor_create(1, &raw), ELSA_OK);
  const ExecutorHandle executor(raw);
  const Problem p = RandomProblem({}, 1);
  const elsa_inputs inputs = InputsOf(p);
  Out out(p);
  const elsa_mutable_tensor to = out.tensor();
  elsa_attend_options options = elsa_attend_options_init();
  options.executor = raw;
  options.threads = 2;
  ExpectFailure(elsa_attend(&inputs, nullptr, 0, &to, &options, nullptr), ELSA_INVALID_ARGUMENT,
                {"threads", "0 beside an executor", "got 2"});
}

}  // namespace
}  // namespace elsa::capi
