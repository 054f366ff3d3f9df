#include "target/ipu/Assembly.h"

#include "base/Error.h"
#include "target/Text.h"
#include "target/Words.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::ipu {

namespace {

template <typename T> std::string listOf(const std::vector<T> &numbers) {
  std::string text = "[";
  for (const T &number : numbers)
    text += (text.size() > 1 ? "," : "") + std::to_string(number);
  return text + "]";
}

void printExpression(const BlockExpression &expression, size_t number, llvm::raw_ostream &os) {
  os << ".expression # " << number << '\n';
  for (ElementType type : expression.inputs)
    os << ".in " << nameOf(type) << '\n';
  for (const BlockInstruction &each : expression.instructions) {
    os << ".op " << nameOf(each.opcode) << ' ' << nameOf(each.type);
    for (unsigned i = 0; i < operandCount(each.opcode); ++i)
      os << ' ' << each.operands[i];
    if (each.immediate != 0)
      os << " immediate=" << each.immediate;
    os << '\n';
  }
  for (Register result : expression.results)
    os << ".result " << result << '\n';
}

void printPlacement(const program::Program &program, const Placement &placement, llvm::raw_ostream &os) {
  os << ".placement " << target::reference(program.variables[placement.variable]) << " type=" << nameOf(placement.type)
     << '\n';
  for (const Part &part : placement.parts) {
    os << ".part tiles=" << print(part.tiles) << " address=" << part.address << " begin=" << listOf(part.begin)
       << " extents=" << listOf(part.extents) << " shift=" << listOf(part.shift) << '\n';
    for (const Digit &digit : part.digits)
      os << ".digit dimension=" << unsigned(digit.dimension) << " extent=" << digit.extent << " stride=" << digit.stride
         << '\n';
  }
}

void printTransfer(const Transfer &each, llvm::raw_ostream &os) {
  os << (each.joins ? "join" : "send") << " from=" << each.source << " at=" << each.sourceAddress
     << " to=" << print(each.destinations) << " into=" << each.destinationAddress << " bytes=" << each.bytes;
  if (each.rows != 1)
    os << " rows=" << each.rows;
  if (each.sourceStride != 0 || each.destinationStride != 0)
    os << " strides=" << listOf(std::vector<int64_t>{each.sourceStride, each.destinationStride});
  os << '\n';
}

const char *wordOf(StepKind kind) {
  static const char *const words[] = {"execute", "exchange", "repeat", "end", "read", "write"};
  return words[static_cast<unsigned>(kind)];
}

} // namespace

std::string print(const Vertex &vertex) {
  const Form *form = formOf(vertex.codelet);
  std::string text = (form->name + " tiles=").str() + print(vertex.tiles);
  for (auto [parameter, values] : llvm::zip(form->parameters, vertex.values)) {
    text += (" " + parameter.name + "=").str();
    if (parameter.isList())
      text += listOf(values);
    else if (!parameter.words.empty() && values.front() >= 0 &&
             values.front() < static_cast<int64_t>(parameter.words.size()))
      text += parameter.words[static_cast<size_t>(values.front())].str();
    else
      text += std::to_string(values.front());
  }
  return text;
}

llvm::Error disassemble(const program::Program &program, llvm::raw_ostream &os) {
  auto loaded = Loaded::from(program);
  if (!loaded)
    return loaded.takeError();
  const Code &code = loaded->code;
  if (llvm::Error error = target::printCommon(program, os))
    return error;
  for (auto [i, expression] : llvm::enumerate(code.expressions))
    printExpression(expression, i, os);
  for (const Placement &placement : code.placements) {
    if (placement.variable >= program.variables.size())
      return userError("a placement names variable " + llvm::Twine(placement.variable) + ", which does not exist");
    printPlacement(program, placement, os);
  }
  for (auto [i, set] : llvm::enumerate(code.computeSets)) {
    os << ".compute_set ";
    target::printQuoted(set.name, os);
    os << " # " << i << '\n';
    for (const Vertex &vertex : set.vertices) {
      const Form *form = formOf(vertex.codelet);
      bool whole = form && vertex.values.size() == form->parameters.size() &&
                   llvm::all_of(llvm::zip(form->parameters, vertex.values), [](const auto &each) {
                     return std::get<0>(each).isList() || std::get<1>(each).size() == 1;
                   });
      if (!whole)
        return userError("compute set " + llvm::Twine(i) + " has a vertex without a text form");
      os << print(vertex) << '\n';
    }
  }
  for (auto [i, exchange] : llvm::enumerate(code.exchanges)) {
    os << ".exchange ";
    target::printQuoted(exchange.name, os);
    os << " # " << i << '\n';
    for (const Transfer &each : exchange.transfers)
      printTransfer(each, os);
  }
  if (code.entries.size() > program.entryPoints.size())
    return userError("it has steps for " + llvm::Twine(code.entries.size()) + " entry points, not for " +
                     llvm::Twine(program.entryPoints.size()));
  for (auto [entry, steps] : llvm::enumerate(code.entries)) {
    os << ".steps ";
    target::printQuoted(program.entryPoints[entry].name, os);
    os << '\n';
    for (const Step &step : steps) {
      os << wordOf(step.kind);
      if (step.kind != StepKind::End)
        os << ' ' << step.index;
      if (step.node != noNode)
        os << " node=" << step.node;
      os << '\n';
    }
  }
  return llvm::Error::success();
}

} // namespace quadrille::ipu
