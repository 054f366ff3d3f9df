#include "target/tsp/Causes.h"

#include "target/tsp/Occupancy.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::tsp {

static constexpr size_t noneYet = ~size_t(0);

Causes::Causes(const program::Program &program, llvm::ArrayRef<Layout> layouts, const Architecture &machine,
               const Queues &queues, const Occupancy &occupancy)
    : machine(machine), queues(queues), occupancy(occupancy), selections(program, layouts, machine),
      waits(queues.size()), planes(queues.chipCount() * machine.hemispheres * machine.planes),
      parts(queues.chipCount()), flights(queues.chipCount()), lastPart(queues.size(), noneYet),
      lastFlight(queues.size(), noneYet) {
  for (size_t i = 0; i < queues.size(); ++i)
    timings.emplace_back(queues[i].instructions.size());
  for (Plane &plane : planes)
    plane.rows.resize(machine.rows);
  if (!selections.empty())
    forgetWritten();
}

// Rows that the program writes are not known.
void Causes::forgetWritten() {
  for (size_t i = 0; i < queues.size(); ++i) {
    const Queue &queue = queues[i];
    SliceName slice{queue.name.hemisphere, queue.name.index};
    for (auto [number, instruction] : llvm::enumerate(queue.instructions)) {
      int64_t first = instruction.word[0], count = 0, step = 1;
      if (instruction.op() == Opcode::Scatter) {
        count = instruction.word[2];
      } else if (instruction.op() == Opcode::Write) {
        bool repeated = number + 1 < queue.instructions.size() && queue.instructions[number + 1].op() == Opcode::Repeat;
        count = repeated ? int64_t(queue.instructions[number + 1].word[0]) + 1 : 1;
        step = instruction.word[1];
      }
      for (int64_t k = 0; k < count; ++k)
        if (int64_t address = first + k * step; address >= 0 && address < machine.words)
          selections.forget(queues.chipOf(i), {slice, instruction.small[0], static_cast<uint32_t>(address)});
    }
  }
}

Causes::Plane &Causes::planeOf(const Work &work) {
  return planes[(work.chip * machine.hemispheres + work.queue->hemisphere) * machine.planes + work.queue->index];
}

// When the last wait of the queue before `cycle` was over; later ones may be known.
int64_t Causes::releaseOf(uint32_t queue, int64_t cycle) const {
  auto next = llvm::upper_bound(waits[queue], cycle);
  return next == waits[queue].begin() ? 0 : *std::prev(next);
}

// How many cycles before the dispatch of the first issue the words that it reads could be read.
int64_t Causes::slackOfWords(const Work &work, int64_t from) const {
  const Instruction &instruction = *work.instruction;
  int64_t first = instruction.word[0], count = instruction.op() == Opcode::Read ? 1 : instruction.word[2];
  uint8_t bank = instruction.small[0];
  auto updates = scattered.find(bankOf(work));
  int64_t there = 0;
  for (int64_t address = first; address < first + count; ++address) {
    // What is there from the start was never written.
    if (int64_t written = occupancy.writtenAt(work.chip, *work.queue, bank, address); written > 0)
      there = std::max(there, written + machine.memoryWrite);
    if (updates != scattered.end())
      there = std::max(there, updates->second[address]);
  }
  return work.cycle(from) - there;
}

// Of the first issue, which is number `from` of the burst.
Causes::Timing Causes::begin(const Work &work, int64_t from, llvm::ArrayRef<Channels::Found> operands) const {
  int64_t dispatch = work.cycle(from);
  Timing timing{dispatch, dispatch - releaseOf(work.burst.queue, dispatch)};
  for (const Channels::Found &operand : operands) {
    const Burst &driver = operand.driver->burst;
    const Timing &before = timings[driver.queue][driver.instruction];
    timing.start = std::min(timing.start, before.start);
    timing.slack = std::min(timing.slack, before.slack);
  }
  Opcode opcode = work.instruction->op();
  if (opcode == Opcode::Read || opcode == Opcode::Gather || opcode == Opcode::Scatter)
    timing.slack = std::min(timing.slack, slackOfWords(work, from));
  timing.slack = std::max<int64_t>(timing.slack, 0);
  return timing;
}

void Causes::addPart(const Work &work, int64_t from, Progression cycles, Cause cause, double peakCycles) {
  std::vector<Part> &list = parts[work.chip];
  By by{work.burst.queue, work.burst.instruction};
  size_t &last = lastPart[by.queue];
  if (last != noneYet)
    if (Part &before = list[last]; before.by == by && before.cause == cause && before.peakCycles == peakCycles &&
                                   before.cycles.interval == cycles.interval &&
                                   before.cycles.at(before.cycles.count) == cycles.first) {
      before.cycles.count += cycles.count;
      return;
    }
  last = list.size();
  list.push_back({cycles, cause, work.burst.first + from == 0, by, peakCycles});
}

void Causes::addFlight(const Work &work, int64_t from, int64_t count) {
  std::vector<Flight> &list = flights[work.chip];
  By by{work.burst.queue, work.burst.instruction};
  int64_t end = work.cycle(from + count - 1) + work.effects.completion;
  size_t &last = lastFlight[by.queue];
  if (last != noneYet && list[last].by == by) {
    list[last].end = std::max(list[last].end, end);
    return;
  }
  last = list.size();
  list.push_back({timings[by.queue][by.instruction].start, end, by});
}

void Causes::load(Plane &plane, const Work &work, int64_t from, int64_t count,
                  llvm::ArrayRef<Channels::Found> operands) {
  plane.lastLoad = work.cycle(from + count - 1);
  for (int64_t k = 0; k < count; ++k) {
    int64_t row = stepped(*work.instruction, work.burst.first + from + k);
    for (auto [i, operand] : llvm::enumerate(operands)) {
      SelectionRows::Number &number = plane.rows[row + static_cast<int64_t>(i)];
      number = 0;
      const Work &driver = *operand.driver;
      if (selections.empty() || driver.instruction->op() != Opcode::Read)
        continue;
      int64_t address = stepped(*driver.instruction, driver.burst.first + operand.first + k * operand.step);
      WordAddress word{{driver.queue->hemisphere, driver.queue->index},
                       driver.instruction->small[0],
                       static_cast<uint32_t>(address)};
      number = selections.find(driver.chip, word);
    }
  }
}

void Causes::executed(const Work &work, int64_t from, int64_t count, llvm::ArrayRef<Channels::Found> operands) {
  Timing &timing = timingOf(work.burst);
  bool first = work.burst.first + from == 0;
  if (first)
    timing = begin(work, from, operands);
  Progression cycles = work.burst.cycles.part(from, count);
  Opcode opcode = work.instruction->op();
  switch (opcode) {
  case Opcode::Read:
    return;
  case Opcode::Write:
    if (operands[0].driver->instruction->op() == Opcode::Read)
      addPart(work, from, cycles, Cause::Movement);
    return addFlight(work, from, count);
  case Opcode::Gather:
    return addPart(work, from, cycles, Cause::Movement);
  case Opcode::Scatter: {
    addPart(work, from, cycles, Cause::Movement);
    std::vector<int64_t> &words = scattered[bankOf(work)];
    words.resize(machine.words);
    int64_t address = work.instruction->word[0];
    std::fill_n(words.begin() + address, work.instruction->word[2], cycles.last() + machine.memoryScatter);
    return addFlight(work, from, count);
  }
  case Opcode::LoadWeights: {
    Plane &plane = planeOf(work);
    if (first)
      timing.slack = std::clamp<int64_t>(cycles.first - plane.nextLoad, 0, timing.slack);
    load(plane, work, from, count, operands);
    addPart(work, from, cycles, Cause::Install);
    return addFlight(work, from, count);
  }
  case Opcode::InstallWeights: {
    Plane &plane = planeOf(work);
    if (first)
      timing.slack = std::clamp<int64_t>(cycles.first - plane.lastLoad, 0, timing.slack);
    plane.nextLoad = cycles.first + 1;
    tiles[tileKey(work.burst.issue(from))] = {
        selections.of(llvm::ArrayRef(plane.rows).take_front(work.instruction->word[0])),
        cycles.first + machine.install};
    // Until the tile is in use.
    return addPart(work, from, {cycles.first, 1, std::max<int64_t>(machine.install, 1)}, Cause::Install);
  }
  default:
    bool moves = work.queue->unit == UnitKind::Switch || opcode == Opcode::Copy;
    return addPart(work, from, cycles, moves ? Cause::Movement : Cause::Vector);
  }
}

void Causes::multiplied(const Work &work, int64_t from, int64_t count, double products,
                        llvm::ArrayRef<Channels::Found> operands, const Issue &tile, const Issue *oddTile) {
  const Tile &even = tiles.at(tileKey(tile));
  int64_t ready = even.ready;
  bool moves = picksLanes(even.selection);
  if (oddTile) {
    const Tile &odd = tiles.at(tileKey(*oddTile));
    ready = std::max(ready, odd.ready);
    moves = picksLanes(even.selection, odd.selection);
  }
  if (work.burst.first + from == 0) {
    Timing &timing = timingOf(work.burst);
    timing = begin(work, from, operands);
    timing.slack = std::clamp<int64_t>(work.cycle(from) - ready, 0, timing.slack);
  }
  addPart(work, from, work.burst.cycles.part(from, count), moves ? Cause::Movement : Cause::Matrix,
          moves ? 0 : products / static_cast<double>(machine.productsPerCycle(oddTile != nullptr)));
}

void Causes::accumulated(const Work &work, int64_t from, int64_t count, const Burst &products) {
  if (work.burst.first + from == 0)
    timingOf(work.burst) = timings[products.queue][products.instruction];
  auto mode = static_cast<AccumulateMode>(work.instruction->small[0]);
  if (mode == AccumulateMode::Start || mode == AccumulateMode::Add)
    addFlight(work, from, count); // the others go on to memory or another unit
}

// Says of each cycle of a chip, in order, to what it goes.
class Causes::Painter {
public:
  Painter(Causes &causes, size_t chip, int64_t cycles,
          llvm::function_ref<void(Cause cause, std::optional<By> by, int64_t count)> give)
      : causes(causes), parts(causes.parts[chip]), flights(causes.flights[chip]), cycles(cycles), give(give) {
    llvm::sort(parts, [](const Part &a, const Part &b) {
      return std::tuple(a.cycles.first, a.by, a.cause) < std::tuple(b.cycles.first, b.by, b.cause);
    });
    llvm::sort(flights, [](const Flight &a, const Flight &b) {
      return std::tuple(a.begin, a.end, a.by) < std::tuple(b.begin, b.end, b.by);
    });
    if (!flights.empty()) // all superlanes are through when the last one ends
      llvm::max_element(flights, [](const Flight &a, const Flight &b) { return a.end < b.end; })->end +=
          causes.machine.superlanes * causes.machine.superlaneSkew;
  }

  void paint() {
    constexpr int64_t window = 1 << 16; // cycles at a time
    std::vector<uint64_t> keys(window);
    std::vector<uint32_t> active; // parts with cycles from `begin` on
    size_t next = 0;
    for (int64_t begin = 0; begin < cycles;) {
      if (active.empty() && (next == parts.size() || parts[next].cycles.first >= begin + window)) {
        begin = next == parts.size() ? cycles : parts[next].cycles.first;
        continue;
      }
      int64_t end = std::min(begin + window, cycles);
      std::fill(keys.begin(), keys.end(), nobody);
      for (; next < parts.size() && parts[next].cycles.first < end; ++next)
        active.push_back(static_cast<uint32_t>(next));
      for (uint32_t number : active) {
        const Progression &of = parts[number].cycles;
        int64_t k = begin > of.first ? (begin - of.first + of.interval - 1) / of.interval : 0;
        for (uint64_t key = keyOf(number); k < of.count && of.at(k) < end; ++k)
          keys[of.at(k) - begin] = std::min(keys[of.at(k) - begin], key);
      }
      llvm::erase_if(active, [&](uint32_t number) { return parts[number].cycles.last() < end; });
      for (int64_t cycle = begin; cycle < end;) {
        uint64_t key = keys[cycle - begin];
        int64_t until = cycle + 1;
        while (until < end && keys[until - begin] == key)
          ++until;
        if (key != nobody) {
          const Part &part = parts[static_cast<uint32_t>(key)];
          gap(cycle, &part);
          give(part.cause, part.by, until - cycle);
          done = until;
        }
        cycle = until;
      }
      begin = end;
    }
    gap(cycles, nullptr);
  }

private:
  static constexpr uint64_t nobody = ~uint64_t(0);
  // The smallest counts: cause, then the order of queues; below it the number of the part.
  uint64_t keyOf(uint32_t number) const {
    const Part &part = parts[number];
    return static_cast<uint64_t>(part.cause) << 56 | static_cast<uint64_t>(part.by.queue) << 32 | number;
  }

  // The cycles from `done` to the next work, in which there is none.
  void gap(int64_t end, const Part *work) {
    constexpr int64_t never = std::numeric_limits<int64_t>::max();
    // Between two issues of one instruction its Repeat decides.
    bool first = work && work->first && work->cycles.first == end;
    Timing timing = work ? causes.timings[work->by.queue][work->by.instruction] : Timing{never, 0};
    int64_t held = first ? end - timing.slack : never, fill = first ? timing.start - timing.slack : timing.start;
    while (done < end) {
      for (; flight < flights.size() && flights[flight].begin <= done; ++flight)
        if (!latest || flights[flight].end > latest->end)
          latest = &flights[flight];
      int64_t another = flight < flights.size() ? flights[flight].begin : never;
      Cause cause = Cause::Idle;
      std::optional<By> by = work ? std::optional(work->by) : latest ? std::optional(latest->by) : std::nullopt;
      int64_t until = std::min({end, held, fill, another});
      if (held <= done) {
        cause = Cause::Held;
        until = end;
      } else if (fill <= done) {
        cause = Cause::Fill;
        until = std::min(end, held);
      } else if (latest && latest->end > done) {
        cause = Cause::Drain;
        by = latest->by;
        until = std::min(until, latest->end);
      }
      give(cause, by, until - done);
      done = until;
    }
  }

  Causes &causes;
  std::vector<Part> &parts;
  std::vector<Flight> &flights;
  int64_t cycles;
  llvm::function_ref<void(Cause, std::optional<By>, int64_t)> give;
  int64_t done = 0;               // cycles before it are given
  size_t flight = 0;              // the first that has not begun
  const Flight *latest = nullptr; // of those that have, the one that ends last
};

timeline::Attribution
Causes::finish(int64_t cycles, llvm::function_ref<timeline::KernelId(uint32_t queue, uint32_t instruction)> kernelOf) {
  timeline::Attribution result;
  result.causes = {"matrix", "vector", "install", "movement", "held", "fill", "drain", "idle"};
  result.peakName = "MXM";
  std::map<timeline::KernelId, size_t> shares;
  auto shareOf = [&](const std::optional<By> &by) -> timeline::Attribution::Share & {
    timeline::KernelId kernel = by ? kernelOf(by->queue, by->instruction) : timeline::noKernel;
    auto [known, fresh] = shares.try_emplace(kernel, result.kernels.size());
    if (fresh)
      result.kernels.push_back({kernel, std::vector<Cycles>(causeCount), 0});
    return result.kernels[known->second];
  };
  for (size_t chip = 0; chip < parts.size(); ++chip) {
    std::vector<Cycles> &device = result.devices.emplace_back(causeCount);
    Painter(*this, chip, cycles, [&](Cause cause, std::optional<By> by, int64_t count) {
      auto index = static_cast<size_t>(cause);
      device[index] += Cycles(count);
      shareOf(by).cycles[index] += Cycles(count);
    }).paint();
    for (const Part &part : parts[chip])
      if (part.peakCycles > 0)
        shareOf(part.by).peakCycles += part.peakCycles * static_cast<double>(part.cycles.count);
  }
  return result;
}

} // namespace quadrille::tsp
