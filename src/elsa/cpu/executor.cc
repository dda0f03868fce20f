#include "elsa/cpu/executor.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace elsa::cpu {
namespace {

thread_local bool inside_task = false;

void RunHere(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  for (std::int64_t i = 0; i < count; ++i) task(i);
}

}  // namespace

// One job at a time: its items are taken by an atomic counter.
struct ThreadPool::State {
  int threads = 1;
  std::mutex turn;  // held by the caller whose job is under way

  std::mutex mutex;  // guards all below but the counter
  std::condition_variable work_ready;
  std::condition_variable work_done;
  std::uint64_t job = 0;  // rises with every job
  bool stop = false;
  int busy = 0;  // helpers inside the job
  std::int64_t count = 0;
  const std::function<void(std::int64_t)>* task = nullptr;
  std::exception_ptr failure;
  std::int64_t failed_at = 0;
  std::atomic<std::int64_t> next{0};
  std::vector<std::thread> helpers;

  // The job is passed, not read from the members: Run clears `task` when it finds no item left,
  // which may be before a helper has begun the last one.
  void Work(const std::function<void(std::int64_t)>& job_task, std::int64_t job_count) {
    inside_task = true;
    for (std::int64_t i = next++; i < job_count; i = next++) {
      try {
        job_task(i);
      } catch (...) {
        next = job_count;  // no new items; those under way finish
        const std::lock_guard lock(mutex);
        if (failure == nullptr || i < failed_at) {
          failed_at = i;
          failure = std::current_exception();
        }
      }
    }
    inside_task = false;
  }

  void Help() {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex);
    while (true) {
      work_ready.wait(lock, [&] { return stop || (job != seen && task != nullptr); });
      if (stop) return;
      seen = job;
      ++busy;
      const std::function<void(std::int64_t)>& job_task = *task;  // lives until busy is 0
      const std::int64_t job_count = count;
      lock.unlock();
      Work(job_task, job_count);
      lock.lock();
      if (--busy == 0) work_done.notify_one();
    }
  }

  void StartHelpers() {
    try {
      while (static_cast<int>(helpers.size()) + 1 < threads) {
        helpers.emplace_back([this] { Help(); });
      }
    } catch (const std::system_error&) {
      threads = static_cast<int>(helpers.size()) + 1;  // the system gives no more
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  const int available = static_cast<int>(std::thread::hardware_concurrency());
  state_->threads = std::max(threads > 0 ? threads : available, 1);
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->work_ready.notify_all();
  for (std::thread& helper : state_->helpers) helper.join();
}

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::Run(std::int64_t count, const std::function<void(std::int64_t)>& task) {
  State& s = *state_;
  if (count <= 1 || s.threads == 1 || inside_task) return RunHere(count, task);
  const std::lock_guard turn(s.turn);
  {
    const std::lock_guard lock(s.mutex);
    s.StartHelpers();
    s.count = count;
    s.task = &task;
    s.failure = nullptr;
    s.next = 0;
    ++s.job;
  }
  s.work_ready.notify_all();
  s.Work(task, count);
  std::unique_lock lock(s.mutex);
  s.task = nullptr;  // a helper that wakes late finds nothing to do
  s.work_done.wait(lock, [&] { return s.busy == 0; });
  if (s.failure != nullptr) std::rethrow_exception(std::exchange(s.failure, nullptr));
}

Executor& DefaultExecutor() {
  // Never destroyed: after fork() the child has no helpers to join.
  static ThreadPool& pool = *new ThreadPool;
  return pool;
}

Executor& SharedExecutor(int threads) {
  if (threads <= 0) return DefaultExecutor();
  static std::mutex& mutex = *new std::mutex;
  static auto& pools = *new std::map<int, ThreadPool*>;
  const std::lock_guard lock(mutex);
  ThreadPool*& pool = pools[threads];
  if (pool == nullptr) pool = new ThreadPool(threads);
  return *pool;
}

}  // namespace elsa::cpu
