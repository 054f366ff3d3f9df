// Images in two parts of f16.
#include "numerics/BlockEvaluator.h"
#include "target/host/GraphBuilder.h"
#include "target/tsp/SplitInputs.h"

#include "gtest/gtest.h"

#include <cmath>

namespace quadrille::tsp {
namespace {

using namespace graph;
using host::GraphBuilder;

// An image of `channels`, a convolution of two filters of three columns, and a depthwise one (or relu instead).
GraphBuilder image(int64_t channels, bool depthwise) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {1, channels, 10});
  ValueId w = b.constant("w", host::randomTensor(ElementType::f32, {2, channels, 3}, 1));
  ValueId y = b.value("y", ElementType::f32, {1, 2, 8}), z = b.value("z", ElementType::f32, {1, 2, 6});
  b.contract({{1}, {2}, {8}, {channels, true}, {3, true}},
             {x, {{0, {{0, 1}}}, {0, {{3, 1}}}, {0, {{2, 1}, {4, 1}}}}, {}}, {w, host::loopsMap({1, 3, 4}), {}}, y,
             host::loopsMap({0, 1, 2}));
  if (depthwise) {
    ValueId v = b.constant("v", host::randomTensor(ElementType::f32, {2, 3}, 2));
    b.contract({{1}, {2}, {6}, {3, true}}, {y, {{0, {{0, 1}}}, {0, {{1, 1}}}, {0, {{2, 1}, {3, 1}}}}, {}},
               {v, host::loopsMap({1, 3}), {}}, z, host::loopsMap({0, 1, 2}));
    b.output(z);
  } else {
    b.output(y);
  }
  EXPECT_EQ(b.graph.verify(), "");
  return b;
}

std::vector<float> evaluate(const BlockExpression &expression, std::vector<float> values) {
  BlockEvaluator evaluator = llvm::cantFail(BlockEvaluator::compile(expression));
  BlockEvaluator::Scratch scratch(evaluator);
  std::vector<float> result(values.size());
  evaluator.evaluate({{values.data(), 1}}, {{result.data(), 1}}, static_cast<int64_t>(values.size()), {}, scratch);
  return result;
}

// What products make of an operand: f16.
std::vector<float> asOperand(std::vector<float> values) {
  roundF32To(ElementType::f16, values.data(), values.size());
  return values;
}

TEST(TspSplitInputs, BothPartsAreF16AndTheirSumIsTheInput) {
  GraphBuilder b = image(3, /*depthwise=*/true);
  splitInputs(b.graph);
  ASSERT_EQ(b.graph.verify(), "");
  std::vector<std::string> operations;
  for (const Kernel &kernel : b.graph.kernels)
    operations.push_back(kernel.operation);
  EXPECT_EQ(operations, (std::vector<std::string>{"convert", "contract", "convert", "contract", "contract"}));
  // The second product starts from the sums of the first.
  EXPECT_EQ(b.graph.kernels[3].writes[0].initial->value, b.graph.kernels[1].writes[0].value);
  // Beyond the largest f16, 65504, the other part has the rest, up to 131008.
  std::vector<float> values = {0,     1,      -1,    0.1F,  3.14159265F, -1234.567F, 65504, 65519,
                               65520, -65536, 70000, -1e5F, 131008,      -131008,    1e-3F, 255.0F / 256};
  std::vector<float> low = asOperand(evaluate(b.graph.kernels[0].body, values)),
                     high = asOperand(evaluate(b.graph.kernels[2].body, values));
  for (size_t i = 0; i < values.size(); ++i) {
    // 11 bits of each part, and a sign that the rest has: 2^-23 of the value; the least f16 is 2^-24.
    EXPECT_LE(std::fabs(high[i] + low[i] - values[i]), std::fabs(values[i]) * 0x1p-22F + 0x1p-25F) << values[i];
    EXPECT_LE(std::fabs(low[i]), std::fmax(std::fabs(values[i]) * 0x1p-11F, std::fabs(values[i]) - 65504)) << values[i];
  }
  // What no two parts have is not a number nowhere but where the input is none.
  std::vector<float> others = {INFINITY, -INFINITY, 1e6F, -1e30F, NAN};
  low = asOperand(evaluate(b.graph.kernels[0].body, others)),
  high = asOperand(evaluate(b.graph.kernels[2].body, others));
  for (size_t i : {0, 2})
    EXPECT_EQ(high[i] + low[i], INFINITY);
  for (size_t i : {1, 3})
    EXPECT_EQ(high[i] + low[i], -INFINITY);
  EXPECT_TRUE(std::isnan(high[4] + low[4]));
}

TEST(TspSplitInputs, OnlyWhereADepthwiseConvolutionReadsFewChannels) {
  for (GraphBuilder b : {image(3, /*depthwise=*/false), image(5, /*depthwise=*/true)}) {
    std::string before = b.graph.print();
    splitInputs(b.graph);
    EXPECT_EQ(b.graph.print(), before);
  }
  // Nor where others read the input too.
  GraphBuilder b = image(3, /*depthwise=*/true);
  b.output(0);
  std::string before = b.graph.print();
  splitInputs(b.graph);
  EXPECT_EQ(b.graph.print(), before);
}

} // namespace
} // namespace quadrille::tsp
