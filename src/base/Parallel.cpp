#include "base/Parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace quadrille {

namespace {

// One job at a time: workers and the caller take ranges from a shared counter. A pool of futures (llvm::ThreadPool)
// costs an allocation and a lock for each task, which is more than a small elementwise kernel takes.
class WorkerPool {
public:
  explicit WorkerPool(unsigned workers) {
    for (unsigned i = 0; i < workers; ++i)
      threads.emplace_back([this] { work(); });
  }
  ~WorkerPool() {
    {
      std::lock_guard lock(mutex);
      stopping = true;
    }
    wake.notify_all();
    for (std::thread &thread : threads)
      thread.join();
  }

  void run(int64_t ranges, llvm::function_ref<void(int64_t)> body) {
    std::lock_guard oneJob(jobMutex);
    {
      std::lock_guard lock(mutex);
      job = &body;
      next.store(0, std::memory_order_relaxed);
      end = ranges;
      active = static_cast<unsigned>(threads.size());
      ++generation;
    }
    wake.notify_all();
    drain(body, ranges);
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return active == 0; });
    job = nullptr;
  }

private:
  void drain(llvm::function_ref<void(int64_t)> body, int64_t ranges) {
    for (int64_t i = next.fetch_add(1); i < ranges; i = next.fetch_add(1))
      body(i);
  }

  void work();

  std::vector<std::thread> threads;
  std::mutex jobMutex, mutex;
  std::condition_variable wake, done;
  llvm::function_ref<void(int64_t)> *job = nullptr;
  std::atomic<int64_t> next{0};
  int64_t end = 0;
  unsigned active = 0;
  uint64_t generation = 0;
  bool stopping = false;
};

thread_local bool insideParallelFor = false;
unsigned requestedThreads = 0;

void WorkerPool::work() {
  insideParallelFor = true;
  uint64_t seen = 0;
  while (true) {
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return stopping || generation != seen; });
    if (stopping)
      return;
    seen = generation;
    llvm::function_ref<void(int64_t)> body = *job;
    int64_t ranges = end;
    lock.unlock();
    drain(body, ranges);
    lock.lock();
    if (--active == 0)
      done.notify_one();
  }
}

} // namespace

void setThreadCount(unsigned count) {
  requestedThreads = count;
}

unsigned threadCount() {
  if (requestedThreads != 0)
    return requestedThreads;
  static const unsigned cores = std::max(1u, std::thread::hardware_concurrency()); // asks the system each time
  return cores;
}

void parallelFor(int64_t count, int64_t grain, llvm::function_ref<void(int64_t begin, int64_t end)> body) {
  if (count <= 0)
    return;
  grain = std::max<int64_t>(grain, 1);
  int64_t ranges = (count + grain - 1) / grain;
  auto runRange = [&](int64_t i) { body(i * grain, std::min(count, (i + 1) * grain)); };
  if (ranges == 1 || insideParallelFor || threadCount() == 1) {
    for (int64_t i = 0; i < ranges; ++i)
      runRange(i);
    return;
  }
  static WorkerPool pool(threadCount() - 1);
  insideParallelFor = true;
  pool.run(ranges, runRange);
  insideParallelFor = false;
}

} // namespace quadrille
