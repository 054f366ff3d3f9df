// Structured kernels against a point-by-point walk over the nest in doubles, written here independently.
#include "target/host/Evaluate.h"
#include "target/host/GraphBuilder.h"

#include "base/Parallel.h"
#include "numerics/BlockEvaluator.h"

#include "llvm/ADT/STLExtras.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

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

double combined(Combiner combiner, double a, double b) {
  switch (combiner) {
  case Combiner::None:
    return b;
  case Combiner::Sum:
    return a + b;
  case Combiner::Product:
    return a * b;
  case Combiner::Minimum:
    return std::isnan(a) || std::isnan(b) ? NAN : std::min(a, b);
  case Combiner::Maximum:
    return std::isnan(a) || std::isnan(b) ? NAN : std::max(a, b);
  case Combiner::MinimumNumber:
    return std::fmin(a, b);
  case Combiner::MaximumNumber:
    return std::fmax(a, b);
  case Combiner::And:
    return static_cast<double>(static_cast<int64_t>(a) & static_cast<int64_t>(b));
  case Combiner::Or:
    return static_cast<double>(static_cast<int64_t>(a) | static_cast<int64_t>(b));
  case Combiner::Xor:
    return static_cast<double>(static_cast<int64_t>(a) ^ static_cast<int64_t>(b));
  }
  return 0;
}

Combine combineOf(Combiner combiner) {
  return static_cast<Combine>(static_cast<int>(combiner) - 1);
}

using Body = std::function<double(llvm::ArrayRef<double>)>;

// One write; every point of the nest in order, all in doubles.
std::vector<double> walk(const KernelGraph &graph, const Kernel &kernel, llvm::ArrayRef<Tensor> operands,
                         const Body &body) {
  const Write &write = kernel.writes[0];
  auto offsetOf = [&](const Value &value, const AccessMap &map,
                      llvm::ArrayRef<int64_t> point) -> std::optional<int64_t> {
    int64_t offset = 0;
    for (auto [d, access] : llvm::enumerate(map)) {
      int64_t index = access.offset;
      for (auto [loop, coefficient] : access.terms)
        index += coefficient * point[loop];
      if (index < 0 || index >= value.shape[d])
        return std::nullopt;
      offset = offset * value.shape[d] + index;
    }
    return offset;
  };
  std::vector<std::vector<double>> data;
  for (const Tensor &operand : operands)
    data.push_back(doubles(operand));
  std::vector<double> result(static_cast<size_t>(elementCount(graph.values[write.value].shape)));
  std::vector<bool> started(result.size());
  int64_t points = 1;
  for (const Loop &loop : kernel.loops)
    points *= loop.extent;
  std::vector<int64_t> point(kernel.loops.size());
  for (int64_t p = 0; p < points; ++p) {
    int64_t rest = p;
    for (size_t l = point.size(); l-- > 0;) {
      point[l] = rest % kernel.loops[l].extent;
      rest /= kernel.loops[l].extent;
    }
    std::vector<double> read;
    for (auto [r, access] : llvm::enumerate(kernel.reads)) {
      std::optional<int64_t> offset = offsetOf(graph.values[access.value], access.map, point);
      read.push_back(offset ? data[r][*offset] : doubleFromBits(access.padding->type, access.padding->bits));
    }
    size_t at = static_cast<size_t>(*offsetOf(graph.values[write.value], write.map, point));
    if (!started[at] && write.combiner != Combiner::None && write.initialScalar)
      result[at] = doubleFromBits(write.initialScalar->type, write.initialScalar->bits);
    result[at] = started[at] || write.initialScalar ? combined(write.combiner, result[at], body(read)) : body(read);
    started[at] = true;
  }
  return result;
}

Kernel &identityBody(Kernel &kernel, ElementType type) {
  kernel.body.inputs = {type};
  kernel.body.results = {kernel.body.append(BlockOpcode::Input, type, {}, 0)};
  return kernel;
}

void expectNear(llvm::ArrayRef<double> actual, llvm::ArrayRef<double> expected, double relative, double absolute = 0) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::isnan(expected[i])) {
      ASSERT_TRUE(std::isnan(actual[i])) << "element " << i;
      continue;
    }
    if (actual[i] != expected[i])
      ASSERT_NEAR(actual[i], expected[i], std::abs(expected[i]) * relative + absolute) << "element " << i;
  }
}

TEST(Structured, AddsWithBroadcast) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {2, 3}), bias = b.input("bias", ElementType::f32, {3});
  ValueId y = b.value("y", ElementType::f32, {2, 3});
  Kernel &k = b.kernel(KernelKind::Map, "add");
  k.loops = {{2}, {3}};
  k.reads = {{x, loopsMap({0, 1}), {}}, {bias, loopsMap({1}), {}}};
  k.writes = {{y, loopsMap({0, 1}), Combiner::None, {}, {}}};
  k.body.inputs = {ElementType::f32, ElementType::f32};
  Register p = k.body.append(BlockOpcode::Input, ElementType::f32, {}, 0);
  Register q = k.body.append(BlockOpcode::Input, ElementType::f32, {}, 1);
  k.body.results = {k.body.append(BlockOpcode::Add, ElementType::f32, {p, q})};
  b.output(y);
  auto out = run(b.graph, {Tensor::of<float>(ElementType::f32, {2, 3}, {1, 2, 3, 4, 5, 6}),
                           Tensor::of<float>(ElementType::f32, {3}, {10, 20, 30})});
  EXPECT_THAT(doubles(out[0]), ElementsAre(11, 22, 33, 14, 25, 36));
}

TEST(Structured, ReadsTransposed) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::i32, {2, 3, 70}), y = b.value("y", ElementType::i32, {70, 2, 3});
  Kernel &k = identityBody(b.kernel(KernelKind::Move, "transpose"), ElementType::i32);
  k.loops = {{70}, {2}, {3}};
  k.reads = {{x, loopsMap({1, 2, 0}), {}}};
  k.writes = {{y, loopsMap({0, 1, 2}), Combiner::None, {}, {}}};
  b.output(y);
  Tensor in = randomTensor(ElementType::i32, {2, 3, 70}, 1);
  auto out = run(b.graph, {in});
  for (int i = 0; i < 70; ++i)
    for (int j = 0; j < 6; ++j)
      ASSERT_EQ(out[0].data<int32_t>()[i * 6 + j], in.data<int32_t>()[j * 70 + i]);
}

TEST(Structured, MaxPoolsWithMinusInfinityOutside) {
  // max over 3x3 windows of stride 2 and padding 1 of [[1,-2,3],[-4,5,-6],[7,-8,9]]: corners see 2x2.
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {1, 1, 3, 3}), y = b.value("y", ElementType::f32, {1, 1, 2, 2});
  Kernel &k = identityBody(b.kernel(KernelKind::Window, "max_pool"), ElementType::f32);
  k.loops = {{1}, {1}, {2}, {2}, {3, true}, {3, true}};
  k.reads = {{x,
              {{0, {{0, 1}}}, {0, {{1, 1}}}, {-1, {{2, 2}, {4, 1}}}, {-1, {{3, 2}, {5, 1}}}},
              scalarOf(ElementType::f32, -INFINITY)}};
  k.writes = {{y, loopsMap({0, 1, 2, 3}), Combiner::Maximum, scalarOf(ElementType::f32, -INFINITY), {}}};
  b.output(y);
  auto out = run(b.graph, {Tensor::of<float>(ElementType::f32, {1, 1, 3, 3}, {1, -2, 3, -4, 5, -6, 7, -8, 9})});
  EXPECT_THAT(doubles(out[0]), ElementsAre(5, 5, 7, 9));
}

TEST(Structured, LoopIndexIsTheLoopsValue) {
  GraphBuilder b;
  ValueId y = b.value("y", ElementType::i64, {3, 200});
  Kernel &k = b.kernel(KernelKind::Map, "iota");
  k.loops = {{3}, {200}};
  k.writes = {{y, loopsMap({0, 1}), Combiner::None, {}, {}}};
  Register i = k.body.append(BlockOpcode::LoopIndex, ElementType::i64, {}, 0);
  Register j = k.body.append(BlockOpcode::LoopIndex, ElementType::i64, {}, 1);
  Register c = k.body.append(BlockOpcode::Constant, ElementType::i64, {}, 1000);
  Register m = k.body.append(BlockOpcode::Multiply, ElementType::i64, {i, c});
  k.body.results = {k.body.append(BlockOpcode::Add, ElementType::i64, {m, j})};
  b.output(y);
  auto out = run(b.graph, {});
  for (int64_t p = 0; p < 600; ++p)
    ASSERT_EQ(out[0].data<int64_t>()[p], p / 200 * 1000 + p % 200);
}

TEST(Structured, ReductionOfNothingIsTheStart) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {2, 0}), y = b.value("y", ElementType::f32, {2});
  Kernel &k = identityBody(b.kernel(KernelKind::Reduce, "sum"), ElementType::f32);
  k.loops = {{2}, {0, true}};
  k.reads = {{x, loopsMap({0, 1}), {}}};
  k.writes = {{y, loopsMap({0}), Combiner::Sum, scalarOf(ElementType::f32, 7), {}}};
  b.output(y);
  auto out = run(b.graph, {Tensor::zeros(ElementType::f32, {2, 0})});
  EXPECT_THAT(doubles(out[0]), ElementsAre(7, 7));
}

TEST(Structured, SumsAreRoundedOnce) {
  // 1 + 4096 * 2^-24 is 1 + 2^-12; added one by one in f32 the small terms would all be lost.
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {4097}), y = b.value("y", ElementType::f32, {});
  Kernel &k = identityBody(b.kernel(KernelKind::Reduce, "sum"), ElementType::f32);
  k.loops = {{4097, true}};
  k.reads = {{x, loopsMap({0}), {}}};
  k.writes = {{y, {}, Combiner::Sum, scalarOf(ElementType::f32, 0), {}}};
  b.output(y);
  Tensor in = Tensor::zeros(ElementType::f32, {4097});
  std::fill_n(in.mutableData<float>(), 4097, std::ldexp(1.0f, -24));
  in.mutableData<float>()[0] = 1;
  EXPECT_EQ(run(b.graph, {in})[0].data<float>()[0], 1 + std::ldexp(1.0f, -12));
}

struct ReduceCase {
  ElementType type;
  Combiner combiner;
};

class Combiners : public testing::TestWithParam<ReduceCase> {};

TEST_P(Combiners, MatchesTheWalkInEveryForm) {
  auto [type, combiner] = GetParam();
  // Shapes that take the column form, the row form, the split row form, and windows; reduced axes as a mask.
  struct Form {
    Shape shape;
    unsigned reduced;
  } forms[] = {{{7, 5}, 0b10},       {{5, 7}, 0b01},         {{3, 700, 2}, 0b010}, {{2, 70000}, 0b10},
               {{100, 9, 3}, 0b001}, {{4, 3, 5, 6}, 0b1010}, {{64}, 0b1},          {{9, 130}, 0b11}};
  for (auto [f, form] : llvm::enumerate(forms)) {
    if (combiner == Combiner::Product && elementCount(form.shape) > 2000)
      continue; // underflows
    GraphBuilder b;
    ValueId x = b.input("x", type, form.shape);
    Shape result;
    AccessMap in, out;
    std::vector<Loop> loops;
    for (auto [d, extent] : llvm::enumerate(form.shape)) {
      bool reduced = form.reduced >> d & 1;
      loops.push_back({extent, reduced});
      in.push_back({0, {{static_cast<unsigned>(d), 1}}});
      if (!reduced) {
        out.push_back(in.back());
        result.push_back(extent);
      }
    }
    ValueId y = b.value("y", type, result);
    Kernel &k = identityBody(b.kernel(KernelKind::Reduce, "reduce"), type);
    k.loops = loops;
    k.reads = {{x, in, {}}};
    k.writes = {{y, out, combiner, {}, {}}};
    k.writes[0].initialScalar =
        combiner == Combiner::Sum ? scalarOf(type, 1) : Scalar{type, neutralBits(combineOf(combiner), type)};
    k.numeric = defaultNumeric(b.graph, k);
    b.output(y);
    Tensor data = randomTensor(type, form.shape, static_cast<uint32_t>(17 + f));
    if (!isFloat(type)) // small enough that sums and products do not wrap, which the walk in doubles cannot
      for (int64_t i = 0; i < data.elements(); ++i)
        if (type == ElementType::i32)
          data.mutableData<int32_t>()[i] =
              combiner == Combiner::Product ? 1 + (i % 97 == 0) : data.data<int32_t>()[i] % 1000;
    std::vector<double> expected = walk(b.graph, k, {data}, [](llvm::ArrayRef<double> read) { return read[0]; });
    for (unsigned threads : {1u, 2u}) {
      setThreadCount(threads);
      auto actual = run(b.graph, {data});
      // One rounding to the type, and the walk's own in f64.
      double ulp = type == ElementType::f32   ? 0x1p-23
                   : type == ElementType::f16 ? 0x1p-10
                   : type == ElementType::f64 ? 1e-12
                                              : 0;
      expectNear(doubles(actual[0]), expected, ulp, combiner == Combiner::Sum && ulp > 0 ? 1e-9 : 0);
    }
    setThreadCount(0);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Combiners,
    testing::Values(ReduceCase{ElementType::f32, Combiner::Sum}, ReduceCase{ElementType::f64, Combiner::Sum},
                    ReduceCase{ElementType::f16, Combiner::Maximum}, ReduceCase{ElementType::i32, Combiner::Sum},
                    ReduceCase{ElementType::i32, Combiner::Product}, ReduceCase{ElementType::f32, Combiner::Product},
                    ReduceCase{ElementType::f32, Combiner::Minimum}, ReduceCase{ElementType::f32, Combiner::Maximum},
                    ReduceCase{ElementType::f32, Combiner::MinimumNumber},
                    ReduceCase{ElementType::f32, Combiner::MaximumNumber},
                    ReduceCase{ElementType::u8, Combiner::Maximum}, ReduceCase{ElementType::u8, Combiner::And},
                    ReduceCase{ElementType::i32, Combiner::Or}, ReduceCase{ElementType::i32, Combiner::Xor}));

TEST(Structured, NanPropagatesOrNot) {
  for (auto [combiner, expected] : {std::pair(Combiner::Maximum, NAN), std::pair(Combiner::MaximumNumber, 2.0f)}) {
    GraphBuilder b;
    ValueId x = b.input("x", ElementType::f32, {3}), y = b.value("y", ElementType::f32, {});
    Kernel &k = identityBody(b.kernel(KernelKind::Reduce, "max"), ElementType::f32);
    k.loops = {{3, true}};
    k.reads = {{x, loopsMap({0}), {}}};
    k.writes = {{y, {}, combiner, Scalar{ElementType::f32, neutralBits(combineOf(combiner), ElementType::f32)}, {}}};
    b.output(y);
    float result = run(b.graph, {Tensor::of<float>(ElementType::f32, {3}, {1, NAN, 2})})[0].data<float>()[0];
    EXPECT_TRUE(std::isnan(expected) ? std::isnan(result) : result == expected) << result;
  }
}

// Random nests with windows, strides, dilations, negative steps and padding: maps and reductions alike.
TEST(Structured, RandomNestsMatchTheWalk) {
  std::mt19937 random(5);
  auto pick = [&](int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(random); };
  for (int trial = 0; trial < 300; ++trial) {
    GraphBuilder b;
    unsigned loopCount = static_cast<unsigned>(pick(1, 5));
    std::vector<Loop> loops;
    for (unsigned l = 0; l < loopCount; ++l)
      loops.push_back({pick(1, trial % 3 == 0 ? 12 : 6), l > 0 && pick(0, 2) == 0});
    bool reduces = llvm::any_of(loops, [](const Loop &loop) { return loop.reduction; });
    std::vector<unsigned> order;
    for (unsigned l = 0; l < loopCount; ++l)
      if (!loops[l].reduction)
        order.push_back(l);
    std::shuffle(order.begin(), order.end(), random);
    Shape shape;
    AccessMap map;
    for (unsigned l : order) {
      shape.push_back(loops[l].extent);
      map.push_back({0, {{l, 1}}});
    }
    std::vector<Read> reads;
    std::vector<Tensor> data;
    for (int r = 0; r < 2; ++r) {
      Read read;
      Shape extents;
      for (unsigned d = 0, rank = static_cast<unsigned>(pick(0, 3)); d < rank; ++d) {
        DimensionAccess access;
        access.offset = pick(-2, 2);
        for (unsigned l = 0; l < loopCount; ++l)
          if (pick(0, 1))
            access.terms.push_back({l, pick(0, 3) == 0 ? -pick(1, 2) : pick(1, 3)});
        read.map.push_back(access);
        extents.push_back(pick(1, 20));
      }
      read.value = b.input("x" + std::to_string(r), ElementType::i32, extents);
      read.padding = scalarOf(ElementType::i32, 100);
      data.push_back(randomTensor(ElementType::i32, extents, static_cast<uint32_t>(trial * 2 + r)));
      for (int64_t i = 0; i < data.back().elements(); ++i)
        data.back().mutableData<int32_t>()[i] %= 50;
      reads.push_back(read);
    }
    ValueId y = b.value("y", ElementType::i32, shape);
    Kernel &k = b.kernel(KernelKind::Other, "nest");
    k.loops = loops;
    k.reads = reads;
    k.writes = {{y, map, reduces ? Combiner::Sum : Combiner::None, {}, {}}};
    if (reduces)
      k.writes[0].initialScalar = scalarOf(ElementType::i32, 0);
    k.body.inputs = {ElementType::i32, ElementType::i32};
    Register p = k.body.append(BlockOpcode::Input, ElementType::i32, {}, 0);
    Register q = k.body.append(BlockOpcode::Input, ElementType::i32, {}, 1);
    k.body.results = {k.body.append(BlockOpcode::Subtract, ElementType::i32, {p, q})};
    b.output(y);
    std::vector<double> expected =
        walk(b.graph, k, data, [](llvm::ArrayRef<double> read) { return read[0] - read[1]; });
    auto actual = run(b.graph, data);
    ASSERT_EQ(actual.size(), 1u);
    ASSERT_EQ(doubles(actual[0]), expected) << "trial " << trial << "\n" << b.graph.print();
  }
}

TEST(Evaluate, RefusesWrongInputsAndAbsentWeights) {
  GraphBuilder b;
  ValueId x = b.input("x", ElementType::f32, {2});
  b.output(x);
  auto wrongType = evaluate(b.graph, {Tensor::zeros(ElementType::f64, {2})});
  ASSERT_FALSE(static_cast<bool>(wrongType));
  EXPECT_EQ(llvm::toString(wrongType.takeError()), "input 'x' must be f32[2], f64[2] was given");
  auto none = evaluate(b.graph, {});
  ASSERT_FALSE(static_cast<bool>(none));
  llvm::consumeError(none.takeError());

  GraphBuilder absent;
  ValueId w = absent.value("w", ElementType::f32, {2}, ValueRole::Constant);
  ValueId y = absent.value("y", ElementType::f32, {1, 2});
  absent.plain("reshape", {w}, {y});
  absent.output(y);
  auto result = evaluate(absent.graph, {});
  ASSERT_FALSE(static_cast<bool>(result));
  EXPECT_EQ(llvm::toString(result.takeError()),
            "weights of 'w' are missing; plan and estimate work, execution does not");
}

} // namespace
