#include "target/tsp/Dispatch.h"

namespace quadrille::tsp {

namespace {
// Matrix opcodes first, in the order of their numbers.
uint8_t phaseOf(const Instruction &instruction) {
  return static_cast<uint8_t>(instruction.opcode - static_cast<uint8_t>(Opcode::LoadWeights));
}
} // namespace

Dispatcher::Dispatcher(llvm::ArrayRef<Queue> queues, const Architecture &machine,
                       llvm::function_ref<void(uint32_t, int64_t, int64_t)> onWait)
    : queues(queues), machine(machine), onWait(onWait), cursors(queues.size()) {}

llvm::Error Dispatcher::start() {
  for (uint32_t queue = 0; queue < queues.size(); ++queue)
    if (llvm::Error error = advance(queue))
      return error;
  return llvm::Error::success();
}

void Dispatcher::push(uint32_t queue) {
  const Issue &issue = cursors[queue].issue;
  pending.push({issue.cycle, phaseOf(queues[queue].instructions[issue.instruction]), queue});
}

// Brings the queue to its next issue, to a sync, or to its end.
llvm::Error Dispatcher::advance(uint32_t queue) {
  Cursor &cursor = cursors[queue];
  const std::vector<Instruction> &instructions = queues[queue].instructions;
  while (true) {
    if (cursor.clock > hazard::longest)
      return hazardError({cursor.clock, queue, cursor.instruction, 0}, queues, hazard::tooLong());
    if (cursor.remaining > 0) {
      --cursor.remaining;
      ++cursor.issue.iteration;
      cursor.issue.cycle += cursor.interval;
      cursor.clock = cursor.issue.cycle + 1;
      push(queue);
      return llvm::Error::success();
    }
    if (cursor.instruction == instructions.size())
      return llvm::Error::success();
    const Instruction &instruction = instructions[cursor.instruction];
    Issue here{cursor.clock, queue, cursor.instruction, 0};
    bool repeatable = cursor.repeatable;
    cursor.repeatable = false;
    ++cursor.instruction;
    switch (instruction.op()) {
    case Opcode::Nop:
      cursor.clock += instruction.word[0];
      break;
    case Opcode::Repeat:
      if (!repeatable)
        return hazardError(here, queues, hazard::nothingToRepeat());
      cursor.remaining = instruction.word[0];
      cursor.interval = instruction.word[1];
      break;
    case Opcode::Sync:
      cursor.parked = cursor.clock;
      parked.push_back(queue);
      return llvm::Error::success();
    case Opcode::Notify:
      arrivals.push(cursor.clock + machine.barrier);
      ++cursor.clock;
      break;
    default:
      cursor.issue = here;
      cursor.repeatable = true;
      ++cursor.clock;
      push(queue);
      return llvm::Error::success();
    }
  }
}

llvm::Expected<std::optional<Issue>> Dispatcher::next() {
  // Every cursor stands at its next issue, so a notify that has not been met yet is dispatched after the earliest of
  // them: arrivals up to that cycle are complete.
  while (!arrivals.empty() && (pending.empty() || arrivals.top() <= pending.top().cycle)) {
    int64_t arrival = arrivals.top();
    arrivals.pop();
    std::vector<uint32_t> released, waiting;
    for (uint32_t queue : parked)
      (cursors[queue].parked < arrival ? released : waiting).push_back(queue);
    parked = std::move(waiting);
    for (uint32_t queue : released) {
      Cursor &cursor = cursors[queue];
      onWait(queue, cursor.parked, arrival);
      cursor.parked = -1;
      cursor.clock = arrival;
      if (llvm::Error error = advance(queue))
        return error;
    }
  }
  if (pending.empty()) {
    for (uint32_t queue : parked)
      return hazardError({cursors[queue].parked, queue, cursors[queue].instruction - 1, 0}, queues,
                         hazard::neverReleased());
    return std::nullopt;
  }
  uint32_t queue = pending.top().queue;
  pending.pop();
  Issue issue = cursors[queue].issue;
  if (llvm::Error error = advance(queue))
    return error;
  return issue;
}

} // namespace quadrille::tsp
