// What tests of rewrites share: graphs by hand whose arithmetic is exact, and the reference that both must agree with.
#pragma once

#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"

#include "gtest/gtest.h"

#include <algorithm>
#include <functional>

namespace quadrille::host {

// Whole numbers from -4 to 4, whose sums and products are exact in every order and in f16.
inline Tensor smallNumbers(ElementType type, const Shape &shape, uint32_t seed) {
  std::mt19937 generator(seed);
  std::vector<double> values(static_cast<size_t>(elementCount(shape)));
  for (double &value : values)
    value = static_cast<double>(generator() % 9) - (kindOf(type) == ElementKind::Unsigned ? 0 : 4);
  Tensor tensor = Tensor::uninitialized(type, shape);
  convert(ElementType::f64, values.data(), type, tensor.mutableBytes(), values.size());
  return tensor;
}

inline std::vector<Tensor> smallInputs(const graph::KernelGraph &graph) {
  std::vector<Tensor> inputs;
  for (graph::ValueId input : graph.inputs)
    inputs.push_back(smallNumbers(graph.values[input].type, graph.values[input].shape, 100 + input));
  return inputs;
}

// Both graphs give the same for the same inputs, by the reference's loop nests.
inline void expectTheSame(const graph::KernelGraph &original, const graph::KernelGraph &rewritten) {
  ASSERT_EQ(original.verify(), "");
  ASSERT_EQ(rewritten.verify(), "") << rewritten.print();
  std::vector<Tensor> inputs = smallInputs(original);
  std::vector<Tensor> right = llvm::cantFail(evaluatePlain(original, inputs));
  std::vector<Tensor> got = llvm::cantFail(evaluatePlain(rewritten, inputs));
  ASSERT_EQ(right.size(), got.size());
  for (size_t i = 0; i < right.size(); ++i) {
    EXPECT_EQ(right[i].shape(), got[i].shape());
    EXPECT_EQ(doubles(right[i]), doubles(got[i])) << rewritten.print();
  }
}

// "contract, concat, relu".
inline std::string operationsOf(const graph::KernelGraph &graph) {
  std::string text;
  for (const graph::Kernel &kernel : graph.kernels)
    text += (text.empty() ? "" : ", ") + kernel.operation;
  return text;
}

using Compute = std::function<Register(BlockExpression &, std::vector<Register>)>;

inline Register firstOperand(BlockExpression & /*body*/, std::vector<Register> operands) {
  return operands[0];
}
inline Compute binary(BlockOpcode opcode, ElementType type = ElementType::f32) {
  return [=](BlockExpression &body, std::vector<Register> operands) { return body.append(opcode, type, operands); };
}
// opcode(x, number)
inline Compute withNumber(BlockOpcode opcode, double number, ElementType type = ElementType::f32) {
  return [=](BlockExpression &body, std::vector<Register> operands) {
    Register constant = body.append(BlockOpcode::Constant, type, {}, bitsFromDouble(type, number));
    return body.append(opcode, type, {operands[0], constant});
  };
}

// A kernel that computes each element of `result`, which its loops index in their order.
inline graph::ValueId elementwise(GraphBuilder &b, std::string operation, Shape shape, std::vector<graph::Read> reads,
                                  const Compute &compute, ElementType type = ElementType::f32) {
  graph::ValueId result = b.value(operation + std::to_string(b.graph.values.size()), type, shape);
  graph::Kernel &kernel = b.kernel(graph::KernelKind::Map, std::move(operation));
  graph::AccessMap own;
  for (auto extent : shape) {
    own.push_back({0, {{static_cast<unsigned>(kernel.loops.size()), 1}}});
    kernel.loops.push_back({extent});
  }
  std::vector<Register> operands;
  for (const graph::Read &read : reads) {
    kernel.body.inputs.push_back(b.graph.values[read.value].type);
    operands.push_back(
        kernel.body.append(BlockOpcode::Input, kernel.body.inputs.back(), {}, kernel.body.inputs.size() - 1));
  }
  kernel.reads = std::move(reads);
  kernel.writes.push_back({result, own, graph::Combiner::None, {}, {}});
  kernel.body.results = {compute(kernel.body, operands)};
  if (kernel.body.isIdentity())
    kernel.kind = graph::KernelKind::Move;
  kernel.numeric = graph::defaultNumeric(b.graph, kernel);
  return result;
}

inline graph::ValueId concat(GraphBuilder &b, std::initializer_list<graph::ValueId> parts, int64_t axis) {
  Shape shape = b.graph.values[*parts.begin()].shape;
  shape[axis] = 0;
  for (graph::ValueId part : parts)
    shape[axis] += b.graph.values[part].shape[axis];
  graph::ValueId joined = b.value("joined", b.graph.values[*parts.begin()].type, shape);
  b.plain("concat", parts, {joined}).attributes["axis"] = axis;
  return joined;
}

inline graph::ValueId reshape(GraphBuilder &b, graph::ValueId value, Shape shape) {
  graph::ValueId result = b.value("reshaped", b.graph.values[value].type, std::move(shape));
  b.plain("reshape", {value}, {result}).kind = graph::KernelKind::Move;
  return result;
}

// x(m, k) times w(k, n)
inline graph::ValueId product(GraphBuilder &b, graph::ValueId x, graph::ValueId w) {
  Shape left = b.graph.values[x].shape, right = b.graph.values[w].shape;
  graph::ValueId result = b.value("product", ElementType::f32, {left[0], right[1]});
  b.contract({{left[0]}, {right[1]}, {left[1], true}}, {x, loopsMap({0, 2}), {}}, {w, loopsMap({2, 1}), {}}, result,
             loopsMap({0, 1}));
  return result;
}

} // namespace quadrille::host
