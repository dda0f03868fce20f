// Executors of the C interface: pools of the library, and the caller's own threads.
#include "elsa/cpu/executor.h"

#include <atomic>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "elsa/base/error.h"
#include "elsa/capi/convert.h"
#include "elsa/capi/guard.h"
#include "elsa/capi/handles.h"
#include "elsa/elsa_c.h"

namespace elsa::capi {
namespace {

thread_local bool inside_item = false;

// One call of the caller's `run`. Nothing that a task throws may cross the caller's frames.
struct Job {
  Job(const std::function<void(std::int64_t)>& task_in, std::int64_t count_in)
      : task(task_in), count(count_in), started(count_in) {}

  const std::function<void(std::int64_t)>& task;
  const std::int64_t count;
  std::vector<std::atomic<bool>> started;
  std::atomic<std::int64_t> done{0};
  std::atomic<std::int64_t> wrong{0};  // calls for no item, or for one that was started before
  std::mutex mutex;
  std::exception_ptr failure;  // of the lowest index
  std::int64_t failed_at = 0;

  void RunItem(std::int64_t i) noexcept {
    if (i < 0 || i >= count || started[i].exchange(true)) {
      ++wrong;
      return;
    }
    const bool nested = inside_item;
    inside_item = true;
    try {
      task(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (failure == nullptr || i < failed_at) {
        failure = std::current_exception();
        failed_at = i;
      }
    }
    inside_item = nested;
    ++done;
  }
};

extern "C" {
static void RunItemOfJob(void* job, std::int64_t index) { static_cast<Job*>(job)->RunItem(index); }
}

class CallbackExecutor : public cpu::Executor {
 public:
  explicit CallbackExecutor(const elsa_executor_callbacks& callbacks) : callbacks_(callbacks) {}
  ~CallbackExecutor() override {
    if (callbacks_.destroy != nullptr) callbacks_.destroy(callbacks_.context);
  }

  int threads() const override { return callbacks_.threads; }

  void Run(std::int64_t count, const std::function<void(std::int64_t)>& task) override {
    // From inside an item on this thread alone: a pool of the caller's may wait for itself.
    if (count <= 1 || inside_item) {
      for (std::int64_t i = 0; i < count; ++i) task(i);
      return;
    }
    Job job(task, count);
    const std::int32_t failed = callbacks_.run(callbacks_.context, count, &RunItemOfJob, &job);
    if (job.failure != nullptr) std::rethrow_exception(job.failure);
    if (failed != 0) {
      throw CallbackError("executor: run: expected 0, got " + std::to_string(failed));
    }
    if (job.done != count || job.wrong != 0) {
      throw CallbackError("executor: run: expected each of " + std::to_string(count) +
                          " items once, got " + std::to_string(job.done) + " and " +
                          std::to_string(job.wrong) + " wrong calls");
    }
  }

 private:
  const elsa_executor_callbacks callbacks_;
};

void Give(std::unique_ptr<cpu::Executor> made, elsa_executor** executor) {
  *executor = new elsa_executor{std::move(made)};
}

}  // namespace
}  // namespace elsa::capi

extern "C" {

elsa_status elsa_executor_create(int32_t threads, elsa_executor** executor) {
  return elsa::capi::Guard([&] {
    elsa::capi::RequirePointer("executor", executor);
    *executor = nullptr;
    elsa::capi::RequireThreads(threads);
    elsa::capi::Give(std::make_unique<elsa::cpu::ThreadPool>(threads), executor);
  });
}

elsa_status elsa_executor_create_from(const elsa_executor_callbacks* callbacks,
                                      elsa_executor** executor) {
  return elsa::capi::Guard([&] {
    elsa::capi::RequirePointer("executor", executor);
    *executor = nullptr;
    const auto copy = elsa::capi::CopyStruct("callbacks", callbacks);
    if (copy.threads < 1) {
      throw elsa::Error(
          elsa::ErrorCode::kInvalidArgument,
          "callbacks: threads: expected 1 or more, got " + std::to_string(copy.threads));
    }
    if (copy.run == nullptr) {
      throw elsa::Error(elsa::ErrorCode::kInvalidArgument,
                        "callbacks: run: expected a function, got a null pointer");
    }
    elsa::capi::Give(std::make_unique<elsa::capi::CallbackExecutor>(copy), executor);
  });
}

int32_t elsa_executor_threads(const elsa_executor* executor) {
  return elsa::capi::GuardValue<int32_t>(-1, [&] {
    elsa::capi::RequirePointer("executor", executor);
    return executor->executor->threads();
  });
}

void elsa_executor_free(elsa_executor* executor) { delete executor; }

}  // extern "C"
