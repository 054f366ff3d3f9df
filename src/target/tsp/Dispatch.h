// Executes what belongs to the queues themselves (Control.def): when is each instruction issued to its unit?
#pragma once

#include "target/tsp/Hazard.h"

#include "llvm/ADT/STLFunctionalExtras.h"

#include <optional>
#include <queue>

namespace quadrille::tsp {

class Dispatcher {
public:
  // `onWait` is told of the time that a queue spends parked: [begin, end).
  Dispatcher(llvm::ArrayRef<Queue> queues, const Architecture &machine,
             llvm::function_ref<void(uint32_t queue, int64_t begin, int64_t end)> onWait);

  // Must be called once before the first `next`.
  llvm::Error start();

  // The next issue in order of cycle, then of opcode (weights before their install, installs before activations,
  // activations before sums, matrix before memory, so that whatever takes effect in a cycle precedes its use), then of
  // queue; nothing when all queues have ended.
  llvm::Expected<std::optional<Issue>> next();

private:
  struct Cursor {
    uint32_t instruction = 0; // the next one
    int64_t clock = 0;        // cycle of its dispatch
    bool repeatable = false;  // the instruction before it was issued
    Issue issue;              // the pending or last issue
    int64_t remaining = 0, interval = 0;
    int64_t parked = -1; // cycle of the sync, or -1
  };
  struct Entry {
    int64_t cycle;
    uint8_t phase;
    uint32_t queue;
    auto operator<=>(const Entry &) const = default;
  };

  llvm::Error advance(uint32_t queue);
  void push(uint32_t queue);

  llvm::ArrayRef<Queue> queues;
  const Architecture &machine;
  llvm::function_ref<void(uint32_t, int64_t, int64_t)> onWait;
  std::vector<Cursor> cursors;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> pending;
  std::priority_queue<int64_t, std::vector<int64_t>, std::greater<>> arrivals;
  std::vector<uint32_t> parked;
};

} // namespace quadrille::tsp
