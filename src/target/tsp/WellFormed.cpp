#include "target/tsp/WellFormed.h"

#include "target/Replicas.h"
#include "target/tsp/SwitchUnit.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <set>

namespace quadrille::tsp {

using llvm::Twine;

uint64_t issueCount(const Queues &queues) {
  uint64_t count = 0;
  for (size_t queue = 0; queue < queues.size(); ++queue)
    for (const Instruction &instruction : queues[queue].instructions)
      if (issues(instruction.op()))
        ++count;
      else if (instruction.op() == Opcode::Repeat)
        count += static_cast<uint64_t>(instruction.word[0]);
  return count;
}

std::string overlapMessage(llvm::StringRef variable, const WordAddress &word) {
  return ("variable '" + variable + "' overlaps another: " + print(word)).str();
}

std::vector<target::Finding> wellFormed(const program::Program &program, const Code &code,
                                        const Architecture &machine) {
  std::vector<target::Finding> findings;
  auto report = [&](const Twine &where, const Twine &message) { findings.push_back({where.str(), message.str()}); };

  auto instructionProblem = [&](const Instruction &instruction, const QueueName &queue, int64_t chip, int64_t chips) {
    std::string problem = operandProblem(instruction, queue, machine);
    if (!problem.empty() || (instruction.op() != Opcode::Send && instruction.op() != Opcode::Receive))
      return problem;
    auto end = farEnd({chip, instruction.small[0]}, machine);
    return end && end->chip < chips
               ? problem
               : "link " + std::to_string(instruction.small[0]) + " leads to no chip of the program";
  };
  if (std::string problem = program.verify(); !problem.empty()) {
    report("program", problem);
    return findings;
  }
  if (code.entries.size() != program.entryPoints.size()) {
    report("program", "there are " + Twine(program.entryPoints.size()) + " entry points and code for " +
                          Twine(code.entries.size()));
    return findings;
  }
  if (std::string problem = target::replicasProblem(program, machine.chips); !problem.empty())
    report("program", problem);
  bool faultyLayouts = false;
  std::vector<std::vector<const Layout *>> layoutsOf(program.variables.size());
  for (const auto &[index, layout] : llvm::enumerate(code.layouts)) {
    if (layout.variable >= program.variables.size()) {
      report("layout " + Twine(index), "variable " + Twine(layout.variable) + " does not exist");
      continue;
    }
    const program::Variable &variable = program.variables[layout.variable];
    if (layout.chip >= program.chips)
      report("layout " + Twine(index) + " of '" + variable.name + "'",
             "chip " + Twine(layout.chip) + " is not in 0.." + Twine(program.chips - 1));
    layoutsOf[layout.variable].push_back(&layout);
    if (!layout.ranges.empty() && variable.role == program::VariableRole::State)
      report("layout " + Twine(index) + " of '" + variable.name + "'", "states do not lie in parts");
    if (std::string problem = layoutProblem(layout, variable, machine); !problem.empty()) {
      report("layout " + Twine(index) + " of '" + variable.name + "'", problem);
      faultyLayouts = true;
    }
  }
  for (auto [variable, layouts] : llvm::zip(program.variables, layoutsOf))
    if (variable.role == program::VariableRole::Weight && !faultyLayouts)
      if (std::string problem = inputProblem(layouts, variable); !problem.empty())
        report("weight '" + variable.name + "'", problem);
  for (const auto &[entry, entryCode] : llvm::zip_equal(program.entryPoints, code.entries)) {
    auto chips = static_cast<int64_t>(entryCode.chips.size());
    if (chips != program.chips || chips > machine.chips) {
      report("entry '" + entry.name + "'", "code for " + Twine(chips) + " chips in a program for " +
                                               Twine(program.chips) + " on a machine of " + Twine(machine.chips));
      continue;
    }
    // What has no elements lies nowhere.
    auto isEmpty = [&](uint32_t variable) { return elementCount(program.variables[variable].shape) == 0; };
    for (uint32_t variable : entry.inputs)
      if (!isEmpty(variable) && layoutsOf[variable].empty())
        report("entry '" + entry.name + "'", "input '" + program.variables[variable].name + "' has no layout");
      else if (!faultyLayouts)
        if (std::string problem = inputProblem(layoutsOf[variable], program.variables[variable]); !problem.empty())
          report("entry '" + entry.name + "'", "input '" + program.variables[variable].name + "' has " + problem);
    for (uint32_t variable : entry.outputs)
      if (!isEmpty(variable) && !faultyLayouts)
        if (std::string problem = outputProblem(layoutsOf[variable], program.variables[variable]); !problem.empty())
          report("entry '" + entry.name + "'", "output '" + program.variables[variable].name + "' has " + problem);
    for (auto [chip, chipCode] : llvm::enumerate(entryCode.chips)) {
      std::set<QueueName> names;
      int64_t text = 0;
      for (const Queue &queue : chipCode.queues) {
        text += static_cast<int64_t>(queue.instructions.size()) * machine.instructionBytes;
        std::string where = (chips > 1 ? "chip " + std::to_string(chip) + ", " : "") + "queue " + print(queue.name);
        if (std::string problem = queueProblem(queue.name, machine); !problem.empty())
          report(where, problem);
        if (!names.insert(queue.name).second)
          report(where, "there are two queues of this name");
        for (const auto &[index, instruction] : llvm::enumerate(queue.instructions))
          if (std::string problem = instructionProblem(instruction, queue.name, static_cast<int64_t>(chip), chips);
              !problem.empty())
            report(where + ", instruction " + std::to_string(index), problem);
        uint64_t end = 0;
        for (const Origin &origin : queue.origins) {
          if (origin.first < end || origin.count == 0 ||
              uint64_t(origin.first) + origin.count > queue.instructions.size() ||
              origin.node >= program.nodes.size()) {
            report(where, "the ranges that name the nodes behind its instructions are damaged");
            break;
          }
          end = uint64_t(origin.first) + origin.count;
        }
      }
      if (text > machine.textBytes())
        report("entry '" + entry.name + "', chip " + Twine(chip), "its instructions take " + Twine(text) +
                                                                      " bytes, the slices reserved for them hold " +
                                                                      Twine(machine.textBytes()));
    }
  }
  return findings;
}

} // namespace quadrille::tsp
