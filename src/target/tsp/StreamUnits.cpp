#include "target/tsp/StreamUnits.h"

#include "target/tsp/Observer.h"
#include "target/tsp/SwitchUnit.h"
#include "target/tsp/VectorUnit.h"

#include <cstring>

namespace quadrille::tsp {

// The first index in `a` of a value closer than `distance` to one of `b`.
static std::optional<int64_t> firstCloser(const Progression &a, const Progression &b, int64_t distance) {
  for (int64_t k = 0; k < a.count && a.at(k) < b.last() + distance; ++k) {
    // The value of b next to a's, on either side.
    int64_t near = std::clamp<int64_t>((a.at(k) - b.first) / b.interval, 0, b.count - 1);
    for (int64_t i : {near, std::min(near + 1, b.count - 1)})
      if (std::abs(a.at(k) - b.at(i)) < distance)
        return k;
  }
  return std::nullopt;
}

llvm::Error StreamUnits::occupy(const Work &work) {
  const Architecture &machine = context.machine;
  Opcode opcode = work.instruction->op();
  bool sends = opcode == Opcode::Send;
  constexpr uint8_t sending = 16, receiving = 17; // beyond every SwitchPart
  auto part = switchPart(opcode);
  Part key{work.chip, work.queue->hemisphere,
           part    ? static_cast<uint8_t>(*part)
           : sends ? sending
                   : receiving,
           work.instruction->small[0]};
  int64_t number = work.instruction->small[0];
  auto message = [&](const Burst &other, int64_t k) {
    std::string by = print(other.issue(k), context.queues);
    return sends ? hazard::linkBusy(number, machine.linkInterval, by)
                 : hazard::partBusy(part ? nameOf(*part) : llvm::StringRef("link"), number, by);
  };
  const Progression &cycles = work.burst.cycles;
  if (sends && cycles.count > 1 && cycles.interval < machine.linkInterval)
    return context.hazard(work, 1, message(work.burst, 0));
  for (const Burst &other : occupied[key]) {
    int64_t distance = sends ? machine.linkInterval : 1;
    if (auto k = firstCloser(cycles, other.cycles, distance)) {
      int64_t at = 0;
      while (std::abs(other.cycles.at(at) - cycles.at(*k)) >= distance)
        ++at;
      return context.hazard(work, *k, message(other, at));
    }
  }
  occupied[key].push_back(work.burst);
  return llvm::Error::success();
}

llvm::Error StreamUnits::add(std::shared_ptr<Work> work) {
  if (work->queue->unit == UnitKind::Switch)
    if (llvm::Error error = occupy(*work))
      return error;
  uint32_t queue = work->burst.queue;
  if (queues[queue].empty())
    active.push_back(queue);
  queues[queue].add(std::move(work));
  return llvm::Error::success();
}

void StreamUnits::drop(int64_t cycle) {
  for (auto &[part, bursts] : occupied)
    llvm::erase_if(bursts,
                   [&](const Burst &burst) { return burst.cycles.last() + context.machine.linkInterval < cycle; });
}

llvm::Expected<bool> StreamUnits::step() {
  bool progress = false;
  for (uint32_t queue : active) {
    auto stepped = step(queues[queue]);
    if (!stepped)
      return stepped.takeError();
    progress |= *stepped;
  }
  llvm::erase_if(active, [&](uint32_t queue) { return queues[queue].empty(); });
  return progress;
}

llvm::Expected<bool> StreamUnits::step(WorkList &list) {
  bool progress = false;
  llvm::SmallVector<Channels::Found, 16> found;
  while (Work *work = list.next()) {
    int64_t count = context.before(*work, std::numeric_limits<int64_t>::max());
    if (count == 0)
      break;
    if (llvm::Error error = context.channels.find(context, *work, count, found))
      return std::move(error);
    if (count == 0)
      break;
    if (llvm::Error error = execute(*work, count, found))
      return std::move(error);
    context.observer.executed(*work, work->done, count, found);
    work->done += count;
    list.dropEnded();
    progress = true;
  }
  return progress;
}

llvm::Error StreamUnits::execute(Work &work, int64_t count, llvm::ArrayRef<Channels::Found> found) {
  const Architecture &machine = context.machine;
  const Instruction &instruction = *work.instruction;
  if (instruction.op() == Opcode::Receive)
    found[0].driver->taken += count;
  if (!context.values)
    return llvm::Error::success();
  context.allocateResults(work);
  int64_t bytes = machine.vectorBytes(), parts = work.effects.parts;
  llvm::SmallVector<Vectors, 16> operands;
  for (const Channels::Found &each : found)
    operands.push_back(context.channels.vectors(context, each));

  if (work.queue->unit == UnitKind::Vector) {
    auto function = AluFunction::of(instruction);
    if (!function)
      return function.takeError();
    // Operands that lie behind each other are one array.
    bool dense = llvm::all_of(operands, [&](const Vectors &each) { return each.stride == bytes; });
    int64_t together = dense ? count : 1;
    for (int64_t k = 0; k < count; k += together) {
      llvm::SmallVector<const std::byte *, 8> inputs;
      llvm::SmallVector<std::byte *, 4> results;
      for (const Vectors &each : operands)
        inputs.push_back(each.at(k));
      for (int64_t part = 0; part < parts; ++part)
        results.push_back(context.result(work, part, work.done + k));
      auto a = llvm::ArrayRef(inputs).take_front(operandBytes(instruction, 0));
      (*function)->evaluate(a, llvm::ArrayRef(inputs).drop_front(a.size()), results, together * bytes);
    }
    return llvm::Error::success();
  }
  bool moves = instruction.op() == Opcode::Send || instruction.op() == Opcode::Receive;
  for (int64_t k = 0; k < count; ++k) {
    llvm::SmallVector<const std::byte *, 16> inputs;
    llvm::SmallVector<std::byte *, 16> results;
    for (const Vectors &each : operands)
      inputs.push_back(each.at(k));
    for (int64_t part = 0; part < parts; ++part)
      results.push_back(context.result(work, part, work.done + k));
    if (moves)
      std::memcpy(results[0], inputs[0], bytes);
    else if (std::string problem = switchVector(instruction, inputs, results, machine); !problem.empty())
      return context.hazard(work, work.done + k, problem);
  }
  return llvm::Error::success();
}

} // namespace quadrille::tsp
