// Runs independent work items on several threads. Each item writes only its own results, so the
// outcome does not depend on how many threads run them.
#ifndef ELSA_BASE_PARALLEL_FOR_H_
#define ELSA_BASE_PARALLEL_FOR_H_

#include <cstdint>
#include <functional>

namespace elsa {

// Calls task(i) once for every i in [0, count), on up to `threads` threads (0: one per hardware
// thread), and returns when all are done. Threads take the next index when they are free, so items
// of unequal size balance.
// Errors: the first exception (lowest index) thrown by a task is rethrown after all have stopped.
void ParallelFor(std::int64_t count, int threads, const std::function<void(std::int64_t)>& task);

}  // namespace elsa

#endif  // ELSA_BASE_PARALLEL_FOR_H_
