// Kernels that run row by row give the bits that they give one after another.
#include "target/host/RowGroup.h"

#include "base/Parallel.h"
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"

#include "llvm/ADT/STLExtras.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;

namespace {

constexpr ElementType f32 = ElementType::f32;

// Operations on [a, b, c], reductions over c that keep the dimension.
class Builder : public GraphBuilder {
public:
  explicit Builder(Shape shape) : shape(std::move(shape)) {}

  ValueId reduce(std::string name, ValueId x, Combiner combiner, double initial) {
    ValueId y = value(name, f32, {shape[0], shape[1], 1});
    Kernel &k = kernel(KernelKind::Reduce, std::move(name));
    k.loops = {{shape[0]}, {shape[1]}, {shape[2], true}};
    k.reads = {{x, loopsMap({0, 1, 2}), {}}};
    k.writes = {{y, {{0, {{0, 1}}}, {0, {{1, 1}}}, {0, {}}}, combiner, scalarOf(f32, initial), {}}};
    k.body.inputs = {f32};
    k.body.results = {k.body.append(BlockOpcode::Input, f32, {}, 0)};
    return y;
  }
  // opcode(x, y) and then `after` of it, if given; y of the whole shape or with one element for each row.
  ValueId map(std::string name, BlockOpcode opcode, ValueId x, ValueId y,
              std::optional<BlockOpcode> after = std::nullopt) {
    ValueId z = value(name, f32, shape);
    Kernel &k = kernel(KernelKind::Map, std::move(name));
    k.loops = {{shape[0]}, {shape[1]}, {shape[2]}};
    bool whole = graph.values[y].shape == shape;
    k.reads = {{x, loopsMap({0, 1, 2}), {}},
               {y, {{0, {{0, 1}}}, {0, {{1, 1}}}, whole ? DimensionAccess{0, {{2, 1}}} : DimensionAccess{}}, {}}};
    k.writes = {{z, loopsMap({0, 1, 2}), Combiner::None, {}, {}}};
    k.body.inputs = {f32, f32};
    Register a = k.body.append(BlockOpcode::Input, f32, {}, 0), b = k.body.append(BlockOpcode::Input, f32, {}, 1);
    Register r = k.body.append(opcode, f32, {a, b});
    k.body.results = {after ? k.body.append(*after, f32, {r}) : r};
    return z;
  }
  ValueId softmax(ValueId x) {
    ValueId exponentials =
        map("exp", BlockOpcode::Subtract, x, reduce("max", x, Combiner::Maximum, -INFINITY), BlockOpcode::Exp);
    return map("divide", BlockOpcode::Divide, exponentials, reduce("sum", exponentials, Combiner::Sum, 0));
  }

  Shape shape;
};

void expectSameBits(const KernelGraph &graph) {
  ASSERT_EQ(graph.verify(), "");
  std::vector<Tensor> inputs;
  for (ValueId id : graph.inputs)
    inputs.push_back(randomTensor(f32, graph.values[id].shape, 5 + id));
  std::vector<Tensor> expected = llvm::cantFail(evaluatePlain(graph, inputs));
  for (unsigned threads : {1u, 2u}) {
    setThreadCount(threads);
    std::vector<Tensor> actual = llvm::cantFail(evaluate(graph, inputs));
    setThreadCount(0);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t o = 0; o < actual.size(); ++o)
      EXPECT_TRUE(std::ranges::equal(actual[o].bytes(), expected[o].bytes())) << "output " << o;
  }
}

// Rows of one element, of several blocks, and of more than fits the cache.
class RowGroups : public testing::TestWithParam<Shape> {};

TEST_P(RowGroups, SoftmaxIsOneStep) {
  Builder b(GetParam());
  b.output(b.softmax(b.input("x", f32, b.shape)));
  EXPECT_EQ(makePlan(b.graph).decisions.steps.size(), 1u);
  EXPECT_EQ(makePlan(b.graph).decisions.slotCount, 0u) << "nothing leaves the step but the result";
  expectSameBits(b.graph);
}

// The sum of two inputs is normalised, and read again after that: it leaves the step that computes it.
TEST_P(RowGroups, WhatOthersReadIsWritten) {
  Builder b(GetParam());
  ValueId sum = b.map("add", BlockOpcode::Add, b.input("x", f32, b.shape), b.input("y", f32, b.shape));
  ValueId normal = b.softmax(sum);
  ValueId moved = b.value("moved", f32, {b.shape[2], b.shape[0] * b.shape[1]});
  ValueId flat = b.value("flat", f32, {b.shape[0] * b.shape[1], b.shape[2]});
  b.plain("reshape", {normal}, {flat});
  Kernel &k = b.kernel(KernelKind::Move, "transpose");
  k.loops = {{b.shape[2]}, {b.shape[0] * b.shape[1]}};
  k.reads = {{flat, loopsMap({1, 0}), {}}};
  k.writes = {{moved, loopsMap({0, 1}), Combiner::None, {}, {}}};
  k.body.inputs = {f32};
  k.body.results = {k.body.append(BlockOpcode::Input, f32, {}, 0)};
  b.output(moved);
  b.output(b.map("again", BlockOpcode::Multiply, sum, normal));
  expectSameBits(b.graph);
}

INSTANTIATE_TEST_SUITE_P(Shapes, RowGroups,
                         testing::Values(Shape{2, 16, 1}, Shape{3, 17, 33}, Shape{4, 16, 700}, Shape{1, 16, 40000}));

// Rows that mix are not computed side by side: each row of the second reduction reads another row of the first.
TEST(RowGroup, ReadersOfOtherRowsStayOutside) {
  Builder b({16, 4, 8});
  ValueId x = b.input("x", f32, b.shape), sum = b.reduce("sum", x, Combiner::Sum, 0);
  ValueId z = b.value("z", f32, b.shape);
  Kernel &k = b.kernel(KernelKind::Map, "next");
  k.loops = {{16}, {4}, {8}};
  k.reads = {{sum, {{15, {{0, -1}}}, {0, {{1, 1}}}, {0, {}}}, {}}, {x, loopsMap({0, 1, 2}), {}}};
  k.writes = {{z, loopsMap({0, 1, 2}), Combiner::None, {}, {}}};
  k.body.inputs = {f32, f32};
  Register p = k.body.append(BlockOpcode::Input, f32, {}, 0), q = k.body.append(BlockOpcode::Input, f32, {}, 1);
  k.body.results = {k.body.append(BlockOpcode::Multiply, f32, {p, q})};
  b.output(z);
  EXPECT_EQ(makePlan(b.graph).decisions.steps.size(), 2u);
  expectSameBits(b.graph);
}

} // namespace
