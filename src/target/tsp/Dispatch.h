// Executes what belongs to the queues themselves (Control.def): when is each instruction issued to its unit?
#pragma once

#include "target/tsp/Hazard.h"
#include "target/tsp/Progression.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <deque>
#include <optional>
#include <queue>

namespace quadrille::tsp {

// An instruction with its Repeat: issues of one queue at equal distances. `first` counts the issues of the same
// instruction before these.
struct Burst {
  uint32_t queue = 0, instruction = 0;
  int64_t first = 0;
  Progression cycles;

  Issue issue(int64_t k) const { return {cycles.at(k), queue, instruction, first + k}; }
};

// The instruction buffer of one queue.
class InstructionBuffer {
public:
  InstructionBuffer(size_t instructions, const Architecture &machine);

  // Empty when instruction number `next` is in the buffer in `cycle`, else the hazard.
  std::string take(uint32_t next, int64_t cycle);
  // The same for a Fetch that is dispatched as number `next`.
  std::string fetch(uint32_t next, int64_t cycle);

private:
  int64_t total, capacity, perFetch, latency;
  int64_t present, requested; // instructions from the queue's start that have been, or will be, in the buffer
  std::deque<int64_t> arrivals;
};

// Whether `a` comes before `b` in the order of Dispatcher::next.
bool precedes(const Issue &a, const Issue &b, const Queues &queues);

class Dispatcher {
public:
  // `onWait` is told of the time that a queue spends waiting: [begin, end). With `longest` = 1 every issue comes alone.
  Dispatcher(const Queues &queues, const Architecture &machine, int64_t longest,
             llvm::function_ref<void(uint32_t queue, int64_t begin, int64_t end)> onWait);

  // The next burst in order of its first cycle, then of opcode (weights before their install, installs before
  // activations, activations before sums, memory last, so that whatever takes effect in a cycle precedes its use), then
  // of queue; nothing when all queues have ended. What is wrong with a queue comes in its cycle too, as an error.
  llvm::Expected<std::optional<Burst>> next();

private:
  struct Cursor {
    explicit Cursor(InstructionBuffer buffer) : buffer(std::move(buffer)) {}
    uint32_t instruction = 0; // the next one
    int64_t clock = 0;        // cycle of its dispatch
    Burst burst;              // the pending one
    int64_t parked = -1;      // cycle of the sync, or -1
    std::string failure;      // pending instead of a burst: why `instruction` cannot be dispatched
    InstructionBuffer buffer;
  };
  struct Entry {
    int64_t cycle;
    uint8_t phase;
    uint32_t queue;
    auto operator<=>(const Entry &) const = default;
  };
  struct Arrival {
    int64_t cycle, chip;
    auto operator<=>(const Arrival &) const = default;
  };

  void advance(uint32_t queue);
  std::string take(uint32_t queue);
  void push(uint32_t queue);

  const Queues &queues;
  const Architecture &machine;
  int64_t longest;
  llvm::function_ref<void(uint32_t, int64_t, int64_t)> onWait;
  std::vector<Cursor> cursors;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> pending;
  std::priority_queue<Arrival, std::vector<Arrival>, std::greater<>> arrivals;
  std::vector<uint32_t> parked;
};

} // namespace quadrille::tsp
