// Functions found in expressions, and what vertices with them take.
#include "target/ipu/KnownFunctions.h"
#include "target/ipu/TestProgram.h"
#include "target/ipu/VertexCycles.h"
#include "target/ipu/Vertices.h"

#include "machine/Machine.h"
#include "numerics/Convert.h"

#include <bit>
#include <cmath>

namespace quadrille::ipu {
namespace {

constexpr auto f32 = ElementType::f32;

struct Writer {
  BlockExpression expression;
  Register op(BlockOpcode opcode, llvm::ArrayRef<Register> operands) {
    return expression.append(opcode, f32, operands);
  }
  Register constant(float value) {
    return expression.append(BlockOpcode::Constant, f32, {}, std::bit_cast<uint32_t>(value));
  }
};

// In the order that PyTorch's exporters write: x * (erf(x / sqrt 2) + 1) * half.
BlockExpression gelu(float half, bool showsErf = false) {
  Writer w;
  w.expression.inputs = {f32, f32};
  Register x = w.op(BlockOpcode::Input, {}), bias = w.expression.append(BlockOpcode::Input, f32, {}, 1);
  Register biased = w.op(BlockOpcode::Add, {x, bias});
  Register erf = w.op(BlockOpcode::Erf, {w.op(BlockOpcode::Divide, {biased, w.constant(std::sqrt(2.0F))})});
  Register one = w.op(BlockOpcode::Add, {erf, w.constant(1)});
  Register twice = w.op(BlockOpcode::Multiply, {biased, one});
  w.expression.results = {w.op(BlockOpcode::Multiply, {twice, w.constant(half)})};
  if (showsErf)
    w.expression.results.push_back(erf);
  return w.expression;
}

BlockExpression geluWithTanh() {
  Writer w;
  w.expression.inputs = {f32};
  Register x = w.op(BlockOpcode::Input, {});
  Register cube = w.op(BlockOpcode::Multiply, {w.op(BlockOpcode::Multiply, {x, x}), x});
  Register inner = w.op(BlockOpcode::MultiplyAdd, {cube, w.constant(0.044715F), x});
  Register tanh = w.op(BlockOpcode::Tanh, {w.op(BlockOpcode::Multiply, {inner, w.constant(0.7978846F)})});
  Register half = w.op(BlockOpcode::Multiply, {x, w.constant(0.5F)});
  w.expression.results = {w.op(BlockOpcode::Multiply, {half, w.op(BlockOpcode::Add, {tanh, w.constant(1)})})};
  return w.expression;
}

TEST(IpuKnownFunctions, geluHoweverItIsWritten) {
  auto found = knownFunctions(gelu(0.5F));
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].name, KnownFunction::Name::GeluErf);
  // Divide, erf, add and two products; neither the bias's addition nor constants.
  EXPECT_EQ(std::count(found[0].operations.begin(), found[0].operations.end(), true), 5);
  found = knownFunctions(geluWithTanh());
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].name, KnownFunction::Name::GeluTanh);
  EXPECT_EQ(std::count(found[0].operations.begin(), found[0].operations.end(), true), 8);
  EXPECT_TRUE(knownFunctions(gelu(0.45F)).empty());
  EXPECT_TRUE(knownFunctions(gelu(0.5F, true)).empty()); // what is within is a result too
}

int64_t cyclesOfMap(const BlockExpression &expression, int64_t count) {
  auto machine = llvm::cantFail(machine::Machine::load("gc200"));
  Vertex vertex{static_cast<uint16_t>(Codelet::Map), {TileRange{0, 1, 1}}, {{0}, {count}}};
  std::vector<int64_t> in, out;
  for (size_t i = 0; i < expression.inputs.size(); ++i)
    in.push_back(static_cast<int64_t>(65536 + i * 8192));
  for (size_t i = 0; i < expression.results.size(); ++i)
    out.push_back(static_cast<int64_t>(131072 + i * 8192));
  vertex.values.insert(vertex.values.end(),
                       {in, std::vector<int64_t>(in.size(), 1), out, std::vector<int64_t>(out.size(), 1)});
  EXPECT_EQ(parameterProblem(vertex, {expression}), "");
  return cyclesOf(vertex, {expression}, CycleModel(machine));
}

// 96 elements are 16 for each of six workers. What begins is that of an addition: 329 cycles for 96 elements (the
// reference's table) less its loop, 8 vectors of 3 cycles (1 and 2 for the loop) of 6 workers: 329 - 144 = 185.
TEST(IpuKnownFunctions, takeTheirOwnLoop) {
  // The bias's addition, and 22 cycles for each element.
  EXPECT_EQ(cyclesOfMap(gelu(0.5F), 96), 185 + 6 * (8 * 3 + 16 * 22));
  // 10 cycles for each vector of two, and 10 more for the first one.
  EXPECT_EQ(cyclesOfMap(geluWithTanh(), 96), 185 + 6 * (9 * 10));
  // Erf alone takes 41 an element.
  EXPECT_GT(cyclesOfMap(gelu(0.45F), 96), 185 + 6 * (8 * 3 + 16 * 41));
}

} // namespace
} // namespace quadrille::ipu
