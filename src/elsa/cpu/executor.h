// Who runs the work of a call: a pool of threads that the caller can size, share or replace.
#ifndef ELSA_CPU_EXECUTOR_H_
#define ELSA_CPU_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <memory>

namespace elsa::cpu {

// Derive from this to run ELSA's work on threads of your own. Results never depend on it.
class Executor {
 public:
  virtual ~Executor() = default;
  // How many items run at once, at most; 1 or more.
  virtual int threads() const = 0;
  // Calls task(i) once for every i in [0, count) and returns when all are done. Items may run in
  // any order, on any thread. An exception of a task is rethrown here after all have stopped.
  virtual void Run(std::int64_t count, const std::function<void(std::int64_t)>& task) = 0;
};

// Threads that wait for work; the caller of Run works too, so `threads` - 1 are started, when they
// are first needed. Calls of Run from several threads take turns; from inside a task, Run works on
// the calling thread alone.
class ThreadPool : public Executor {
 public:
  // threads = 0: one per hardware thread.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool() override;
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const override;
  void Run(std::int64_t count, const std::function<void(std::int64_t)>& task) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The pool of the process with one thread per hardware thread, made when first asked for.
Executor& DefaultExecutor();

// A pool of the process with `threads` threads (0: DefaultExecutor). Kept until the process ends.
Executor& SharedExecutor(int threads);

}  // namespace elsa::cpu

#endif  // ELSA_CPU_EXECUTOR_H_
