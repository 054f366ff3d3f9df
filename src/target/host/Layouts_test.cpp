// Channels-last chains of convolutions, windows and concatenations against plain loop nests.
#include "base/Parallel.h"
#include "target/Target.h"
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"
#include "target/host/Payload.h"
#include "target/host/Plan.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

using namespace quadrille;
using namespace quadrille::graph;
using namespace quadrille::host;
using testing::HasSubstr;

namespace {

ValueId convolve(GraphBuilder &b, ValueId x, int64_t channels, int64_t taps, uint32_t seed) {
  ElementType type = b.graph.values[x].type;
  Shape from = b.graph.values[x].shape;
  ValueId w = b.constant("w", randomTensor(type, {channels, from[1], taps, taps}, seed));
  ValueId y = b.value("y" + std::to_string(seed), type, {from[0], channels, from[2], from[3]});
  int64_t pad = taps / 2;
  b.contract({{from[0]}, {channels}, {from[2]}, {from[3]}, {from[1], true}, {taps, true}, {taps, true}},
             {x, {{0, {{0, 1}}}, {0, {{4, 1}}}, {-pad, {{2, 1}, {5, 1}}}, {-pad, {{3, 1}, {6, 1}}}}, scalarOf(type, 0)},
             {w, loopsMap({1, 4, 5, 6}), {}}, y, loopsMap({0, 1, 2, 3}));
  return y;
}

ValueId relu(GraphBuilder &b, ValueId x) {
  ElementType type = b.graph.values[x].type;
  Shape shape = b.graph.values[x].shape;
  ValueId y = b.value("relu", type, shape);
  Kernel &k = b.kernel(KernelKind::Map, "relu");
  for (int64_t extent : shape)
    k.loops.push_back({extent});
  k.reads = {{x, loopsMap({0, 1, 2, 3}), {}}};
  k.writes = {{y, loopsMap({0, 1, 2, 3}), Combiner::None, {}, {}}};
  k.body.inputs = {type};
  Register p = k.body.append(BlockOpcode::Input, type, {}, 0), z = k.body.append(BlockOpcode::Constant, type);
  k.body.results = {k.body.append(BlockOpcode::Maximum, type, {p, z})};
  return y;
}

// 3 x 3 in steps of 2 with one place of padding.
ValueId pool(GraphBuilder &b, ValueId x) {
  ElementType type = b.graph.values[x].type;
  Shape shape = b.graph.values[x].shape;
  int64_t rows = (shape[2] - 1) / 2 + 1, columns = (shape[3] - 1) / 2 + 1;
  ValueId y = b.value("pool", type, {shape[0], shape[1], rows, columns});
  Kernel &k = b.kernel(KernelKind::Window, "pool");
  k.loops = {{shape[0]}, {shape[1]}, {rows}, {columns}, {3, true}, {3, true}};
  k.reads = {
      {x, {{0, {{0, 1}}}, {0, {{1, 1}}}, {-1, {{2, 2}, {4, 1}}}, {-1, {{3, 2}, {5, 1}}}}, scalarOf(type, -INFINITY)}};
  k.writes = {{y, loopsMap({0, 1, 2, 3}), Combiner::Maximum, scalarOf(type, -INFINITY), {}}};
  k.body.inputs = {type};
  k.body.results = {k.body.append(BlockOpcode::Input, type, {}, 0)};
  return y;
}

// Of the value of that name: planning renumbers values.
Layout layoutOf(const HostPlan &plan, llvm::StringRef name) {
  for (auto [id, value] : llvm::enumerate(plan.graph.values))
    if (value.name == name)
      return plan.decisions.layouts[id];
  ADD_FAILURE() << "no value " << name.str();
  return Layout::Plain;
}

class ChannelsLast : public testing::TestWithParam<ElementType> {
protected:
  void SetUp() override {
    x = b.input("x", GetParam(), {2, 3, 33, 30});
    ValueId pooled = pool(b, relu(b, convolve(b, x, 20, 5, 1)));
    ValueId left = relu(b, convolve(b, pooled, 16, 1, 2)), right = convolve(b, pooled, 9, 3, 3);
    ValueId joined = b.value("joined", GetParam(), {2, 25, 17, 15});
    b.plain("concat", {left, right}, {joined}).attributes["axis"] = int64_t(1);
    b.output(convolve(b, joined, 7, 3, 4));
    ASSERT_EQ(b.graph.verify(), "");
  }
  GraphBuilder b;
  ValueId x = 0;
};

TEST_P(ChannelsLast, EqualsThePlainNests) {
  HostPlan plan = makePlan(b.graph);
  // The first and the second ReLU, the pool, the right convolution and the concatenation.
  EXPECT_EQ(std::count(plan.decisions.layouts.begin(), plan.decisions.layouts.end(), Layout::ChannelsLast), 5);
  EXPECT_EQ(plan.decisions.steps.size(), 6u); // of 8 kernels
  Tensor input = randomTensor(GetParam(), {2, 3, 33, 30}, 9);
  std::vector<double> expected = doubles(llvm::cantFail(evaluatePlain(b.graph, {input}))[0]);
  std::vector<std::byte> first;
  for (unsigned threads : {1u, 2u}) {
    setThreadCount(threads);
    Tensor actual = llvm::cantFail(evaluate(b.graph, {input}))[0];
    setThreadCount(0);
    std::vector<std::byte> bytes(actual.bytes().begin(), actual.bytes().end());
    if (first.empty())
      first = bytes;
    EXPECT_EQ(bytes, first) << "threads change the result";
    std::vector<double> values = doubles(actual);
    ASSERT_EQ(values.size(), expected.size());
    double norm = 0, error = 0;
    for (size_t i = 0; i < values.size(); ++i) {
      norm += expected[i] * expected[i];
      error += (values[i] - expected[i]) * (values[i] - expected[i]);
    }
    // A different order of f32 sums moves a rounding to the type now and then.
    EXPECT_LT(std::sqrt(error / norm), GetParam() == ElementType::f32 ? 1e-6 : 5e-4);
    EXPECT_GT(norm, 1);
  }
}

TEST_P(ChannelsLast, NanPassesThroughRelu) {
  GraphBuilder one;
  ValueId y = relu(one, convolve(one, one.input("x", GetParam(), {1, 1, 4, 4}), 2, 1, 1));
  one.output(y);
  Tensor input = Tensor::zeros(GetParam(), {1, 1, 4, 4});
  double nan = NAN;
  convert(ElementType::f64, &nan, GetParam(), input.mutableBytes(), 1);
  ASSERT_EQ(makePlan(one.graph).decisions.steps.size(), 1u);
  std::vector<double> values = doubles(llvm::cantFail(evaluate(one.graph, {input}))[0]);
  EXPECT_TRUE(std::isnan(values[0]));
  EXPECT_EQ(values[1], 0);
}

TEST_P(ChannelsLast, ProgramsCarryAndCheckIt) {
  const target::Target &target = *target::find("host");
  machine::Machine machine = llvm::cantFail(machine::Machine::load("host"));
  auto plan = llvm::cantFail(target.plan(b.graph, machine, {}));
  program::Program program = llvm::cantFail(target.emit(b.graph, *plan, machine));
  auto firstFinding = [&](llvm::function_ref<void(schema::ProgramT &)> change) {
    auto contents = llvm::cantFail(payloadOf(program));
    change(*contents);
    program::Program changed = program;
    setPayload(changed, *contents);
    target::Verdict verdict = llvm::cantFail(target.check(changed));
    return verdict.legal() ? "" : verdict.findings[0].where + ": " + verdict.findings[0].message;
  };
  auto layoutOf = [](schema::ProgramT &p, llvm::StringRef name) -> std::string & {
    for (auto &value : p.graph->values)
      if (value->name == name)
        return value->layout;
    llvm_unreachable("no such value");
  };
  EXPECT_EQ(firstFinding([](auto &) {}), "");
  std::string text;
  llvm::raw_string_ostream os(text);
  llvm::cantFail(target.disassemble(program, os));
  EXPECT_THAT(text, HasSubstr("layout: \"channels_last\""));
  EXPECT_EQ(llvm::cantFail(target.assemble(text, "p.txt")).payload(), program.payload());
  EXPECT_THAT(firstFinding([&](auto &p) { layoutOf(p, "joined") = ""; }), HasSubstr("mixes channels-last"));
  EXPECT_THAT(firstFinding([&](auto &p) { layoutOf(p, "w") = "channels_last"; }), HasSubstr("kernel cannot"));
  EXPECT_THAT(firstFinding([&](auto &p) { layoutOf(p, "x") = "channels_last"; }), HasSubstr("cannot be channels-last"));
  EXPECT_THAT(firstFinding([&](auto &p) { layoutOf(p, "x") = "diagonal"; }), HasSubstr("unknown layout"));
  EXPECT_THAT(firstFinding([&](auto &p) { p.steps[1]->kernels.push_back(p.steps[2]->kernels[0]); }),
              HasSubstr("kernels run as one only"));
}

INSTANTIATE_TEST_SUITE_P(Types, ChannelsLast, testing::Values(ElementType::f32, ElementType::f16, ElementType::bf16));

// relu(result * scale[channel] + shift + gate[image, channel] + other), as normalisation, gating and a residual give
// it.
struct Follower {
  GraphBuilder b;
  ValueId x;

  // `otherIsConvolved`: the residual comes from a convolution of its own, channels-last; else it is an input.
  explicit Follower(bool otherIsConvolved) {
    constexpr ElementType f32 = ElementType::f32;
    x = b.input("x", f32, {2, 3, 67, 29});
    Shape shape = {2, 37, 67, 29};
    ValueId other = otherIsConvolved ? convolve(b, x, 37, 3, 2) : b.input("other", f32, shape);
    ValueId y = convolve(b, x, 37, 3, 1);
    ValueId scale = b.constant("scale", randomTensor(f32, {37}, 3)),
            shift = b.constant("shift", randomTensor(f32, {1}, 4));
    ValueId gate = b.input("gate", f32, {2, 37, 1, 1});
    ValueId follows = b.value("follows", f32, shape);
    Kernel &k = b.kernel(KernelKind::Map, "normalize");
    k.loops = {{2}, {37}, {67}, {29}};
    AccessMap all = loopsMap({0, 1, 2, 3});
    k.reads = {{scale, loopsMap({1}), {}},
               {other, all, {}},
               {y, all, {}},
               {shift, {{0, {}}}, {}},
               {gate, {{0, {{0, 1}}}, {0, {{1, 1}}}, {0, {}}, {0, {}}}, {}}};
    k.writes = {{follows, all, Combiner::None, {}, {}}};
    k.body.inputs.assign(5, f32);
    std::vector<Register> in;
    for (uint64_t r = 0; r < 5; ++r)
      in.push_back(k.body.append(BlockOpcode::Input, f32, {}, r));
    Register sum = k.body.append(BlockOpcode::Multiply, f32, {in[2], in[0]});
    for (unsigned r : {3u, 4u, 1u})
      sum = k.body.append(BlockOpcode::Add, f32, {sum, in[r]});
    Register zero = k.body.append(BlockOpcode::Constant, f32);
    k.body.results = {k.body.append(BlockOpcode::Maximum, f32, {sum, zero})};
    ValueId last = convolve(b, pool(b, follows), 5, 1, 5);
    b.output(last);
  }
  std::vector<Tensor> inputs() const {
    std::vector<Tensor> tensors;
    for (ValueId id : b.graph.inputs)
      tensors.push_back(randomTensor(ElementType::f32, b.graph.values[id].shape, 20 + id));
    return tensors;
  }
};

class Followers : public testing::TestWithParam<bool> {};

TEST_P(Followers, RunWithTheConvolutionAndEqualThePlainNests) {
  Follower f(GetParam());
  ASSERT_EQ(f.b.graph.verify(), "");
  HostPlan plan = makePlan(f.b.graph);
  // [the other convolution,] the convolution with its follower, the pool, the last convolution
  EXPECT_EQ(plan.decisions.steps.size(), GetParam() ? 4u : 3u);
  EXPECT_EQ(layoutOf(plan, "follows"), Layout::ChannelsLast);
  std::vector<Tensor> inputs = f.inputs();
  std::vector<double> expected = doubles(llvm::cantFail(evaluatePlain(f.b.graph, inputs))[0]);
  std::vector<double> values = doubles(llvm::cantFail(evaluate(f.b.graph, inputs))[0]);
  ASSERT_EQ(values.size(), expected.size());
  double norm = 0, error = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    norm += expected[i] * expected[i];
    error += (values[i] - expected[i]) * (values[i] - expected[i]);
  }
  EXPECT_LT(std::sqrt(error / norm), 1e-6);
  EXPECT_GT(norm, 1);
}

INSTANTIATE_TEST_SUITE_P(OtherIsConvolved, Followers, testing::Bool());

// Elementwise kernels and reductions take channels-last operands as they lie.
TEST(LoopNests, GoByTheStridesOfTheLayout) {
  GraphBuilder b;
  constexpr ElementType f32 = ElementType::f32;
  ValueId y = convolve(b, b.input("x", f32, {2, 3, 6, 5}), 24, 3, 1);
  ValueId z = b.value("z", f32, {2, 24, 6, 5}), mean = b.value("mean", f32, {2, 24, 1, 1});
  Kernel &k = b.kernel(KernelKind::Map, "square"); // y is read twice: no follower
  k.loops = {{2}, {24}, {6}, {5}};
  k.reads = {{y, loopsMap({0, 1, 2, 3}), {}}};
  k.writes = {{z, loopsMap({0, 1, 2, 3}), Combiner::None, {}, {}}};
  k.body.inputs = {f32};
  Register p = k.body.append(BlockOpcode::Input, f32, {}, 0);
  k.body.results = {k.body.append(BlockOpcode::Multiply, f32, {p, p})};
  Kernel &r = b.kernel(KernelKind::Reduce, "sum");
  r.loops = {{2}, {24}, {6, true}, {5, true}};
  r.reads = {{z, loopsMap({0, 1, 2, 3}), {}}};
  r.writes = {{mean, {{0, {{0, 1}}}, {0, {{1, 1}}}, {0, {}}, {0, {}}}, Combiner::Sum, scalarOf(f32, 0), {}}};
  r.body.inputs = {f32};
  r.body.results = {r.body.append(BlockOpcode::Input, f32, {}, 0)};
  b.output(mean);
  b.output(convolve(b, y, 4, 1, 7));
  ASSERT_EQ(b.graph.verify(), "");
  HostPlan plan = makePlan(b.graph);
  EXPECT_EQ(layoutOf(plan, "y1"), Layout::ChannelsLast);
  EXPECT_EQ(layoutOf(plan, "z"), Layout::ChannelsLast);
  std::vector<Tensor> inputs = {randomTensor(f32, {2, 3, 6, 5}, 1)};
  auto expected = llvm::cantFail(evaluatePlain(b.graph, inputs)), actual = llvm::cantFail(evaluate(b.graph, inputs));
  for (size_t o = 0; o < expected.size(); ++o)
    EXPECT_THAT(doubles(actual[o]), testing::Pointwise(testing::DoubleNear(1e-5), doubles(expected[o])));
}

struct ForeignArithmetic {
  graph::Numeric numeric;
  const char *reason;
};
class HostNumeric : public testing::TestWithParam<ForeignArithmetic> {};

// What a kernel asks for and the host does not do is refused wherever a graph comes in, never ignored.
TEST_P(HostNumeric, ForeignArithmeticIsRefused) {
  GraphBuilder b;
  auto x = b.input("x", ElementType::f32, {2, 3}), y = b.input("y", ElementType::f32, {3, 4});
  auto z = b.value("z", ElementType::f32, {2, 4});
  b.contract({{2}, {4}, {3, true}}, {x, loopsMap({0, 2}), {}}, {y, loopsMap({2, 1}), {}}, z, loopsMap({0, 1}));
  b.output(z);
  std::vector<Tensor> inputs = {Tensor::zeros(ElementType::f32, {2, 3}), Tensor::zeros(ElementType::f32, {3, 4})};
  EXPECT_TRUE(static_cast<bool>(evaluate(b.graph, inputs)));
  b.graph.kernels[0].numeric = GetParam().numeric;
  const target::Target &target = *target::find("host");
  machine::Machine machine = llvm::cantFail(machine::Machine::load("host"));
  target::Support support = target.supports(b.graph, b.graph.kernels[0], machine);
  EXPECT_FALSE(support.supported);
  EXPECT_THAT(support.reason, HasSubstr(GetParam().reason));
  auto plan = target.plan(b.graph, machine, {});
  ASSERT_FALSE(static_cast<bool>(plan));
  EXPECT_THAT(llvm::toString(plan.takeError()), HasSubstr(GetParam().reason));
  for (auto *function : {evaluate, evaluatePlain}) {
    auto result = function(b.graph, inputs);
    ASSERT_FALSE(static_cast<bool>(result));
    EXPECT_THAT(llvm::toString(result.takeError()), HasSubstr(GetParam().reason));
  }
}

constexpr ElementType f16 = ElementType::f16, f32 = ElementType::f32;
INSTANTIATE_TEST_SUITE_P(
    Kinds, HostNumeric,
    testing::Values(ForeignArithmetic{{f32, f32, f32, Rounding::Stochastic}, "does not round stochastically"},
                    ForeignArithmetic{{f16, f32, f32, Rounding::NearestEven}, "stores values in their own types"},
                    ForeignArithmetic{{f32, f16, f32, Rounding::NearestEven}, "computes in the types of the values"},
                    ForeignArithmetic{{f32, f32, f16, Rounding::NearestEven}, "accumulates in f32 or wider"}));

} // namespace
