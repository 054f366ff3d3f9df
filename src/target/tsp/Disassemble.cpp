#include "target/tsp/Assembly.h"

#include "base/Error.h"
#include "target/Text.h"
#include "target/Words.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/FormatVariadic.h"

namespace quadrille::tsp {

namespace {

// "w0-3,e5": runs of consecutive slices.
std::string sliceList(llvm::ArrayRef<SliceName> slices) {
  std::string text;
  for (size_t i = 0; i < slices.size();) {
    size_t last = i;
    while (last + 1 < slices.size() && slices[last + 1].hemisphere == slices[i].hemisphere &&
           slices[last + 1].slice == slices[last].slice + 1)
      ++last;
    text += (text.empty() ? "" : ",") + std::string(slices[i].hemisphere == west ? "w" : "e") +
            std::to_string(slices[i].slice);
    if (last > i)
      text += "-" + std::to_string(slices[last].slice);
    i = last + 1;
  }
  return text;
}

void printLayout(const program::Program &program, const Layout &layout, llvm::raw_ostream &os) {
  const program::Variable &variable = program.variables[layout.variable];
  os << ".layout " << target::reference(variable) << " chip=" << layout.chip << " bank=" << unsigned(layout.bank)
     << " address=" << layout.address << " slices=" << sliceList(layout.slices) << '\n';
  for (const DimensionRange &range : layout.ranges)
    os << ".range dimension=" << unsigned(range.dimension) << " begin=" << range.begin << " extent=" << range.extent
       << '\n';
  for (const Axis &axis : layout.axes) {
    os << ".axis dimension=";
    if (axis.dimension == variable.shape.size())
      os << "bytes";
    else
      os << unsigned(axis.dimension);
    static const char *const targets[] = {"lane", "slice", "address"};
    os << " extent=" << axis.extent << " to=" << targets[static_cast<unsigned>(axis.target)] << " step=" << axis.step
       << '\n';
  }
}

llvm::Error printQueue(const Queue &queue, llvm::raw_ostream &os) {
  os << "\n.queue " << print(queue.name) << '\n';
  auto origin = queue.origins.begin();
  uint64_t originEnd = 0;
  int64_t cycle = 0, lastIssue = 0;
  for (size_t i = 0; i < queue.instructions.size(); ++i) {
    if (origin != queue.origins.end() && origin->first == i) {
      os << ".origin " << origin->node << '\n';
      originEnd = uint64_t(origin->first) + origin->count;
      ++origin;
    } else if (originEnd == i && i > 0 && originEnd > 0) {
      os << ".origin none\n";
    }
    const Instruction &instruction = queue.instructions[i];
    if (!formOf(instruction.opcode))
      return userError("opcode " + llvm::Twine(unsigned(instruction.opcode)) + " is unknown",
                       {"", "queue " + print(queue.name) + ", instruction " + std::to_string(i)});
    std::string text = "  " + print(instruction);
    // Cycles count from the start of the queue, or from the end of its last sync or deskew.
    switch (instruction.op()) {
    case Opcode::Nop:
      cycle += instruction.word[0];
      break;
    case Opcode::Repeat:
      os << text << '\n';
      cycle = lastIssue + int64_t(instruction.word[0]) * instruction.word[1] + 1;
      continue;
    case Opcode::Sync:
    case Opcode::Deskew:
      cycle = 0;
      break;
    default:
      os << llvm::formatv("{0,-52} # cycle {1}\n", text, cycle);
      lastIssue = cycle++;
      continue;
    }
    os << text << '\n';
  }
  return llvm::Error::success();
}

} // namespace

llvm::Error printCode(const Code &code, const program::Program &program, llvm::raw_ostream &os) {
  if (code.entries.size() != program.entryPoints.size())
    return userError("the program has " + llvm::Twine(program.entryPoints.size()) + " entry points and code for " +
                     llvm::Twine(code.entries.size()));
  for (const Layout &layout : code.layouts) {
    if (layout.variable >= program.variables.size())
      return userError("a layout refers to variable " + llvm::Twine(layout.variable) + ", which does not exist");
    printLayout(program, layout, os);
  }
  for (const auto &[entry, entryCode] : llvm::zip_equal(program.entryPoints, code.entries)) {
    os << "\n.code ";
    target::printQuoted(entry.name, os);
    os << '\n';
    for (const auto &[index, chip] : llvm::enumerate(entryCode.chips)) {
      os << ".chip " << index << '\n';
      for (const Queue &queue : chip.queues)
        if (llvm::Error error = printQueue(queue, os))
          return error;
    }
  }
  return llvm::Error::success();
}

llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) {
  auto code = Code::decode(program.payload());
  if (!code)
    return code.takeError();
  if (llvm::Error error = target::printCommon(program, os))
    return error;
  os << '\n';
  return printCode(*code, program, os);
}

} // namespace quadrille::tsp
