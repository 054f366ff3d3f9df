#include "target/tsp/MemoryCheck.h"

#include "target/tsp/WellFormed.h"

namespace quadrille::tsp {

void MemoryCheck::placeVariables(const program::EntryPoint &entryPoint) {
  for (const Layout &layout : code.layouts) {
    const program::Variable &variable = program.variables[layout.variable];
    bool input = llvm::is_contained(entryPoint.inputs, layout.variable);
    if (variable.role == program::VariableRole::Output || (variable.role == program::VariableRole::Input && !input))
      continue;
    bool reported = false;
    forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &) {
      int64_t &since = wordsOf(sliceIndex(layout.chip, word.slice), word.bank)[word.address];
      if (since == beforeStart && !std::exchange(reported, true))
        findings.addBeforeTheStart({"layout of '" + variable.name + "'", overlapMessage(variable.name, word)});
      since = beforeStart;
    });
  }
}

int64_t MemoryCheck::addressable(const IssueRun &run) {
  const Instruction &instruction = instructionOf(run);
  bool region = instruction.op() == Opcode::Gather || instruction.op() == Opcode::Scatter;
  int64_t step = region ? 0 : instruction.word[1], first = instruction.word[0];
  int64_t last = region ? first + instruction.word[2] - 1 : first;
  // The first address exists, as it is an operand.
  int64_t room = last >= machine.words ? 0
                 : step > 0            ? (machine.words - 1 - first) / step + 1
                 : step < 0            ? first / -step + 1
                                       : run.count();
  int64_t count = std::min(run.count(), room);
  for (int64_t k = count; k < run.count(); ++k)
    if (!findings.add(run.issue(k), [&] {
          return hazard::outOfRange("address", region ? last : stepped(instruction, k), machine.words - 1);
        }))
      break;
  return count;
}

void MemoryCheck::add(uint32_t run, const Effects &effects) {
  const Instruction &instruction = instructionOf(runs[run]);
  bool reads = instruction.op() == Opcode::Read || instruction.op() == Opcode::Gather;
  int64_t delay = instruction.op() == Opcode::Read     ? machine.skew
                  : instruction.op() == Opcode::Gather ? effects.completion - machine.memoryRead
                                                       : effects.completion - 1;
  slices[sliceOf(run)].push_back({runs[run].cycles.shifted(delay), run, instruction.small[0], reads});
  accesses.push_back({run, effects.completion});
}

void MemoryCheck::resolve(const ChannelCheck &channels) {
  auto isA = [&](const Words &words, Opcode a, Opcode b) {
    return instructionOf(runs[words.run]).op() == a || instructionOf(runs[words.run]).op() == b;
  };
  for (const Words &words : accesses)
    if (isA(words, Opcode::Write, Opcode::Scatter))
      write(words, channels);
  for (const Words &words : accesses)
    if (isA(words, Opcode::Gather, Opcode::Scatter))
      readRegion(words, channels);
    else if (isA(words, Opcode::Read, Opcode::Read))
      read(words);
  for (std::vector<Port> &ports : slices)
    checkPorts(ports);
}

void MemoryCheck::write(const Words &words, const ChannelCheck &channels) {
  const IssueRun &run = runs[words.run];
  const Instruction &instruction = instructionOf(run);
  std::vector<int64_t> &since = wordsOf(sliceOf(words.run), instruction.small[0]);
  int64_t address = instruction.word[0];
  if (instruction.op() == Opcode::Scatter) {
    // The first issue that has its operands.
    int64_t k = 0;
    for (IndexRange range : channels.withoutOperands(words.run))
      if (range.first <= k)
        k = std::max(k, range.last + 1);
    if (k < run.count())
      for (int64_t row = address; row < address + instruction.word[2]; ++row)
        since[row] = std::min(since[row], run.cycles.at(k) + words.completion);
    return;
  }
  int64_t step = instruction.word[1], cycle = run.cycles.first + words.completion;
  for (int64_t k = 0; k < (step == 0 ? 1 : run.count()); ++k, address += step, cycle += run.cycles.interval)
    since[address] = std::min(since[address], cycle);
}

void MemoryCheck::read(const Words &words) {
  const IssueRun &run = runs[words.run];
  const Instruction &instruction = instructionOf(run);
  const std::vector<int64_t> &since = wordsOf(sliceOf(words.run), instruction.small[0]);
  int64_t address = instruction.word[0], step = instruction.word[1], cycle = run.cycles.first + machine.skew;
  bool late = false;
  for (int64_t k = 0; k < (step == 0 ? 1 : run.count()); ++k, address += step, cycle += run.cycles.interval)
    late |= since[address] > cycle;
  if (!late)
    return;
  for (int64_t k = 0; k < run.count(); ++k) {
    address = stepped(instruction, k);
    if (since[address] > run.cycles.at(k) + machine.skew) {
      if (!findings.add(run.issue(k), Findings::Stage::Contents, 0, 0,
                        [&] { return hazard::neverWritten(instruction.small[0], address); }))
        return;
    } else if (step == 0) {
      return;
    }
  }
}

// All words that a gather or scatter may touch have been written.
void MemoryCheck::readRegion(const Words &words, const ChannelCheck &channels) {
  const IssueRun &run = runs[words.run];
  const Instruction &instruction = instructionOf(run);
  const std::vector<int64_t> &since = wordsOf(sliceOf(words.run), instruction.small[0]);
  int64_t begin = instruction.word[0], end = begin + instruction.word[2];
  int64_t all = *std::max_element(since.begin() + begin, since.begin() + end);
  llvm::ArrayRef<IndexRange> without = channels.withoutOperands(words.run);
  for (int64_t k = 0; k < run.count() && run.cycles.at(k) + machine.skew < all; ++k) {
    while (!without.empty() && without.front().last < k)
      without = without.drop_front();
    if (!without.empty() && without.front().first <= k) {
      k = without.front().last;
      continue;
    }
    for (int64_t row = begin; row < end; ++row)
      if (since[row] > run.cycles.at(k) + machine.skew)
        if (!findings.add(run.issue(k), Findings::Stage::Contents, 0, static_cast<uint64_t>(row),
                          [&] { return hazard::neverWritten(instruction.small[0], row); }))
          return;
  }
}

void MemoryCheck::checkPorts(std::vector<Port> &ports) {
  sortBySpan(ports);
  Meeting<Port> serving(ports);
  Holders<Port> holders(ports);
  for (auto [index, port] : llvm::enumerate(ports)) {
    auto meeting = serving.with(port.span).take_while([&, index = index](uint32_t other) { return other < index; });
    if (!findings.spend(Findings::Comparison, 1 + meeting.size()))
      return;
    int64_t most = port.reads ? machine.readsPerCycle : machine.writesPerCycle;
    int64_t alike =
        llvm::count_if(meeting, [&, reads = port.reads](uint32_t other) { return ports[other].reads == reads; });
    for (uint32_t other : meeting)
      if (ports[other].bank == port.bank || (ports[other].reads == port.reads && alike >= most))
        checkPair(holders, port, ports[other]);
  }
}

// In the cycles in which both access the slice. Whichever is dispatched first is so in all of them.
void MemoryCheck::checkPair(Holders<Port> &holders, const Port &a, const Port &b) {
  auto common = commonIndices(a.span, b.span);
  if (!common)
    return;
  auto momentOfPort = [&](const Port &port) {
    return momentOf(runs[port.run].issue(*port.span.indexOf(a.span.at(common->first))), queues);
  };
  bool aFirst = momentOfPort(a) < momentOfPort(b);
  const Port &later = aFirst ? b : a;
  common = commonIndices(later.span, aFirst ? a.span : b.span);
  for (int64_t i = 0; i < common->count; ++i)
    if (!checkAccess(holders, later, common->at(i)))
      return;
}

// Issue k against all that access the slice in its cycle; false when later ones need not be looked at.
bool MemoryCheck::checkAccess(Holders<Port> &holders, const Port &port, int64_t k) {
  struct Access {
    Moment moment;
    Issue issue;
    const Port *port;
  };
  std::vector<Access> before;
  Issue issue = runs[port.run].issue(k);
  Moment moment = momentOf(issue, queues);
  int64_t cycle = port.span.at(k);
  holders.forEachAt(cycle, [&](const Port &other) {
    Issue by = runs[other.run].issue(*other.span.indexOf(cycle));
    if (momentOf(by, queues) < moment)
      before.push_back({momentOf(by, queues), by, &other});
  });
  if (!findings.spend(Findings::Conflict, 1 + before.size()))
    return false;
  llvm::sort(before, [](const Access &a, const Access &b) { return a.moment < b.moment; });
  int64_t served = 1, most = port.reads ? machine.readsPerCycle : machine.writesPerCycle;
  for (size_t i = 0; i < before.size(); ++i) {
    uint8_t bank = before[i].port->bank;
    if (bank == port.bank)
      return findings.add(issue, Findings::Stage::Port, 0, 0,
                          [&] { return hazard::bankBusy(bank, print(before[i].issue, queues)); });
    // An access that finds its bank busy is not served.
    bool busy = llvm::any_of(llvm::ArrayRef(before).take_front(i),
                             [&](const Access &other) { return other.port->bank == bank; });
    served += !busy && before[i].port->reads == port.reads;
  }
  return served <= most ||
         findings.add(issue, Findings::Stage::Port, 0, 0, [&] { return hazard::tooManyAccesses(port.reads, most); });
}

void MemoryCheck::checkOutputs(const program::EntryPoint &entryPoint) {
  for (uint32_t index : entryPoint.outputs)
    for (const Layout &layout : code.layouts) {
      if (layout.variable != index)
        continue;
      const program::Variable &variable = program.variables[index];
      bool reported = false;
      forEachWord(layout, variable, machine, [&](const WordAddress &word, const WordContents &held) {
        if (!held.empty && wordsOf(sliceIndex(layout.chip, word.slice), word.bank)[word.address] == never &&
            !std::exchange(reported, true))
          findings.addOfOutputs(
              {"layout of '" + variable.name + "'", hazard::outputNeverWritten(variable.name, print(word))});
      });
    }
}

} // namespace quadrille::tsp
