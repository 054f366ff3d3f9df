// What passes share that put other kernels in the place of some.
#pragma once

#include "graph/KernelGraph.h"

#include <map>

namespace quadrille::graph {

// A block expression under construction.
class BodyBuilder {
public:
  Register input(ElementType type) {
    body.inputs.push_back(type);
    return emit(BlockOpcode::Input, type, {}, body.inputs.size() - 1);
  }
  Register constant(ElementType type, double value);
  Register emit(BlockOpcode opcode, ElementType type, llvm::ArrayRef<Register> operands, uint64_t immediate = 0) {
    return body.append(opcode, type, operands, immediate);
  }
  Register add(ElementType t, Register a, Register b) { return emit(BlockOpcode::Add, t, {a, b}); }
  Register equal(Register a, Register b) { return emit(BlockOpcode::Equal, ElementType::boolean, {a, b}); }
  Register less(Register a, Register b) { return emit(BlockOpcode::Less, ElementType::boolean, {a, b}); }
  Register both(Register a, Register b) { return emit(BlockOpcode::And, ElementType::boolean, {a, b}); }
  Register either(Register a, Register b) { return emit(BlockOpcode::Or, ElementType::boolean, {a, b}); }
  Register isNot(Register a) { return emit(BlockOpcode::Not, ElementType::boolean, {a}); }
  Register select(ElementType t, Register condition, Register yes, Register no) {
    return emit(BlockOpcode::Select, t, {condition, yes, no});
  }

  BlockExpression body;
};

// Appends values and kernels to a graph, for the kernel that they replace: they stand for the same ONNX nodes.
class KernelRewriter {
public:
  explicit KernelRewriter(KernelGraph &graph) : graph(graph) {}

  ValueId value(ElementType type, Shape shape);
  ValueId constant(Tensor data);
  // Row i of `width` elements is `width` times the number i.
  ValueId numbers(int64_t count, int64_t width, ElementType type);
  // The numbers beside each other: of shape {count}.
  ValueId numbersInRow(int64_t count, ElementType type);

  // One kernel; its kind follows from its loops unless it is given, and its work is counted.
  void structured(std::vector<Loop> loops, std::vector<Read> reads, std::vector<Write> writes, BlockExpression body,
                  std::optional<KernelKind> kind = std::nullopt);
  // An elementwise kernel over all dimensions of its result, which it makes: read i is indexed by `maps[i]`.
  ValueId map(Shape shape, std::vector<Read> reads, BlockExpression body);
  // The same elements under another shape; the value itself when it has that shape. `to`: where they go, if it exists.
  ValueId reshape(ValueId from, Shape shape, std::optional<ValueId> to = std::nullopt);
  void plain(std::string operation, llvm::ArrayRef<ValueId> reads, ValueId to,
             std::map<std::string, Attribute> attributes = {});

  const Shape &shapeOf(ValueId id) const { return graph.values[id].shape; }
  ElementType typeOf(ValueId id) const { return graph.values[id].type; }

  KernelGraph &graph;
  const Kernel *replaced = nullptr;
  std::vector<Kernel> kernels; // made so far

private:
  void append(Kernel kernel);

  std::map<std::tuple<int64_t, int64_t, ElementType>, ValueId> numbersOf;
};

// Maps in which each dimension is one loop.
inline DimensionAccess loopIndex(unsigned number) {
  return {0, {{number, 1}}};
}
AccessMap loopIndices(unsigned first, size_t count);
inline DimensionAccess fixedIndex(int64_t index) {
  return {index, {}};
}
AccessMap joinedMaps(std::initializer_list<AccessMap> parts);

} // namespace quadrille::graph
