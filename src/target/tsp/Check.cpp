#include "target/tsp/Check.h"

#include "target/tsp/MatrixCheck.h"
#include "target/tsp/MemoryCheck.h"
#include "target/tsp/SwitchUnit.h"
#include "target/tsp/WellFormed.h"

#include "llvm/ADT/STLExtras.h"

#include <map>

namespace quadrille::tsp {

namespace {

// The parts of switch units and the ends of links: each takes an instruction a cycle, and a link a vector now and then.
class PartCheck {
public:
  PartCheck(const Architecture &machine, const Queues &queues, Findings &findings)
      : machine(machine), queues(queues), findings(findings) {}

  void add(const IssueRun &run) {
    const QueueName &name = queues[run.queue].name;
    const Instruction &instruction = instructionOf(run);
    auto part = switchPart(instruction.op());
    int kind = part ? static_cast<int>(*part) : instruction.op() == Opcode::Send ? sendingKind : receivingKind;
    parts[{queues.chipOf(run.queue), name.hemisphere, kind, instruction.small[0]}].push_back(run);
  }

  void resolve() {
    for (auto &[part, runs] : parts) {
      llvm::sort(runs, [](const IssueRun &a, const IssueRun &b) { return a.cycles.first < b.cycles.first; });
      int64_t least = std::get<2>(part) == sendingKind ? machine.linkInterval : 1;
      for (size_t begin = 0, end = 0; begin < runs.size(); begin = end) {
        int64_t last = runs[begin].cycles.last();
        for (end = begin + 1; end < runs.size() && runs[end].cycles.first < last + least; ++end)
          last = std::max(last, runs[end].cycles.last());
        if (end - begin > 1 || (runs[begin].count() > 1 && runs[begin].cycles.interval < least))
          follow(std::vector(&runs[begin], &runs[begin] + (end - begin)), least);
      }
    }
  }

private:
  static constexpr int sendingKind = 100, receivingKind = 101; // beyond every SwitchPart

  const Instruction &instructionOf(const IssueRun &run) const {
    return queues[run.queue].instructions[run.instruction];
  }

  // Runs that interleave. All capture equally long after their dispatch.
  void follow(std::vector<IssueRun> runs, int64_t least) {
    std::optional<Issue> before;
    forEachInOrder(std::move(runs), queues, [&](const IssueRun &part) {
      if (before && part.cycles.first - before->cycle < least)
        find(part, 0, *before);
      if (part.cycles.interval < least)
        for (int64_t k = 1; k < part.count(); ++k)
          if (!find(part, k, part.issue(k - 1)))
            break;
      before = part.issue(part.count() - 1);
      return findings.spend(Findings::Part);
    });
  }
  bool find(const IssueRun &run, int64_t k, const Issue &before) {
    return findings.add(run.issue(k), [&] {
      const Instruction &instruction = instructionOf(run);
      std::string other = print(before, queues);
      if (instruction.op() == Opcode::Send)
        return hazard::linkBusy(instruction.small[0], machine.linkInterval, other);
      auto part = switchPart(instruction.op());
      return hazard::partBusy(part ? nameOf(*part) : llvm::StringRef("link"), instruction.small[0], other);
    });
  }

  const Architecture &machine;
  const Queues &queues;
  Findings &findings;
  std::map<std::tuple<int64_t, uint8_t, int, uint8_t>, std::vector<IssueRun>>
      parts; // by chip, hemisphere, kind, number
};

std::vector<target::Finding> checkEntry(const program::Program &program, const Code &code, const Architecture &machine,
                                        size_t entry) {
  const program::EntryPoint &entryPoint = program.entryPoints[entry];
  Queues queues(code.entries[entry]);
  Findings findings(queues);
  IssueRuns issued = issueRuns(queues, machine);
  for (const IssueRuns::Problem &problem : issued.problems)
    findings.addOfQueue(problem.issue, problem.message);
  for (const Issue &sync : issued.notReleased)
    findings.addNotReleased(sync, hazard::neverReleased());

  ChannelCheck channels(machine, queues, issued.runs, findings);
  MemoryCheck memory(program, code, machine, queues, issued.runs, findings);
  MatrixCheck matrix(machine, queues, findings);
  PartCheck parts(machine, queues, findings);
  memory.placeVariables(entryPoint);
  for (auto [index, run] : llvm::enumerate(issued.runs)) {
    const Queue &queue = queues[run.queue];
    auto number = static_cast<uint32_t>(index);
    if (queue.name.unit == UnitKind::Memory) {
      run.cycles.count = memory.addressable(run);
      if (run.count() == 0)
        continue;
    }
    Effects effects = effectsOf(queues.chipOf(run.queue), queue.name, queue.instructions[run.instruction], machine);
    if (queue.name.unit == UnitKind::Memory)
      memory.add(number, effects);
    else if (queue.name.unit == UnitKind::Matrix)
      matrix.add(run);
    else if (queue.name.unit == UnitKind::Switch)
      parts.add(run);
    channels.add(number, effects);
  }
  channels.resolve();
  memory.resolve(channels);
  parts.resolve();
  matrix.resolve();
  memory.checkOutputs(entryPoint);
  return findings.take(entryPoint.name);
}

} // namespace

target::Verdict check(const program::Program &program, const Code &code, const Architecture &machine) {
  target::Verdict verdict;
  verdict.findings = wellFormed(program, code, machine);
  if (!verdict.legal())
    return verdict;
  for (size_t entry = 0; entry < program.entryPoints.size(); ++entry)
    llvm::append_range(verdict.findings, checkEntry(program, code, machine, entry));
  return verdict;
}

} // namespace quadrille::tsp
