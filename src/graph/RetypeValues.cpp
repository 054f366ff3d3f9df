#include "graph/RetypeValues.h"

#include "numerics/Convert.h"

#include <algorithm>
#include <limits>

namespace quadrille::graph {

void retypeInput(BlockExpression &body, size_t read, ElementType type) {
  BlockExpression result;
  result.inputs = body.inputs;
  result.inputs[read] = type;
  std::vector<Register> renamed;
  for (BlockInstruction instruction : body.instructions) {
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      instruction.operands[i] = renamed[instruction.operands[i]];
    bool input = instruction.opcode == BlockOpcode::Input && instruction.immediate == read;
    ElementType before = instruction.type;
    if (input)
      instruction.type = type;
    Register made = result.append(instruction.opcode, instruction.type,
                                  llvm::ArrayRef(instruction.operands).take_front(operandCount(instruction.opcode)),
                                  instruction.immediate);
    renamed.push_back(input ? result.append(BlockOpcode::Convert, before, {made}) : made);
  }
  for (Register of : body.results)
    result.results.push_back(renamed[of]);
  body = std::move(result);
}

void retypeResult(BlockExpression &body, size_t write, ElementType type) {
  Register of = body.results[write];
  if (body.instructions[of].type != type)
    body.results[write] = body.append(BlockOpcode::Convert, type, {of});
}

ElementType heldIn32Bits(ElementType type) {
  switch (type) {
  case ElementType::i64:
    return ElementType::i32;
  case ElementType::u64:
    return ElementType::u32;
  default:
    return type;
  }
}

namespace {

void narrow(ElementType &type, uint64_t &bits) {
  ElementType to = heldIn32Bits(type);
  if (to == type)
    return;
  auto value = static_cast<int64_t>(bits);
  bool fits = type == ElementType::i64 ? value == static_cast<int32_t>(value) : bits <= 0xffffffffU;
  // Bounds of the type itself stand for "no bound".
  if (type == ElementType::i64 && !fits)
    value = value < 0 ? std::numeric_limits<int32_t>::min() : std::numeric_limits<int32_t>::max();
  bits = type == ElementType::i64 ? static_cast<uint32_t>(value) : std::min<uint64_t>(bits, 0xffffffffU);
  type = to;
}

} // namespace

std::string holdIn32Bits(KernelGraph &graph) {
  for (Value &value : graph.values) {
    ElementType type = heldIn32Bits(value.type);
    if (type != value.type && value.data.valid()) {
      Tensor narrowed = convert(value.data, type);
      if (valuesOf<int64_t>(value.data) != valuesOf<int64_t>(convert(narrowed, value.type)))
        return "constant '" + value.name + "' has values beyond 32 bits, which the machine has not";
      value.data = std::move(narrowed);
      value.origin.reset();
    }
    value.type = type;
  }
  for (Kernel &kernel : graph.kernels) {
    for (ElementType &type : kernel.body.inputs)
      type = heldIn32Bits(type);
    for (BlockInstruction &instruction : kernel.body.instructions) {
      if (instruction.opcode == BlockOpcode::Constant)
        narrow(instruction.type, instruction.immediate);
      instruction.type = heldIn32Bits(instruction.type);
    }
    for (Read &read : kernel.reads)
      if (read.padding)
        narrow(read.padding->type, read.padding->bits);
    for (Write &write : kernel.writes)
      if (write.initialScalar)
        narrow(write.initialScalar->type, write.initialScalar->bits);
  }
  return "";
}

} // namespace quadrille::graph
