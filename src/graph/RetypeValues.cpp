#include "graph/RetypeValues.h"

#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

#include <algorithm>
#include <limits>
#include <memory>

namespace quadrille::graph {

void retypeInput(BlockExpression &body, size_t read, ElementType type, BlockOpcode through) {
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
    renamed.push_back(input ? result.append(through, before, {made}) : made);
  }
  for (Register of : body.results)
    result.results.push_back(renamed[of]);
  body = std::move(result);
}

void retypeResult(BlockExpression &body, size_t write, ElementType type, BlockOpcode through) {
  Register of = body.results[write];
  if (body.instructions[of].type != type)
    body.results[write] = body.append(through, type, {of});
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

void holdInBytes(KernelGraph &graph) {
  struct Held {
    ElementType before, after;
    BlockOpcode through;
  };
  std::vector<std::optional<Held>> held(graph.values.size());
  for (auto [id, value] : llvm::enumerate(graph.values)) {
    bool bits = isFloat(value.type) && bitWidth(value.type) == 8;
    if (!bits && (!isInteger(value.type) || bitWidth(value.type) >= 8))
      continue;
    bool isSigned = kindOf(value.type) == ElementKind::Signed;
    held[id] = Held{value.type, isSigned ? ElementType::i8 : ElementType::u8,
                    bits ? BlockOpcode::Bitcast : BlockOpcode::Convert};
    if (value.data.valid()) {
      Tensor data = value.data;
      value.data = bits ? Tensor::borrow(ElementType::u8, value.shape, data.bytes(), std::make_shared<Tensor>(data))
                        : convert(data, held[id]->after);
      value.origin.reset();
    }
    value.type = held[id]->after;
  }
  auto scalar = [](std::optional<Scalar> &of, const Held &to) {
    if (!of)
      return;
    uint64_t bits =
        to.through == BlockOpcode::Bitcast ? of->bits : bitsFromDouble(to.after, doubleFromBits(to.before, of->bits));
    of = Scalar{to.after, bits};
  };
  for (Kernel &kernel : graph.kernels) {
    for (auto [r, read] : llvm::enumerate(kernel.reads))
      if (const auto &to = held[read.value]) {
        if (kernel.structured())
          retypeInput(kernel.body, r, to->after, to->through);
        scalar(read.padding, *to);
      }
    for (auto [w, write] : llvm::enumerate(kernel.writes))
      if (const auto &to = held[write.value]) {
        if (kernel.structured())
          retypeResult(kernel.body, w, to->after, to->through);
        scalar(write.initialScalar, *to);
        if (write.initial)
          scalar(write.initial->padding, *to);
      }
  }
}

} // namespace quadrille::graph
