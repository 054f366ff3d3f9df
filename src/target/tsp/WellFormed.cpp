#include "target/tsp/WellFormed.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/Twine.h"

#include <set>

namespace quadrille::tsp {

using llvm::Twine;

uint64_t issueCount(llvm::ArrayRef<Queue> queues) {
  uint64_t count = 0;
  for (const Queue &queue : queues)
    for (const Instruction &instruction : queue.instructions)
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

  if (std::string problem = program.verify(); !problem.empty()) {
    report("program", problem);
    return findings;
  }
  if (code.entries.size() != program.entryPoints.size()) {
    report("program", "there are " + Twine(program.entryPoints.size()) + " entry points and code for " +
                          Twine(code.entries.size()));
    return findings;
  }
  for (const auto &[index, layout] : llvm::enumerate(code.layouts)) {
    if (layout.variable >= program.variables.size()) {
      report("layout " + Twine(index), "variable " + Twine(layout.variable) + " does not exist");
      continue;
    }
    const program::Variable &variable = program.variables[layout.variable];
    if (std::string problem = layoutProblem(layout, variable, machine); !problem.empty())
      report("layout " + Twine(index) + " of '" + variable.name + "'", problem);
  }
  for (const auto &[entry, entryCode] : llvm::zip_equal(program.entryPoints, code.entries)) {
    if (entryCode.chips.size() != 1) {
      report("entry '" + entry.name + "'",
             "code for " + Twine(entryCode.chips.size()) + " chips: chip-to-chip links are not modelled, expected 1");
      continue;
    }
    auto layouts = [&, &code = code](uint32_t variable) {
      return llvm::count_if(code.layouts, [&](const Layout &layout) { return layout.variable == variable; });
    };
    for (uint32_t variable : entry.inputs)
      if (layouts(variable) == 0)
        report("entry '" + entry.name + "'", "input '" + program.variables[variable].name + "' has no layout");
    for (uint32_t variable : entry.outputs)
      if (layouts(variable) != 1)
        report("entry '" + entry.name + "'", "output '" + program.variables[variable].name + "' has " +
                                                 Twine(layouts(variable)) + " layouts, expected 1");
    std::set<QueueName> names;
    for (const Queue &queue : entryCode.chips[0].queues) {
      std::string where = "queue " + print(queue.name);
      if (std::string problem = queueProblem(queue.name, machine); !problem.empty())
        report(where, problem);
      if (!names.insert(queue.name).second)
        report(where, "there are two queues of this name");
      for (const auto &[index, instruction] : llvm::enumerate(queue.instructions))
        if (std::string problem = operandProblem(instruction, queue.name.unit, machine); !problem.empty())
          report(where + ", instruction " + std::to_string(index), problem);
      uint64_t end = 0;
      for (const Origin &origin : queue.origins) {
        if (origin.first < end || origin.count == 0 ||
            uint64_t(origin.first) + origin.count > queue.instructions.size() || origin.node >= program.nodes.size()) {
          report(where, "the ranges that name the nodes behind its instructions are damaged");
          break;
        }
        end = uint64_t(origin.first) + origin.count;
      }
    }
  }
  return findings;
}

} // namespace quadrille::tsp
