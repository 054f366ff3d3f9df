#include "target/tsp/Dispatch.h"

namespace quadrille::tsp {

namespace {
// Memory opcodes last, all others in the order of their numbers.
uint8_t phaseOf(const Instruction &instruction) {
  return static_cast<uint8_t>(instruction.opcode - static_cast<uint8_t>(Opcode::LoadWeights));
}
} // namespace

InstructionBuffer::InstructionBuffer(size_t instructions, const Architecture &machine)
    : total(static_cast<int64_t>(instructions)), capacity(machine.bufferBytes / machine.instructionBytes),
      perFetch(machine.fetchBytes / machine.instructionBytes), latency(machine.fetchLatency), present(capacity),
      requested(capacity) {}

std::string InstructionBuffer::take(uint32_t next, int64_t cycle) {
  while (!arrivals.empty() && arrivals.front() <= cycle) {
    present += perFetch;
    arrivals.pop_front();
  }
  return next < present ? "" : hazard::fetchUnderrun();
}

std::string InstructionBuffer::fetch(uint32_t next, int64_t cycle) {
  if (requested >= total)
    return hazard::fetchBeyond();
  // This very instruction has left the buffer.
  if (requested + perFetch - (next + 1) > capacity)
    return hazard::fetchOverrun(capacity);
  requested += perFetch;
  arrivals.push_back(cycle + latency);
  return "";
}

Dispatcher::Dispatcher(const Queues &queues, const Architecture &machine, int64_t longest,
                       llvm::function_ref<void(uint32_t, int64_t, int64_t)> onWait)
    : queues(queues), machine(machine), longest(longest), onWait(onWait) {
  for (size_t queue = 0; queue < queues.size(); ++queue)
    cursors.emplace_back(InstructionBuffer(queues[queue].instructions.size(), machine));
}

llvm::Error Dispatcher::start() {
  for (uint32_t queue = 0; queue < queues.size(); ++queue)
    if (llvm::Error error = advance(queue))
      return error;
  return llvm::Error::success();
}

void Dispatcher::push(uint32_t queue) {
  const Burst &burst = cursors[queue].burst;
  pending.push({burst.cycles.first, phaseOf(queues[queue].instructions[burst.instruction]), queue});
}

// Takes the queue's next instruction out of its buffer.
llvm::Error Dispatcher::take(uint32_t queue, int64_t cycle) {
  Cursor &cursor = cursors[queue];
  Issue here{cycle, queue, cursor.instruction, 0};
  if (cycle > hazard::longest)
    return hazardError(here, queues, hazard::tooLong());
  if (std::string problem = cursor.buffer.take(cursor.instruction, cycle); !problem.empty())
    return hazardError(here, queues, problem);
  ++cursor.instruction;
  return llvm::Error::success();
}

// Brings the queue to its next burst, to a sync, or to its end.
llvm::Error Dispatcher::advance(uint32_t queue) {
  Cursor &cursor = cursors[queue];
  const std::vector<Instruction> &instructions = queues[queue].instructions;
  while (cursor.instruction < instructions.size()) {
    Issue here{cursor.clock, queue, cursor.instruction, 0};
    const Instruction &instruction = instructions[cursor.instruction];
    if (llvm::Error error = take(queue, cursor.clock))
      return error;
    switch (instruction.op()) {
    case Opcode::Nop:
      cursor.clock += instruction.word[0];
      break;
    case Opcode::Repeat:
      return hazardError(here, queues, hazard::nothingToRepeat());
    case Opcode::Sync:
      cursor.parked = cursor.clock;
      parked.push_back(queue);
      return llvm::Error::success();
    case Opcode::Notify:
      arrivals.push({cursor.clock + machine.barrier, queues.chipOf(queue)});
      ++cursor.clock;
      break;
    case Opcode::Fetch:
      if (std::string problem = cursor.buffer.fetch(here.instruction, here.cycle); !problem.empty())
        return hazardError(here, queues, problem);
      ++cursor.clock;
      break;
    case Opcode::Deskew: {
      int64_t aligned = (cursor.clock + machine.counterPeriod - 1) / machine.counterPeriod * machine.counterPeriod;
      if (aligned > cursor.clock)
        onWait(queue, cursor.clock, aligned);
      cursor.clock = aligned;
      break;
    }
    default:
      cursor.burst = {queue, here.instruction, 0, {cursor.clock, 1, 1}};
      ++cursor.clock;
      if (cursor.instruction < instructions.size() && instructions[cursor.instruction].op() == Opcode::Repeat) {
        const Instruction &repeat = instructions[cursor.instruction];
        if (llvm::Error error = take(queue, cursor.clock))
          return error;
        cursor.burst.cycles = {cursor.burst.cycles.first, repeat.word[1], int64_t(repeat.word[0]) + 1};
        cursor.clock = cursor.burst.cycles.last() + 1;
      }
      push(queue);
      return llvm::Error::success();
    }
  }
  return llvm::Error::success();
}

llvm::Expected<std::optional<Burst>> Dispatcher::next() {
  // Every cursor stands at its next burst, so a notify that has not been met yet is dispatched after the earliest of
  // them: arrivals up to that cycle are complete.
  while (!arrivals.empty() && (pending.empty() || arrivals.top().cycle <= pending.top().cycle)) {
    Arrival arrival = arrivals.top();
    arrivals.pop();
    std::vector<uint32_t> released, waiting;
    for (uint32_t queue : parked)
      (cursors[queue].parked < arrival.cycle && queues.chipOf(queue) == arrival.chip ? released : waiting)
          .push_back(queue);
    parked = std::move(waiting);
    for (uint32_t queue : released) {
      Cursor &cursor = cursors[queue];
      onWait(queue, cursor.parked, arrival.cycle);
      cursor.parked = -1;
      cursor.clock = arrival.cycle;
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
  Cursor &cursor = cursors[queue];
  Burst burst = cursor.burst;
  if (burst.cycles.count > longest) {
    burst.cycles.count = longest;
    cursor.burst.first += longest;
    cursor.burst.cycles = cursor.burst.cycles.part(longest, cursor.burst.cycles.count - longest);
    push(queue);
  } else if (llvm::Error error = advance(queue)) {
    return error;
  }
  return burst;
}

} // namespace quadrille::tsp
