// Matrix products and convolutions against loops in doubles written here.
#include "target/host/Convolution.h"
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"
#include "target/host/Operation.h"
#include "target/host/Plan.h"
#include "target/host/Product.h"

#include "base/Parallel.h"
#include "graph/KernelQueries.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;
using testing::ElementsAre;

namespace {

std::vector<Tensor> run(const KernelGraph &graph, std::vector<Tensor> inputs) {
  EXPECT_EQ(graph.verify(), "");
  llvm::Expected<std::vector<Tensor>> outputs = evaluate(graph, inputs);
  if (!outputs) {
    ADD_FAILURE() << llvm::toString(outputs.takeError());
    return {};
  }
  return *outputs;
}

// One execution of the graph's only kernel.
Tensor runOperation(const KernelGraph &graph, Operation &operation, const std::vector<Tensor> &inputs) {
  const Kernel &kernel = graph.kernels[0];
  std::vector<const std::byte *> reads;
  for (ValueId value : operandsOf(kernel)) {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (graph.inputs[i] == value)
        reads.push_back(inputs[i].bytes().data());
  }
  const Value &value = graph.values[kernel.writes[0].value];
  Tensor result = Tensor::uninitialized(value.type, value.shape);
  std::byte *write = result.mutableBytes();
  llvm::cantFail(operation.run(reads, {write}));
  return result;
}

// The generic execution of the graph's only kernel.
Tensor runGeneric(const KernelGraph &graph, const std::vector<Tensor> &inputs) {
  OperationPointer operation = llvm::cantFail(compileStructured(graph, graph.kernels[0]));
  return runOperation(graph, *operation, inputs);
}

TEST(MatrixProduct, HandExample) {
  // [[1,2],[3,4]] x [[5,6],[7,8]] = [[19,22],[43,50]]
  GraphBuilder b;
  ValueId x = b.input("a", ElementType::f32, {2, 2}), w = b.input("b", ElementType::f32, {2, 2});
  ValueId y = b.value("c", ElementType::f32, {2, 2});
  b.contract({{2}, {2}, {2, true}}, {x, loopsMap({0, 2}), {}}, {w, loopsMap({2, 1}), {}}, y, loopsMap({0, 1}));
  b.output(y);
  auto out = run(b.graph, {Tensor::of<float>(ElementType::f32, {2, 2}, {1, 2, 3, 4}),
                           Tensor::of<float>(ElementType::f32, {2, 2}, {5, 6, 7, 8})});
  EXPECT_THAT(doubles(out[0]), ElementsAre(19, 22, 43, 50));
}

// Every order of dimensions of both operands and of the result, with a batch: the fast path takes what it can, the
// generic one the rest, and both agree.
TEST(MatrixProduct, EveryOrderAgreesWithTheGenericPath) {
  unsigned fast = 0, cases = 0;
  std::mt19937 random(3);
  for (auto [type, resultType] : {std::pair(ElementType::f32, ElementType::f32),
                                  {ElementType::f64, ElementType::f64},
                                  {ElementType::f16, ElementType::f16},
                                  {ElementType::bf16, ElementType::f32},
                                  {ElementType::u8, ElementType::i32},
                                  {ElementType::i8, ElementType::i32},
                                  {ElementType::i32, ElementType::i32},
                                  {ElementType::i64, ElementType::i64},
                                  {ElementType::i16, ElementType::i32}}) {
    for (int trial = 0; trial < 30; ++trial) {
      int64_t extents[4] = {1 + static_cast<int64_t>(random() % 3), 1 + static_cast<int64_t>(random() % 20),
                            1 + static_cast<int64_t>(random() % 20), 1 + static_cast<int64_t>(random() % 50)};
      std::vector<Loop> loops = {{extents[0]}, {extents[1]}, {extents[2]}, {extents[3], true}};
      auto operand = [&](std::vector<unsigned> order) {
        std::shuffle(order.begin(), order.end(), random);
        AccessMap map;
        Shape shape;
        for (unsigned l : order) {
          map.push_back({0, {{l, 1}}});
          shape.push_back(extents[l]);
        }
        return std::pair(map, shape);
      };
      auto [lhsMap, lhsShape] = operand(random() % 2 ? std::vector<unsigned>{0, 1, 3} : std::vector<unsigned>{1, 3});
      auto [rhsMap, rhsShape] = operand({0, 2, 3});
      auto [map, shape] = operand({0, 1, 2});
      GraphBuilder b;
      ValueId x = b.input("a", type, lhsShape), w = b.input("b", type, rhsShape), y = b.value("c", resultType, shape);
      Kernel &k = b.contract(loops, {x, lhsMap, {}}, {w, rhsMap, {}}, y, map);
      std::vector<Tensor> inputs = {randomTensor(type, lhsShape, trial), randomTensor(type, rhsShape, trial + 100)};
      if (trial % 3 == 0) { // starts from a tensor
        ValueId start = b.input("start", resultType, shape);
        k.writes[0].initialScalar.reset();
        k.writes[0].initial = Read{start, map, {}};
        inputs.push_back(randomTensor(resultType, shape, trial + 200));
      }
      b.output(y);
      ++cases;
      fast += compileMatrixProduct(b.graph, k) != nullptr;
      auto actual = run(b.graph, inputs);
      std::vector<double> a = doubles(actual[0]), e = doubles(runGeneric(b.graph, inputs));
      ASSERT_EQ(a.size(), e.size());
      // Rounding: f32 sums of at most 51 terms of at most 1; the narrow result's own half ulp.
      double relative = resultType == ElementType::f16 ? 0x1p-10 : 0;
      double absolute = !isFloat(resultType) ? 0 : resultType == ElementType::f64 ? 1e-14 : 51 * 0x1p-24 * 8;
      for (size_t i = 0; i < a.size(); ++i)
        ASSERT_NEAR(a[i], e[i], absolute + relative * std::abs(e[i])) << b.graph.print();
    }
  }
  EXPECT_GT(fast * 2, cases); // the property would be empty if the fast path never applied
}

// transposed(slice(a)[:, heads] x broadcast transposed b) as attention writes it: one kernel, the copies are gone.
TEST(MatrixProduct, AbsorbsCopiesOfItsOperandsAndItsResult) {
  constexpr ElementType f32 = ElementType::f32;
  GraphBuilder b;
  auto copy = [&](ValueId from, Shape shape, AccessMap map) {
    ValueId to = b.value("copy", f32, shape);
    Kernel &k = b.kernel(KernelKind::Move, "copy");
    AccessMap plain;
    for (size_t d = 0; d < shape.size(); ++d) {
      k.loops.push_back({shape[d]});
      plain.push_back({0, {{static_cast<unsigned>(d), 1}}});
    }
    k.reads = {{from, std::move(map), {}}};
    k.writes = {{to, plain, Combiner::None, {}, {}}};
    k.body.inputs = {f32};
    k.body.results = {k.body.append(BlockOpcode::Input, f32, {}, 0)};
    return to;
  };
  ValueId a = b.input("a", f32, {5, 3, 40}), w = b.input("w", f32, {1, 7, 16}); // [place, head, size], [1, n, size]
  // elements 16 to 31 of the last dimension, then heads first
  ValueId slice = copy(a, {5, 3, 16}, {{0, {{0, 1}}}, {0, {{1, 1}}}, {16, {{2, 1}}}});
  ValueId heads = copy(slice, {3, 5, 16}, loopsMap({1, 0, 2}));
  ValueId shared = copy(w, {3, 16, 7}, {{0, {}}, {0, {{2, 1}}}, {0, {{1, 1}}}});
  ValueId product = b.value("product", f32, {3, 5, 7});
  b.contract({{3}, {5}, {7}, {16, true}}, {heads, loopsMap({0, 1, 3}), {}}, {shared, loopsMap({0, 3, 2}), {}}, product,
             loopsMap({0, 1, 2}));
  b.output(copy(product, {5, 3, 7}, loopsMap({1, 0, 2})));
  ASSERT_EQ(b.graph.verify(), "");
  HostPlan plan = makePlan(b.graph);
  EXPECT_EQ(plan.graph.verify(), "");
  EXPECT_EQ(plan.decisions.steps.size(), 1u) << plan.graph.print();
  EXPECT_EQ(plan.graph.kernels[0].nodes.size(), 5u) << "figures still name every node";
  std::vector<Tensor> inputs = {randomTensor(f32, {5, 3, 40}, 1), randomTensor(f32, {1, 7, 16}, 2)};
  std::vector<double> actual = doubles(run(b.graph, inputs)[0]), x = doubles(inputs[0]), y = doubles(inputs[1]);
  for (int64_t p = 0; p < 5; ++p)
    for (int64_t h = 0; h < 3; ++h)
      for (int64_t n = 0; n < 7; ++n) {
        double sum = 0;
        for (int64_t k = 0; k < 16; ++k)
          sum += x[(p * 3 + h) * 40 + 16 + k] * y[n * 16 + k];
        EXPECT_NEAR(actual[(p * 3 + h) * 7 + n], sum, 16 * 16 * 0x1p-24);
      }
}

// What else reads the result still finds it where it was.
TEST(MatrixProduct, KeepsAResultThatOthersRead) {
  constexpr ElementType f32 = ElementType::f32;
  GraphBuilder b;
  ValueId x = b.input("x", f32, {2, 3}), w = b.input("w", f32, {3, 4}), y = b.value("y", f32, {2, 4});
  b.contract({{2}, {4}, {3, true}}, {x, loopsMap({0, 2}), {}}, {w, loopsMap({2, 1}), {}}, y, loopsMap({0, 1}));
  ValueId z = b.value("z", f32, {4, 2});
  Kernel &k = b.kernel(KernelKind::Move, "transpose");
  k.loops = {{4}, {2}};
  k.reads = {{y, loopsMap({1, 0}), {}}};
  k.writes = {{z, loopsMap({0, 1}), Combiner::None, {}, {}}};
  k.body.inputs = {f32};
  k.body.results = {k.body.append(BlockOpcode::Input, f32, {}, 0)};
  b.output(y);
  b.output(z);
  std::vector<Tensor> inputs = {randomTensor(f32, {2, 3}, 1), randomTensor(f32, {3, 4}, 2)};
  auto out = run(b.graph, inputs);
  for (int64_t i = 0; i < 2; ++i)
    for (int64_t j = 0; j < 4; ++j)
      EXPECT_EQ(doubles(out[0])[i * 4 + j], doubles(out[1])[j * 2 + i]);
}

struct ConvolutionCase {
  int64_t batch, groups, inputs, outputs, height, width, tapsH, tapsW, stride, dilation, padBefore, padAfter;
  bool bias;
};

class Convolutions : public testing::TestWithParam<ConvolutionCase> {};

TEST_P(Convolutions, MatchSevenLoops) {
  ConvolutionCase c = GetParam();
  int64_t outH = (c.height + c.padBefore + c.padAfter - c.dilation * (c.tapsH - 1) - 1) / c.stride + 1;
  int64_t outW = (c.width + c.padBefore + c.padAfter - c.dilation * (c.tapsW - 1) - 1) / c.stride + 1;
  for (ElementType type :
       {ElementType::f32, ElementType::f16, ElementType::bf16, ElementType::f64, ElementType::i32, ElementType::u8}) {
    SCOPED_TRACE(nameOf(type).str());
    bool isByte = type == ElementType::u8; // times i8, with zero points: 7 is known, -3 is an operand
    ElementType resultType = isByte ? ElementType::i32 : type;
    double sourceZero = isByte ? 7 : 0, weightZero = isByte ? -3 : 0;
    GraphBuilder b;
    ValueId x = b.input("x", type, {c.batch, c.groups * c.inputs, c.height, c.width});
    ValueId w = b.input("w", isByte ? ElementType::i8 : type, {c.groups * c.outputs, c.inputs, c.tapsH, c.tapsW});
    ValueId y = b.value("y", resultType, {c.batch, c.groups, c.outputs, outH, outW});
    // loops: n g o h w i kh kw
    Kernel &k = b.contract(
        {{c.batch}, {c.groups}, {c.outputs}, {outH}, {outW}, {c.inputs, true}, {c.tapsH, true}, {c.tapsW, true}},
        {x,
         {{0, {{0, 1}}},
          {0, c.groups > 1 ? std::vector<std::pair<unsigned, int64_t>>{{1, c.inputs}, {5, 1}}
                           : std::vector<std::pair<unsigned, int64_t>>{{5, 1}}},
          {-c.padBefore, {{3, c.stride}, {6, c.dilation}}},
          {-c.padBefore, {{4, c.stride}, {7, c.dilation}}}},
         scalarOf(type, sourceZero)},
        {w, {{0, {{1, c.outputs}, {2, 1}}}, {0, {{5, 1}}}, {0, {{6, 1}}}, {0, {{7, 1}}}}, {}}, y,
        loopsMap({0, 1, 2, 3, 4}));
    std::vector<Tensor> inputs = {randomTensor(type, b.graph.values[x].shape, 1),
                                  randomTensor(b.graph.values[w].type, b.graph.values[w].shape, 2)};
    if (type == ElementType::i32) // products stay far from 2^31
      for (Tensor &input : inputs)
        for (int64_t i = 0; i < input.elements(); ++i)
          input.mutableData<int32_t>()[i] %= 1000;
    if (isByte) {
      ValueId zero = b.input("zero", ElementType::i8, {});
      inputs.push_back(Tensor::of<int8_t>(ElementType::i8, {}, {-3}));
      k.reads.push_back({zero, {}, {}});
      constexpr ElementType i32 = ElementType::i32;
      BlockExpression body;
      body.inputs = {type, ElementType::i8, ElementType::i8};
      auto wide = [&](unsigned r) {
        return body.append(BlockOpcode::Convert, i32, {body.append(BlockOpcode::Input, body.inputs[r], {}, r)});
      };
      Register left =
          body.append(BlockOpcode::Subtract, i32, {wide(0), body.append(BlockOpcode::Constant, i32, {}, 7)});
      Register right = body.append(BlockOpcode::Subtract, i32, {wide(1), wide(2)});
      body.results = {body.append(BlockOpcode::Multiply, i32, {left, right})};
      k.body = body;
    }
    if (c.bias) {
      ValueId bias = b.input("bias", resultType, {c.groups * c.outputs});
      k.writes[0].initialScalar.reset();
      k.writes[0].initial = Read{bias, {{0, {{1, c.outputs}, {2, 1}}}}, {}};
      inputs.push_back(randomTensor(resultType, {c.groups * c.outputs}, 3));
    }
    b.output(y);
    if (isFloat(type) && type != ElementType::f64) {
      EXPECT_NE(compileConvolution({&b.graph, &k, nullptr, {}}), nullptr) << "the fast path must take this form";
    }
    std::vector<double> data = doubles(inputs[0]), weights = doubles(inputs[1]), expected;
    std::vector<double> bias = c.bias ? doubles(inputs.back()) : std::vector<double>(c.groups * c.outputs, 0.0);
    for (int64_t n = 0; n < c.batch; ++n)
      for (int64_t m = 0; m < c.groups * c.outputs; ++m)
        for (int64_t h = 0; h < outH; ++h)
          for (int64_t v = 0; v < outW; ++v) {
            double sum = bias[m];
            for (int64_t i = 0; i < c.inputs; ++i)
              for (int64_t p = 0; p < c.tapsH; ++p)
                for (int64_t q = 0; q < c.tapsW; ++q) {
                  int64_t row = h * c.stride + p * c.dilation - c.padBefore;
                  int64_t column = v * c.stride + q * c.dilation - c.padBefore;
                  if (row < 0 || row >= c.height || column < 0 || column >= c.width)
                    continue;
                  int64_t channel = m / c.outputs * c.inputs + i;
                  sum +=
                      (data[((n * c.groups * c.inputs + channel) * c.height + row) * c.width + column] - sourceZero) *
                      (weights[((m * c.inputs + i) * c.tapsH + p) * c.tapsW + q] - weightZero);
                }
            expected.push_back(sum);
          }
    std::vector<std::byte> first;
    for (unsigned threads : {1u, 2u}) {
      setThreadCount(threads);
      auto actual = run(b.graph, inputs);
      OperationPointer patches = compileWindowedProduct(b.graph, k);
      ASSERT_NE(patches, nullptr) << "products of patches must take every form";
      Tensor ofPatches = runOperation(b.graph, *patches, inputs);
      setThreadCount(0);
      ASSERT_EQ(actual.size(), 1u);
      std::vector<std::byte> bytes(actual[0].bytes().begin(), actual[0].bytes().end());
      bytes.insert(bytes.end(), ofPatches.bytes().begin(), ofPatches.bytes().end());
      if (first.empty())
        first = bytes;
      EXPECT_EQ(bytes, first) << "threads change the result";
      double terms = static_cast<double>(c.inputs * c.tapsH * c.tapsW + 1);
      double relative = type == ElementType::f16 ? 0x1p-11 : type == ElementType::bf16 ? 0x1p-8 : 0;
      double absolute = !isFloat(type) ? 0 : terms * terms * (type == ElementType::f64 ? 0x1p-53 : 0x1p-24);
      for (const Tensor *result : {&actual[0], &ofPatches}) {
        std::vector<double> values = doubles(*result);
        ASSERT_EQ(values.size(), expected.size());
        for (size_t i = 0; i < values.size(); ++i)
          ASSERT_NEAR(values[i], expected[i], absolute + relative * std::abs(expected[i])) << "element " << i;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Convolutions,
                         testing::Values(ConvolutionCase{1, 1, 3, 8, 9, 10, 3, 3, 1, 1, 1, 1, true},
                                         ConvolutionCase{2, 1, 16, 32, 8, 8, 1, 1, 1, 1, 0, 0, true},
                                         ConvolutionCase{1, 1, 4, 5, 11, 12, 5, 3, 2, 1, 2, 1, false},
                                         ConvolutionCase{1, 1, 17, 9, 12, 12, 3, 3, 1, 2, 2, 2, true},
                                         ConvolutionCase{2, 4, 3, 2, 8, 9, 3, 3, 1, 1, 1, 1, true},
                                         ConvolutionCase{1, 16, 1, 1, 14, 14, 3, 3, 2, 1, 1, 1, true},
                                         ConvolutionCase{1, 5, 1, 2, 7, 7, 3, 3, 1, 1, 0, 1, false},
                                         // many points, and more channels than two blocks of them
                                         ConvolutionCase{1, 1, 3, 150, 40, 33, 1, 1, 1, 1, 0, 0, false},
                                         ConvolutionCase{1, 1, 70, 140, 6, 5, 3, 3, 1, 1, 1, 1, true}));

} // namespace
