#include "graph/WidenBf16.h"

#include "graph/KernelQueries.h"
#include "graph/KernelRewriter.h"
#include "numerics/Convert.h"

#include "llvm/ADT/STLExtras.h"

namespace quadrille::graph {

namespace {

constexpr ElementType bf16 = ElementType::bf16, f32 = ElementType::f32, u16 = ElementType::u16, u32 = ElementType::u32;
constexpr uint64_t halfWord = 16;

ElementType widened(ElementType type) {
  return type == bf16 ? f32 : type;
}

Register word(BodyBuilder &body, uint64_t bits) {
  return body.emit(BlockOpcode::Constant, u32, {}, bits);
}

// The bits are the upper half of those of f32.
Register fromBits(BodyBuilder &body, Register bits) {
  Register wide = body.emit(BlockOpcode::Convert, u32, {bits});
  return body.emit(BlockOpcode::Bitcast, f32, {body.emit(BlockOpcode::ShiftLeft, u32, {wide, word(body, halfWord)})});
}

// The bits of f32 after rounding, whose lower half is not zero yet: half of the last place is added, less a bit where
// that would make a tie odd. A NaN keeps its upper bits and stays one.
Register roundedBits(BodyBuilder &body, Register value) {
  Register bits = body.emit(BlockOpcode::Bitcast, u32, {value});
  Register last = body.emit(BlockOpcode::ShiftRight, u32, {bits, word(body, halfWord)});
  last = body.emit(BlockOpcode::And, u32, {last, word(body, 1)});
  Register sum = body.add(u32, bits, body.add(u32, last, word(body, 0x7fff)));
  Register quiet = body.emit(BlockOpcode::Or, u32, {bits, word(body, 0x400000)});
  return body.select(u32, body.emit(BlockOpcode::IsNan, ElementType::boolean, {value}), quiet, sum);
}
Register rounded(BodyBuilder &body, Register value) {
  Register bits = body.emit(BlockOpcode::And, u32, {roundedBits(body, value), word(body, 0xffff0000)});
  return body.emit(BlockOpcode::Bitcast, f32, {bits});
}
Register toBits(BodyBuilder &body, Register value) {
  Register upper = body.emit(BlockOpcode::ShiftRight, u32, {roundedBits(body, value), word(body, halfWord)});
  return body.emit(BlockOpcode::Convert, u16, {upper});
}

void widen(Scalar &scalar) {
  if (scalar.type == bf16)
    scalar = {f32, scalar.bits << halfWord};
}

// The same in f32, whose results that were bf16 are rounded, unless they are terms of a sum.
BlockExpression widenedBody(const BlockExpression &original, bool sums) {
  BodyBuilder body;
  std::vector<Register> values;
  std::vector<bool> exact; // values that bf16 can hold
  auto isNarrow = [&](Register value) { return original.instructions[value].type == bf16; };
  for (ElementType type : original.inputs)
    body.body.inputs.push_back(widened(type));
  for (const BlockInstruction &instruction : original.instructions) {
    BlockInstruction same = instruction;
    bool isExact = instruction.opcode == BlockOpcode::Input || instruction.opcode == BlockOpcode::Constant;
    for (unsigned i = 0; i < operandCount(instruction.opcode); ++i)
      same.operands[i] = values[instruction.operands[i]];
    same.type = widened(instruction.type);
    if (instruction.opcode == BlockOpcode::Constant && instruction.type == bf16)
      same.immediate <<= halfWord;
    bool fromNarrow = operandCount(instruction.opcode) == 1 && isNarrow(instruction.operands[0]);
    Register value = 0;
    auto valueOf = [&](unsigned i) { return values[instruction.operands[i]]; };
    bool isConversion =
        instruction.opcode == BlockOpcode::Convert || instruction.opcode == BlockOpcode::ConvertSaturating;
    if (instruction.opcode == BlockOpcode::Bitcast && instruction.type == bf16) {
      value = fromBits(body, valueOf(0));
      isExact = true;
    } else if (instruction.opcode == BlockOpcode::Bitcast && fromNarrow) {
      value = toBits(body, valueOf(0));
    } else if (isConversion && fromNarrow && instruction.type == f32) {
      value = exact[instruction.operands[0]] ? valueOf(0) : rounded(body, valueOf(0));
    } else if (isConversion && instruction.type == bf16) {
      bool isFloat32 = original.instructions[instruction.operands[0]].type == f32;
      Register wide = isFloat32 ? valueOf(0) : body.emit(BlockOpcode::Convert, f32, {valueOf(0)});
      value = rounded(body, wide);
      isExact = true;
    } else {
      body.body.instructions.push_back(same);
      value = static_cast<Register>(body.body.instructions.size() - 1);
    }
    values.push_back(value);
    exact.push_back(isExact);
  }
  for (Register result : original.results)
    body.body.results.push_back(isNarrow(result) && !exact[result] && !sums ? rounded(body, values[result])
                                                                            : values[result]);
  return std::move(body.body);
}

} // namespace

KernelGraph widenBf16(KernelGraph graph) {
  if (llvm::none_of(graph.values, [](const Value &value) { return value.type == bf16; }) &&
      llvm::none_of(graph.kernels, [](const Kernel &kernel) {
        return llvm::any_of(kernel.body.instructions, [](auto &i) { return i.type == bf16; });
      }))
    return graph;
  std::vector<Kernel> original = std::move(graph.kernels);
  graph.kernels.clear();
  KernelRewriter rewriter(graph);
  // At the boundary: in the place of the kernel that reads an input first, or that writes an output.
  auto mapped = [&](ValueId id, const Kernel &beside, Register (*function)(BodyBuilder &, Register)) {
    rewriter.replaced = &beside;
    Shape shape = graph.values[id].shape;
    BodyBuilder body;
    body.body.results = {function(body, body.input(graph.values[id].type))};
    ValueId to = rewriter.map(shape, {{id, loopIndices(0, shape.size()), std::nullopt}}, std::move(body.body));
    graph.values[to].name = graph.values[id].name;
    return to;
  };
  std::vector<ValueId> place(graph.values.size());
  std::vector<bool> narrow(graph.values.size());
  std::vector<Tensor> constants(graph.values.size()); // as they were
  for (ValueId id = 0; id < place.size(); ++id) {
    Value &value = graph.values[id];
    place[id] = id;
    narrow[id] = value.type == bf16;
    if (!narrow[id])
      continue;
    value.type = value.role == ValueRole::Input ? u16 : f32;
    constants[id] = value.data;
    if (value.data.valid()) {
      value.data = convert(value.data, f32);
      value.origin.reset();
    }
  }
  std::vector<std::optional<size_t>> writers(graph.values.size());
  for (auto [number, kernel] : llvm::enumerate(original)) {
    for (ValueId operand : operandsOf(kernel))
      if (narrow[operand] && graph.values[operand].role == ValueRole::Input && place[operand] == operand)
        place[operand] = mapped(operand, kernel, fromBits);
    for (const Write &write : kernel.writes)
      writers[write.value] = number;
  }
  std::vector<Kernel> nodesOf(original.size()); // what is left of each
  for (auto [kernel, left] : llvm::zip(original, nodesOf)) {
    left.nodes = kernel.nodes;
    left.operation = kernel.operation;
  }
  for (Kernel &kernel : original) {
    for (Read &read : kernel.reads) {
      read.value = place[read.value];
      if (read.padding)
        widen(*read.padding);
    }
    for (Write &write : kernel.writes) {
      if (write.initial) {
        write.initial->value = place[write.initial->value];
        if (write.initial->padding)
          widen(*write.initial->padding);
      }
      if (write.initialScalar)
        widen(*write.initialScalar);
    }
    for (ElementType *type : {&kernel.numeric.storage, &kernel.numeric.multiply, &kernel.numeric.accumulate})
      *type = widened(*type);
    if (kernel.structured())
      kernel.body = widenedBody(
          kernel.body, llvm::all_of(kernel.writes, [](const Write &write) { return write.combiner == Combiner::Sum; }));
    rewriter.kernels.push_back(std::move(kernel));
  }
  for (ValueId &output : graph.outputs) {
    if (output >= narrow.size() || !narrow[output] || graph.values[output].role == ValueRole::Input)
      continue;
    if (graph.values[output].role == ValueRole::Constant) {
      const Tensor &bits = constants[output];
      output = rewriter.constant(Tensor::borrow(u16, bits.shape(), bits.bytes(), std::make_shared<Tensor>(bits)));
    } else if (elementCount(graph.values[output].shape) > 0) {
      output = mapped(output, nodesOf[*writers[output]], toBits);
    }
  }
  graph.kernels = std::move(rewriter.kernels);
  return graph;
}

} // namespace quadrille::graph
