// Structured forms of unstructured kernels compute the same as the kernels: every element, also of ties, NaN and
// indices that count from the end.
#include "graph/DropEmpty.h"
#include "graph/InlineComposites.h"
#include "graph/KernelQueries.h"
#include "graph/SplitZeroPoints.h"
#include "graph/StructureKernels.h"
#include "graph/WidenBf16.h"
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"

#include <gtest/gtest.h>

#include "llvm/ADT/bit.h"

#include <cmath>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;

namespace {

const auto f32 = ElementType::f32;
const auto i64 = ElementType::i64;

class StructureKernels : public testing::Test {
protected:
  GraphBuilder b;
  std::vector<Tensor> inputs;

  ValueId input(Tensor tensor) {
    inputs.push_back(tensor);
    return b.input("x" + std::to_string(inputs.size()), tensor.type(), tensor.shape());
  }
  // Few different values, so that many are equal; of floats some NaN and zeros of both signs.
  ValueId data(ElementType type, Shape shape) {
    std::mt19937 generator(17);
    std::vector<double> values(static_cast<size_t>(elementCount(shape)));
    for (double &value : values) {
      value = static_cast<double>(generator() % 7);
      if (isFloat(type))
        value = value == 5 ? NAN : value == 6 ? -0.0 : value - 2.5 * (generator() % 2);
    }
    Tensor tensor = Tensor::uninitialized(type, shape);
    convert(ElementType::f64, values.data(), type, tensor.mutableBytes(), values.size());
    return input(tensor);
  }
  ValueId indices(Shape shape, std::vector<int64_t> extents) {
    std::mt19937 generator(5);
    std::vector<int64_t> values(static_cast<size_t>(elementCount(shape)));
    for (size_t i = 0; i < values.size(); ++i) {
      int64_t extent = extents[i % extents.size()];
      values[i] = static_cast<int64_t>(generator() % (2 * extent)) - extent;
    }
    return input(Tensor::of<int64_t>(i64, shape, values));
  }
  ValueId result(ElementType type, Shape shape) {
    ValueId id = b.value("y" + std::to_string(b.graph.outputs.size()), type, shape);
    b.output(id);
    return id;
  }

  void expectTheSame(const KernelGraph &lowered) {
    ASSERT_EQ(b.graph.verify(), "");
    ASSERT_EQ(lowered.verify(), "");
    for (const Kernel &kernel : lowered.kernels)
      EXPECT_TRUE(kernel.structured() || kernel.operation == "reshape" || kernel.operation == "concat")
          << kernel.operation;
    auto right = evaluate(b.graph, inputs), got = evaluate(lowered, inputs);
    ASSERT_TRUE(bool(right)) << llvm::toString(right.takeError());
    ASSERT_TRUE(bool(got)) << llvm::toString(got.takeError());
    for (size_t i = 0; i < right->size(); ++i) {
      ASSERT_EQ((*got)[i].shape(), (*right)[i].shape());
      EXPECT_EQ((*got)[i].bytes(), (*right)[i].bytes()) << "output " << i;
    }
  }
  void expectTheSame() {
    expectTheSame(structureKernels(b.graph, [](const KernelGraph &, const Kernel &) { return false; }));
  }
};

TEST_F(StructureKernels, Gather) {
  for (int64_t axis : {0, 1, 2}) {
    Shape shape = {3, 4, 5}, to = shape;
    to.erase(to.begin() + axis);
    to.insert(to.begin() + axis, {2, 3});
    Kernel &kernel = b.plain("gather", {data(f32, shape), indices({2, 3}, {shape[axis]})}, {result(f32, to)});
    kernel.attributes["axis"] = axis;
  }
  b.plain("gather", {data(ElementType::boolean, {6}), indices({}, {6})}, {result(ElementType::boolean, {})})
      .attributes["axis"] = int64_t(0);
  expectTheSame();
}

TEST_F(StructureKernels, GatherElements) {
  for (int64_t axis : {0, 1, 2}) {
    Shape shape = {3, 4, 5}, given = {2, 3, 4};
    Kernel &kernel = b.plain("gather_elements", {data(ElementType::f16, shape), indices(given, {shape[axis]})},
                             {result(ElementType::f16, given)});
    kernel.attributes["axis"] = axis;
  }
  expectTheSame();
}

TEST_F(StructureKernels, GatherNd) {
  ValueId from = data(i64, {2, 3, 4});
  b.plain("gather_nd", {from, indices({5, 2}, {2, 3})}, {result(i64, {5, 4})}).attributes["batch_dims"] = int64_t(0);
  b.plain("gather_nd", {from, indices({5, 3}, {2, 3, 4})}, {result(i64, {5})}).attributes["batch_dims"] = int64_t(0);
  b.plain("gather_nd", {from, indices({2, 6, 1}, {3})}, {result(i64, {2, 6, 4})}).attributes["batch_dims"] = int64_t(1);
  expectTheSame();
}

TEST_F(StructureKernels, ScatterElements) {
  for (const char *reduction : {"none", "add", "mul", "min", "max"})
    for (int64_t axis : {0, 1}) {
      Shape shape = {4, 5}, given = {3, 3};
      Kernel &kernel = b.plain("scatter_elements", {data(f32, shape), indices(given, {shape[axis]}), data(f32, given)},
                               {result(f32, shape)});
      kernel.attributes["axis"] = axis;
      kernel.attributes["reduction"] = std::string(reduction);
    }
  expectTheSame();
}

TEST_F(StructureKernels, ScatterNd) {
  for (const char *reduction : {"none", "add", "mul", "min", "max"}) {
    auto i32 = ElementType::i32;
    b.plain("scatter_nd", {data(i32, {3, 4}), indices({6, 1}, {3}), data(i32, {6, 4})}, {result(i32, {3, 4})})
        .attributes["reduction"] = std::string(reduction);
    b.plain("scatter_nd", {data(i32, {3, 4}), indices({2, 4, 2}, {3, 4}), data(i32, {2, 4})}, {result(i32, {3, 4})})
        .attributes["reduction"] = std::string(reduction);
  }
  expectTheSame();
}

TEST_F(StructureKernels, ArgReduce) {
  for (const char *extremum : {"minimum", "maximum"})
    for (int64_t last : {0, 1})
      for (int64_t axis : {0, 1, 2})
        for (ElementType type : {f32, ElementType::u8}) {
          Shape shape = {3, 4, 6}, to = shape;
          to[axis] = 1;
          Kernel &kernel = b.plain("arg_reduce", {data(type, shape)}, {result(i64, to)});
          kernel.attributes["axis"] = axis;
          kernel.attributes["extremum"] = std::string(extremum);
          kernel.attributes["select_last"] = last;
        }
  b.plain("arg_reduce", {data(f32, {9})}, {result(i64, {})}).attributes = {{"axis", int64_t(0)},
                                                                           {"extremum", std::string("maximum")}};
  expectTheSame();
}

TEST_F(StructureKernels, Order) {
  for (int64_t descending : {0, 1})
    for (int64_t axis : {0, 1, 2}) {
      Shape shape = {3, 4, 6}, to = shape;
      b.plain("sort", {data(f32, shape)}, {result(f32, shape), result(i64, shape)}).attributes = {
          {"axis", axis}, {"descending", descending}};
      to[axis] = 2;
      b.plain("top_k", {data(ElementType::u32, shape)}, {result(ElementType::u32, to), result(i64, to)}).attributes = {
          {"axis", axis}, {"largest", descending}, {"sorted", int64_t(1)}};
    }
  expectTheSame();
}

TEST_F(StructureKernels, Cumulative) {
  auto i32 = ElementType::i32;
  for (const char *accumulation : {"sum", "product"})
    for (int64_t axis : {0, 1})
      for (int64_t flags : {0, 1, 2, 3})
        b.plain("cumulative", {data(i32, {5, 7})}, {result(i32, {5, 7})}).attributes = {
            {"axis", axis},
            {"accumulation", std::string(accumulation)},
            {"exclusive", flags & 1},
            {"reverse", flags >> 1}};
  expectTheSame();
}

// s' = s * slice + capture, and as outputs s' and the slice: over both directions, along both axes.
TEST_F(StructureKernels, UnrolledScan) {
  auto i32 = ElementType::i32;
  GraphBuilder body;
  ValueId state = body.input("s", i32, {3}), slice = body.input("x", i32, {3}), capture = body.input("c", i32, {3});
  ValueId next = body.value("t", i32, {3});
  Kernel &step = body.kernel(KernelKind::Map, "step");
  step.loops = {{3, false}};
  for (ValueId id : {state, slice, capture}) {
    step.reads.push_back({id, loopsMap({0}), {}});
    step.body.inputs.push_back(i32);
    step.body.append(BlockOpcode::Input, i32, {}, step.reads.size() - 1);
  }
  Register product = step.body.append(BlockOpcode::Multiply, i32, {0, 1});
  step.body.results = {step.body.append(BlockOpcode::Add, i32, {product, 2})};
  step.writes = {{next, loopsMap({0}), Combiner::None, {}, {}}};
  for (ValueId id : {next, next, slice})
    body.output(id);

  for (int64_t axis : {0, 1}) {
    Shape whole = axis == 0 ? Shape{4, 3} : Shape{3, 4};
    Kernel &scan = b.plain("scan", {data(i32, {3}), data(i32, whole), data(i32, {3})},
                           {result(i32, {3}), result(i32, whole), result(i32, whole)});
    scan.region = std::make_shared<KernelGraph>(body.graph);
    scan.attributes = {{"states", int64_t(1)},
                       {"sequences", int64_t(1)},
                       {"trip_count", int64_t(4)},
                       {"input_axes", std::vector<int64_t>{axis}},
                       {"input_reversed", std::vector<int64_t>{axis}},
                       {"output_axes", std::vector<int64_t>{axis, axis}},
                       {"output_reversed", std::vector<int64_t>{0, 1}}};
  }
  EXPECT_EQ(unrolledKernels(b.graph), 8);
  expectTheSame(unrollScans(b.graph));
}

TEST_F(StructureKernels, RandomBits) {
  auto u32 = ElementType::u32;
  b.plain("random_bits", {}, {result(u32, {3, 7})}).attributes = {{"seed", int64_t(0x123456789abcdef)},
                                                                  {"offset", int64_t(5)}};
  b.plain("random_bits", {}, {result(u32, {9})}).attributes = {{"offset", (int64_t(1) << 34) - 3}};
  b.plain("random_bits", {input(Tensor::of<int64_t>(i64, {}, {int64_t(-77)}))}, {result(u32, {6})});
  expectTheSame();
}

TEST_F(StructureKernels, ValuesWithoutElementsAreNotTouched) {
  ValueId nothing = data(f32, {2, 0}), some = data(f32, {2, 3});
  auto over = [&](std::optional<Scalar> scalar, std::optional<Read> initial) { // sums of 2 rows of nothing
    Kernel &kernel = b.kernel(KernelKind::Reduce, "sum");
    kernel.loops = {{0, true}, {2, false}};
    kernel.reads = {{nothing, loopsMap({1, 0}), {}}};
    kernel.body.inputs = {f32};
    kernel.body.results = {kernel.body.append(BlockOpcode::Input, f32, {}, 0)};
    kernel.writes = {{result(f32, {2}), loopsMap({1}), Combiner::Sum, scalar, initial}};
  };
  over(Scalar{f32, bitsFromDouble(f32, 7)}, std::nullopt);
  over(std::nullopt, Read{some, {{0, {{1, 1}}}, {2, {}}}, {}});
  // y[i, j] = nothing[i, j - 1] or 4, times some[i, j]
  Kernel &padded = b.kernel(KernelKind::Map, "padded");
  padded.loops = {{2, false}, {3, false}};
  padded.reads = {{nothing, {{0, {{0, 1}}}, {-1, {{1, 1}}}}, Scalar{f32, bitsFromDouble(f32, 4)}},
                  {some, loopsMap({0, 1}), {}}};
  padded.body.inputs = {f32, f32};
  Register first = padded.body.append(BlockOpcode::Input, f32, {}, 0);
  Register second = padded.body.append(BlockOpcode::Input, f32, {}, 1);
  padded.body.results = {padded.body.append(BlockOpcode::Multiply, f32, {first, second})};
  padded.writes = {{result(f32, {2, 3}), loopsMap({0, 1}), Combiner::None, {}, {}}};
  b.plain("concat", {nothing, some, nothing}, {result(f32, {2, 3})}).attributes["axis"] = int64_t(1);
  b.plain("reshape", {nothing}, {result(f32, {0, 5})});
  b.plain("insert_slice", {nothing, some}, {result(f32, {2, 3})}).attributes = {
      {"offsets", std::vector<int64_t>{0, 0}},
      {"sizes", std::vector<int64_t>{2, 0}},
      {"strides", std::vector<int64_t>{1, 1}}};
  KernelGraph lowered = dropEmpty(b.graph);
  for (const Kernel &kernel : lowered.kernels) {
    EXPECT_FALSE(hasNoPoints(kernel.loops));
    for (ValueId operand : operandsOf(kernel))
      EXPECT_NE(operand, nothing) << kernel.operation;
  }
  lowered.kernels.push_back(b.graph.kernels[4]); // the reshape of nothing, which the host wants written
  EXPECT_EQ(lowered.kernels.back().operation, "reshape");
  expectTheSame(lowered);
}

// Products of what is left of u8 and i8 when zero points are subtracted.
class ZeroPoints : public StructureKernels {
protected:
  // Reads of lhs, rhs and zero points of both, each with its map; a constant zero point where there is no read.
  void product(std::vector<Loop> loops, Read lhs, Read rhs, std::optional<Read> p, std::optional<Read> q, int64_t known,
               ValueId to, AccessMap map) {
    auto i32 = ElementType::i32;
    Kernel &kernel = b.kernel(KernelKind::Contract, "product");
    kernel.loops = std::move(loops);
    auto input = [&](const Read &read) {
      ElementType type = b.graph.values[read.value].type;
      kernel.reads.push_back(read);
      kernel.body.inputs.push_back(type);
      Register value = kernel.body.append(BlockOpcode::Input, type, {}, kernel.reads.size() - 1);
      return kernel.body.append(BlockOpcode::Convert, i32, {value});
    };
    auto minus = [&](Register value, const std::optional<Read> &zero) {
      Register of =
          zero ? input(*zero) : kernel.body.append(BlockOpcode::Constant, i32, {}, static_cast<uint32_t>(known));
      return kernel.body.append(BlockOpcode::Subtract, i32, {value, of});
    };
    Register left = input(lhs), right = input(rhs);
    left = minus(left, p);
    right = minus(right, q);
    kernel.body.results = {kernel.body.append(BlockOpcode::Multiply, i32, {left, right})};
    kernel.writes = {{to, std::move(map), Combiner::Sum, Scalar{i32, 5}, std::nullopt}};
    kernel.numeric = defaultNumeric(b.graph, kernel);
  }
  Read scalar(Tensor tensor) { return {input(tensor), {}, std::nullopt}; }
  void expectNoneLeft() {
    KernelGraph split = splitZeroPoints(b.graph);
    for (const Kernel &kernel : split.kernels)
      if (kernel.kind == KernelKind::Contract) {
        auto contraction = inferContraction(split, kernel);
        ASSERT_TRUE(contraction.has_value());
        EXPECT_FALSE(contraction->lhsZeroPoint || contraction->rhsZeroPoint || contraction->lhsZeroConstant ||
                     contraction->rhsZeroConstant);
      }
    expectTheSame(split);
  }
  const ElementType u8 = ElementType::u8, i8 = ElementType::i8, i32 = ElementType::i32;
};

TEST_F(ZeroPoints, OfBatchedMatrices) {
  // loops: batch 2, m 3, n 4, k 5
  std::vector<Loop> loops = {{2, false}, {3, false}, {4, false}, {5, true}};
  Read lhs{data(u8, {2, 3, 5}), loopsMap({0, 1, 3}), {}}, rhs{data(i8, {5, 4}), loopsMap({3, 2}), {}};
  Read constant{b.constant("w", host::randomTensor(i8, {5, 4}, 3)), loopsMap({3, 2}), {}};
  AccessMap map = loopsMap({0, 1, 2});
  Read byRow{data(u8, {3}), loopsMap({1}), {}}, byColumn{data(i8, {4}), loopsMap({2}), {}};
  product(loops, lhs, rhs, scalar(Tensor::of<uint8_t>(u8, {}, {uint8_t(200)})), byColumn, 0, result(i32, {2, 3, 4}),
          map);
  product(loops, lhs, constant, byRow, byColumn, 0, result(i32, {2, 3, 4}), map);
  product(loops, lhs, constant, std::nullopt, std::nullopt, 7, result(i32, {2, 3, 4}), map);
  expectNoneLeft();
}

// What a known zero point of one operand and known elements of the other come to is where the sums start.
TEST_F(ZeroPoints, OfConstantsAreWhereTheSumsStart) {
  // loops: channel out 2, y 4, x 4, channel in 3, ky 3, kx 3; one element of padding before and after
  std::vector<Loop> loops = {{2, false}, {4, false}, {4, false}, {3, true}, {3, true}, {3, true}};
  AccessMap windows = {{0, {{3, 1}}}, {-1, {{1, 1}, {4, 1}}}, {-1, {{2, 1}, {5, 1}}}};
  Read filter{b.constant("w", host::randomTensor(i8, {2, 3, 3, 3}, 4)), loopsMap({0, 3, 4, 5}), {}};
  auto scalarConstant = [&](ElementType type, uint8_t value) {
    return Read{b.constant("", Tensor::of<uint8_t>(type, {}, {value})), {}, {}};
  };
  for (uint64_t padding : {9, 0}) {
    product(loops, {data(u8, {3, 4, 4}), windows, Scalar{u8, padding}}, filter, scalarConstant(u8, 9),
            scalarConstant(i8, 0), 0, result(i32, {2, 4, 4}), loopsMap({0, 1, 2}));
  }
  // From a bias of each channel; one of each row of the result leaves no room for a correction of each channel.
  product(loops, {data(u8, {3, 4, 4}), windows, Scalar{u8, 9}}, filter, scalarConstant(u8, 9), scalarConstant(i8, 0), 0,
          result(i32, {2, 4, 4}), loopsMap({0, 1, 2}));
  b.graph.kernels.back().writes[0].initialScalar.reset();
  b.graph.kernels.back().writes[0].initial =
      Read{b.constant("bias", host::randomTensor(i32, {2}, 5)), loopsMap({0}), {}};
  EXPECT_EQ(splitZeroPoints(b.graph).kernels.size(), 3u);
  product(loops, {data(u8, {3, 4, 4}), windows, Scalar{u8, 9}}, filter, scalarConstant(u8, 9), scalarConstant(i8, 0), 0,
          result(i32, {2, 4, 4}), loopsMap({0, 1, 2}));
  b.graph.kernels.back().writes[0].initialScalar.reset();
  b.graph.kernels.back().writes[0].initial =
      Read{b.constant("rows", host::randomTensor(i32, {4}, 6)), loopsMap({1}), {}};
  EXPECT_EQ(splitZeroPoints(b.graph).kernels.size(), 5u);
  expectNoneLeft();
}

// Known factors less a known zero point: one product, or two where the differences are no bytes.
TEST_F(ZeroPoints, OfConstantsAreSubtractedThere) {
  std::vector<Loop> loops = {{3, false}, {4, false}, {5, true}}; // m, n, k
  Read lhs{data(u8, {3, 5}), loopsMap({0, 2}), {}};
  auto factors = [&](ElementType type, std::vector<uint8_t> bits) {
    bits.resize(20, 7);
    return Read{b.constant("w", Tensor::of<uint8_t>(type, {5, 4}, bits)), loopsMap({2, 1}), {}};
  };
  auto zero = [&](ElementType type, uint8_t value) {
    return Read{b.constant("", Tensor::of<uint8_t>(type, {}, {value})), {}, {}};
  };
  size_t before = 0;
  auto kernels = [&](Read rhs, Read q) {
    product(loops, lhs, std::move(rhs), zero(u8, 9), std::move(q), 0, result(i32, {3, 4}), loopsMap({0, 1}));
    size_t now = splitZeroPoints(b.graph).kernels.size(), added = now - before;
    before = now;
    return added;
  };
  EXPECT_EQ(kernels(factors(u8, {0, 3, 255}), zero(u8, 128)), 1u);     // -128 .. 127
  EXPECT_EQ(kernels(factors(i8, {0x80, 3, 127}), zero(i8, 0x80)), 1u); // 0 .. 255
  EXPECT_EQ(kernels(factors(u8, {0, 3, 255}), zero(u8, 125)), 2u);     // -125 .. 130
  EXPECT_EQ(kernels(factors(i8, {0x80, 3, 127}), zero(i8, 100)), 2u);  // -228 .. 27
  expectNoneLeft();
}

TEST_F(ZeroPoints, OfConvolutionsWithPadding) {
  // loops: channel out 2, y 4, x 4, channel in 3, ky 3, kx 3; one element of padding before and after
  std::vector<Loop> loops = {{2, false}, {4, false}, {4, false}, {3, true}, {3, true}, {3, true}};
  AccessMap windows = {{0, {{3, 1}}}, {-1, {{1, 1}, {4, 1}}}, {-1, {{2, 1}, {5, 1}}}};
  Read image{data(u8, {3, 4, 4}), windows, Scalar{u8, 9}};
  Read filter{data(u8, {2, 3, 3, 3}), loopsMap({0, 3, 4, 5}), {}};
  product(loops, image, filter, scalar(Tensor::of<uint8_t>(u8, {}, {uint8_t(9)})),
          Read{data(u8, {2}), loopsMap({0}), {}}, 0, result(i32, {2, 4, 4}), loopsMap({0, 1, 2}));
  expectNoneLeft();
}

// Products of bf16, what rounds f32 to it, the largest of some and a constant: the same bits without any bf16.
TEST_F(StructureKernels, BrainFloatsAreHeldAsF32) {
  const ElementType bf16 = ElementType::bf16;
  std::mt19937 generator(3);
  std::vector<float> wide(64);
  for (float &value : wide) // all bits, so that ties and roundings up to the next exponent occur
    value = llvm::bit_cast<float>(static_cast<uint32_t>(0x3f000000 + (generator() & 0xffffff)));
  wide[0] = llvm::bit_cast<float>(0x3f808000u); // ties: down to even, up to even, up to infinity
  wide[1] = llvm::bit_cast<float>(0x3f818000u);
  wide[2] = llvm::bit_cast<float>(0x7f7fffffu);
  wide[3] = -INFINITY;
  ValueId x = input(Tensor::of<float>(f32, {8, 8}, wide));
  ValueId narrow = input(convert(Tensor::of<float>(f32, {8, 8}, wide), bf16));
  ValueId weight = b.constant("w", host::randomTensor(bf16, {8, 8}, 3));
  auto map = [&](std::vector<ValueId> reads, BlockOpcode opcode, ElementType to) {
    Kernel &kernel = b.kernel(KernelKind::Map, "map");
    kernel.loops = {{8, false}, {8, false}};
    std::vector<Register> operands;
    for (ValueId id : reads) {
      kernel.reads.push_back({id, loopsMap({0, 1}), {}});
      kernel.body.inputs.push_back(b.graph.values[id].type);
      operands.push_back(kernel.body.append(BlockOpcode::Input, b.graph.values[id].type, {}, operands.size()));
    }
    kernel.body.results = {kernel.body.append(opcode, to, operands)};
    kernel.writes = {{result(to, {8, 8}), loopsMap({0, 1}), Combiner::None, {}, {}}};
    return kernel.writes[0].value;
  };
  map({x}, BlockOpcode::Convert, bf16);
  ValueId product = map({narrow, weight}, BlockOpcode::Multiply, bf16);
  map({product}, BlockOpcode::Convert, f32);
  map({product}, BlockOpcode::Bitcast, ElementType::u16);
  Kernel &largest = b.kernel(KernelKind::Reduce, "max");
  largest.loops = {{8, false}, {8, true}};
  largest.reads = {{product, loopsMap({0, 1}), {}}};
  largest.body.inputs = {bf16};
  largest.body.results = {largest.body.append(BlockOpcode::Input, bf16, {}, 0)};
  largest.writes = {
      {result(bf16, {8}), loopsMap({0}), Combiner::Maximum, Scalar{bf16, bitsFromDouble(bf16, -1e9)}, std::nullopt}};
  b.output(weight);

  KernelGraph widened = widenBf16(b.graph);
  ASSERT_EQ(b.graph.verify(), "");
  ASSERT_EQ(widened.verify(), "");
  for (const Value &value : widened.values)
    EXPECT_NE(value.type, bf16);
  auto right = llvm::cantFail(evaluate(b.graph, inputs));
  inputs[1] = Tensor::borrow(ElementType::u16, {8, 8}, inputs[1].bytes(), std::make_shared<Tensor>(inputs[1]));
  auto got = llvm::cantFail(evaluate(widened, inputs));
  for (size_t i = 0; i < right.size(); ++i)
    EXPECT_EQ(got[i].bytes(), right[i].bytes()) << "output " << i;
}

} // namespace
