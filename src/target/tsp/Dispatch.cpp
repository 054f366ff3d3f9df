#include "target/tsp/Dispatch.h"

#include "llvm/ADT/STLExtras.h"

#include <tuple>

namespace quadrille::tsp {

namespace {
// Memory opcodes last, all others in the order of their numbers.
uint8_t phaseOf(const Instruction &instruction) {
  return static_cast<uint8_t>(instruction.opcode - static_cast<uint8_t>(Opcode::LoadWeights) + 1);
}
constexpr uint8_t failurePhase = 0; // before them
} // namespace

bool precedes(const Issue &a, const Issue &b, const Queues &queues) {
  auto rank = [&](const Issue &issue) {
    return std::tuple(issue.cycle, phaseOf(queues[issue.queue].instructions[issue.instruction]), issue.queue);
  };
  return rank(a) < rank(b);
}

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
  for (uint32_t queue = 0; queue < queues.size(); ++queue)
    advance(queue);
}

void Dispatcher::push(uint32_t queue) {
  const Burst &burst = cursors[queue].burst;
  pending.push({burst.cycles.first, phaseOf(queues[queue].instructions[burst.instruction]), queue});
}

// Takes the queue's next instruction out of its buffer; empty, or why it cannot.
std::string Dispatcher::take(uint32_t queue) {
  Cursor &cursor = cursors[queue];
  if (cursor.clock > hazard::longest)
    return hazard::tooLong();
  std::string problem = cursor.buffer.take(cursor.instruction, cursor.clock);
  if (problem.empty())
    ++cursor.instruction;
  return problem;
}

// Brings the queue to its next burst, to a failure, to a sync, or to its end.
void Dispatcher::advance(uint32_t queue) {
  Cursor &cursor = cursors[queue];
  const std::vector<Instruction> &instructions = queues[queue].instructions;
  while (cursor.instruction < instructions.size()) {
    uint32_t here = cursor.instruction;
    const Instruction &instruction = instructions[here];
    std::string problem = take(queue);
    if (problem.empty() && instruction.op() == Opcode::Repeat)
      problem = hazard::nothingToRepeat();
    if (problem.empty() && instruction.op() == Opcode::Fetch)
      problem = cursor.buffer.fetch(here, cursor.clock);
    if (!problem.empty()) {
      cursor.instruction = here;
      cursor.failure = problem;
      pending.push({cursor.clock, failurePhase, queue});
      return;
    }
    switch (instruction.op()) {
    case Opcode::Nop:
      cursor.clock += instruction.word[0];
      break;
    case Opcode::Sync:
      cursor.parked = cursor.clock;
      parked.push_back(queue);
      return;
    case Opcode::Notify:
      arrivals.push({cursor.clock + machine.barrier, queues.chipOf(queue)});
      ++cursor.clock;
      break;
    case Opcode::Fetch:
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
      cursor.burst = {queue, here, 0, {cursor.clock, 1, 1}};
      ++cursor.clock;
      // A Repeat that cannot be taken fails after the first issue.
      if (cursor.instruction < instructions.size() && instructions[cursor.instruction].op() == Opcode::Repeat)
        if (const Instruction &repeat = instructions[cursor.instruction]; take(queue).empty()) {
          cursor.burst.cycles = {cursor.burst.cycles.first, repeat.word[1], int64_t(repeat.word[0]) + 1};
          cursor.clock = cursor.burst.cycles.last() + 1;
        }
      push(queue);
      return;
    }
  }
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
      advance(queue);
    }
  }
  if (pending.empty()) {
    if (parked.empty())
      return std::nullopt;
    uint32_t queue = *llvm::min_element(parked);
    return hazardError({cursors[queue].parked, queue, cursors[queue].instruction - 1, 0}, queues,
                       hazard::neverReleased());
  }
  uint32_t queue = pending.top().queue;
  pending.pop();
  Cursor &cursor = cursors[queue];
  if (!cursor.failure.empty())
    return hazardError({cursor.clock, queue, cursor.instruction, 0}, queues, cursor.failure);
  Burst burst = cursor.burst;
  if (burst.cycles.count > longest) {
    burst.cycles.count = longest;
    cursor.burst.first += longest;
    cursor.burst.cycles = cursor.burst.cycles.part(longest, cursor.burst.cycles.count - longest);
    push(queue);
  } else {
    advance(queue);
  }
  return burst;
}

} // namespace quadrille::tsp
