// A burst that is being executed, and what the units of the simulator have in common.
#pragma once

#include "target/tsp/Dispatch.h"
#include "target/tsp/Effects.h"

#include "llvm/Support/MathExtras.h"

#include <algorithm>
#include <deque>
#include <memory>

namespace quadrille::tsp {

// Memory for vectors, which is used again: fresh pages cost more than what is written to them.
class VectorPool {
public:
  struct Return {
    VectorPool *pool = nullptr;
    unsigned size = 0; // log2 of the bytes
    void operator()(std::byte *bytes) const { pool->spare[size].emplace_back(bytes); }
  };
  using Bytes = std::unique_ptr<std::byte[], Return>;
  Bytes take(int64_t bytes) {
    unsigned size = llvm::Log2_64_Ceil(static_cast<uint64_t>(std::max<int64_t>(bytes, 1)));
    if (spare[size].empty())
      return Bytes(new std::byte[size_t(1) << size], Return{this, size});
    Bytes taken(spare[size].back().release(), Return{this, size});
    spare[size].pop_back();
    return taken;
  }

private:
  std::vector<std::unique_ptr<std::byte[]>> spare[64];
};

// Issues are executed in order; those before `done` are.
struct Work {
  Burst burst;
  const Instruction *instruction;
  const QueueName *queue;
  int64_t chip;
  Effects effects;
  int64_t done = 0;
  int64_t taken = 0; // of the vectors of a Send, by Receives
  // For each part of the result the vectors of all issues, one after the other; null without values or before the first
  // issue is executed.
  llvm::SmallVector<VectorPool::Bytes, 4> results;

  int64_t count() const { return burst.cycles.count; }
  bool ended() const { return done == count(); }
  int64_t cycle(int64_t k) const { return burst.cycles.at(k); }
  // The first that is not executed; only if there is one.
  int64_t nextCycle() const { return cycle(done); }
};

// Equally spaced vectors in memory.
struct Vectors {
  const std::byte *first = nullptr;
  int64_t stride = 0;
  const std::byte *at(int64_t k) const { return first + k * stride; }
};

class Channels;
class Observer;

// What shows only when the program has ended.
struct LeftOver {
  Issue issue;
  std::string message;
};

// What every unit works with.
struct Context {
  const Architecture &machine;
  const Queues &queues;
  Channels &channels;
  Observer &observer;
  VectorPool &pool;
  bool values;
  // Issues before `known` may be executed: all that they depend on is known. Before `complete` no issue is to come.
  int64_t known = 0, complete = 0;

  // How many issues from `work.done` on lie before `cycle`.
  int64_t before(const Work &work, int64_t cycle) const {
    int64_t gap = std::min(cycle, known) - work.nextCycle();
    if (gap <= 0)
      return 0;
    return std::min(work.count() - work.done, (gap - 1) / work.burst.cycles.interval + 1);
  }
  llvm::Error hazard(const Work &work, int64_t k, const std::string &message) const {
    return hazardError(work.burst.issue(k), queues, message);
  }
  std::string name(const Work &work, int64_t k) const { return print(work.burst.issue(k), queues); }
  void allocateResults(Work &work) const {
    work.results.resize(work.effects.parts);
    if (values)
      for (auto &part : work.results)
        if (!part)
          part = pool.take(work.count() * machine.vectorBytes());
  }
  std::byte *result(const Work &work, int64_t part, int64_t k) const {
    return values ? work.results[part].get() + k * machine.vectorBytes() : nullptr;
  }
};

// Bursts that one part of the machine executes in the order of their issues. Bursts of several queues may overlap.
class WorkList {
public:
  void add(std::shared_ptr<Work> work) { list.push_back(std::move(work)); }
  bool empty() const { return list.empty(); }
  // The burst with the earliest issue that is not executed; null when there is none.
  Work *next() const {
    Work *earliest = nullptr;
    for (const auto &work : list) {
      if (earliest && work->burst.cycles.first > earliest->nextCycle())
        break; // ascending in the first cycle
      if (!earliest || work->nextCycle() < earliest->nextCycle())
        earliest = work.get();
    }
    return earliest;
  }
  // The cycle of the earliest issue of the other bursts.
  int64_t nextOther(const Work *but) const {
    int64_t cycle = std::numeric_limits<int64_t>::max();
    for (const auto &work : list)
      if (work.get() != but) {
        if (work->burst.cycles.first > cycle)
          break;
        cycle = std::min(cycle, work->nextCycle());
      }
    return cycle;
  }
  int64_t nextCycle() const { return list.empty() ? std::numeric_limits<int64_t>::max() : next()->nextCycle(); }
  // Of those bursts for which `condition` holds.
  template <typename Condition> int64_t nextCycle(const Condition &condition) const {
    int64_t cycle = std::numeric_limits<int64_t>::max();
    for (const auto &work : list)
      if (condition(*work))
        cycle = std::min(cycle, work->nextCycle());
    return cycle;
  }
  // After each execution: at most one has ended by it, mostly the first.
  void dropEnded() {
    auto ended = std::find_if(list.begin(), list.end(), [](const auto &work) { return work->ended(); });
    if (ended != list.end())
      list.erase(ended);
  }

private:
  std::deque<std::shared_ptr<Work>> list; // not ended, ascending in the first cycle
};

} // namespace quadrille::tsp
